"""Accuracy that stands up: models on the same splits, over seeds, with intervals."""
