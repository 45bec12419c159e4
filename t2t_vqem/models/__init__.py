"""Registered models: their loss and their inference."""
