"""Open a scorer of either kind from its file."""

from __future__ import annotations

from pathlib import Path

from empathy_edge.judging import scorer, tuned
from empathy_edge.judging.base_scorer import FORMAT_TUNED, BaseScorer
from empathy_edge.system.files import read_json


def open_scorer(file: Path) -> BaseScorer:
    """Read a scorer that `score train` or `score tune` wrote.

    Raises:
        EmpathyEdgeError: another format, parts that do not fit, or another embedding or language model than
            it was trained with.
    """
    content = read_json(file)
    if isinstance(content, dict) and content.get("format") == FORMAT_TUNED:
        return tuned.load(file, content)
    return scorer.load(file, content)
