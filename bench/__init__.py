"""Measure artifacts: latency and memory here and on phones, release and check, and the report of a run."""

from empathy_edge.callable_package import make_callable

make_callable(__name__)
