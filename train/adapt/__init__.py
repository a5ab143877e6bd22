"""Adapting a trained network to new classes or a new flight while its answers on the old scene hold."""
