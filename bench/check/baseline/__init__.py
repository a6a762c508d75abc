"""A baseline: the reference's replies with log-probabilities, ratings and hashes, in one file."""
