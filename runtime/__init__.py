"""Classify a strip line by line. Imports neither torch nor the training code."""
