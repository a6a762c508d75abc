"""Artifacts for LiteRT-LM (`.litertlm`)."""
