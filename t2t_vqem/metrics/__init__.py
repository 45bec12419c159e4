"""Measures of what a model produces."""
