"""What runs the model's step: one file an engine."""

from hyperline.runtime.engines.engine import ENGINES, Engine, Outputs, engines_from, load_engine, self_test

__all__ = ["ENGINES", "Engine", "Outputs", "engines_from", "load_engine", "self_test"]
