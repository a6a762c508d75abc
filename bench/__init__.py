"""Measure artifacts: latency and memory here and on phones, release and check, and the report of a run."""
