"""Empathy Edge: empathetic small language models for phones, from distillation to the check."""

__version__ = "0.1.0"
