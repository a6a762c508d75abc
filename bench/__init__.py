"""Measure artifacts: latency and memory here and on phones, the gate, and the report of a run."""
