"""Search: a step function in, tokens out; imports no model."""
