"""From rated dialogues to the rows that a small model is trained on."""

from empathy_edge.callable_package import make_callable

make_callable(__name__)
