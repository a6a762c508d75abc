"""The steps of `check`, cheapest first, and the win rate they estimate."""
