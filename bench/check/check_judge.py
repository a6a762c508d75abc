"""The judge of a baseline, at the time of a check."""

from __future__ import annotations

from collections.abc import Sequence

from empathy_edge.bench.check.baseline import Baseline, PromptRecord, ReferenceReply
from empathy_edge.bench.check.raters import SHIPPED_JUDGES, Rater, ToRate, better, open_rater
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.api_settings import ApiSettings


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

    def __init__(self, baseline: Baseline, named: str | None, api: ApiSettings) -> None:
        self._baseline = baseline
        self._api = api
        self.spec = named or baseline.judge.name
        self.may_be_opened = named is not None or baseline.judge.name in SHIPPED_JUDGES
        self._opened: Rater | None = None

    def points(self, record: PromptRecord, answers: Sequence[str], theirs: Sequence[ReferenceReply]) -> float:
        """The artifact's mean points (0 to 1) against the reference's replies; the same text is equally good.

        Raises:
            JudgeError: it cannot be opened, is another one, or fails.
        """
        won: list[float] = []
        ratings, of_theirs = self._ratings(record, answers, theirs)
        for answer, rating in zip(answers, ratings, strict=True):
            for reply, other in zip(theirs, of_theirs, strict=True):
                won.append(0.5 if reply.text == answer else better(rating, other))
        return sum(won) / len(won)

    def _ratings(
        self, record: PromptRecord, answers: Sequence[str], theirs: Sequence[ReferenceReply]
    ) -> tuple[list[float], list[float]]:
        known = {reply.text for reply in theirs}
        if known.issuperset(answers) and len(known) == 1:
            return [0.0] * len(answers), [0.0] * len(theirs)
        try:
            rater = self._open()
            texts = [*answers, *(reply.text for reply in theirs)] if rater.together else list(answers)
            (ratings,) = rater.rate_many([ToRate(list(record.messages), texts)])
        except (EmpathyEdgeError, RuntimeError) as error:
            raise JudgeError(str(error)) from error
        of_theirs = ratings[len(answers) :] if rater.together else [reply.rating for reply in theirs]
        return ratings[: len(answers)], of_theirs

    def _open(self) -> Rater:
        if self._opened is None:
            self._opened = open_rater(self.spec, self._api)
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
