"""Checkpoints as GGUF: what is written (families, vocabulary, writer), and in how many bits (the rest)."""
