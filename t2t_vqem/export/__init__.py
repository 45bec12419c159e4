"""Makes and verifies exported models."""
