"""Optimiser, step, loop, checkpoints and evaluation; knows no concrete model."""
