"""Empathy Edge: the road from an empathetic large model to a small one that runs on a phone."""

__version__ = "0.1.0"
