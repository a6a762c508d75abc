"""The terminal chat: talk to any artifact, and see what it costs."""

from empathy_edge.callable_package import make_callable

make_callable(__name__)
