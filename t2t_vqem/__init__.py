"""Sequence models with vector quantised latents, learned by expectation maximisation."""

__version__ = "0.1.0"
