"""Records, vocabulary, batch plan and sources of text. Imports no TensorFlow."""
