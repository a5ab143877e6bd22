"""How fast a bundle is here, how much it takes, and where that goes."""

from hyperline.runtime.bench.comparison import Side, compare
from hyperline.runtime.bench.report import Bench, Comparison, json_schema
from hyperline.runtime.bench.steps import stepper, take_turns
from hyperline.runtime.bench.sweep import Plan, run_bench

__all__ = ["Bench", "Comparison", "Plan", "Side", "compare", "json_schema", "run_bench", "stepper", "take_turns"]
