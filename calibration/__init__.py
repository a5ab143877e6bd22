"""Numeric precision: FP16 and INT8 within an accuracy budget."""
