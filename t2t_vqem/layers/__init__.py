"""Keras layers with plain arguments."""
