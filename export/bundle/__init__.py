"""Bundles for app developers: a folder (or zip) with a model, its licence, its origin, and how to run it."""
