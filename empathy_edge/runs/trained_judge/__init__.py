"""Train a judge for `check`, which runs offline."""
