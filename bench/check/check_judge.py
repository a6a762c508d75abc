"""The judge of a baseline, at the time of a check."""

from __future__ import annotations

from empathy_edge.bench.check.baseline import Baseline, PromptRecord
from empathy_edge.bench.check.raters import SHIPPED_JUDGES, Rater, open_rater
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message


class JudgeError(Exception):
    """The judge cannot rate: that says nothing of the artifact."""


class CheckJudge:
    """The baseline's judge, opened when its first rating is needed.

    A baseline of unknown origin may name any model: only shipped ones, and the one that the user names, are
    opened.

    Attributes:
        spec: the judge's name on this machine.
        may_be_opened: whether it is a shipped one, or named by the user.
    """

    def __init__(self, baseline: Baseline, named: str | None) -> None:
        self._baseline = baseline
        self.spec = named or baseline.judge.name
        self.may_be_opened = named is not None or baseline.judge.name in SHIPPED_JUDGES
        self._opened: Rater | None = None

    def rate(self, record: PromptRecord, reply: str) -> float:
        """Its rating of a reply to a prompt.

        Raises:
            JudgeError: it cannot be opened, is another one, or fails.
        """
        conversation: list[Message] = list(record.messages)
        try:
            return self._open().rate(conversation, [reply])[0]
        except EmpathyEdgeError as error:
            raise JudgeError(str(error)) from error

    def _open(self) -> Rater:
        if self._opened is None:
            self._opened = open_rater(self.spec)
            if self._opened.identity != self._baseline.judge.identity:
                raise EmpathyEdgeError(
                    f"{self.spec}: is not the judge that rated the baseline. Make the baseline again with "
                    "this judge, or use the same version of empathy-edge."
                )
        return self._opened

    def close(self) -> None:
        """Free the memory."""
        if self._opened is not None:
            self._opened.close()
