"""A run: its recipe, its stages and their folders."""
