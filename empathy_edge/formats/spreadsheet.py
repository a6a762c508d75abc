"""Text in CSV files that people open in a spreadsheet."""

from __future__ import annotations


def without_formula(text: str) -> str:
    """A spreadsheet would run a cell that begins like a formula; an apostrophe before it prevents that."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
