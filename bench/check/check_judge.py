"""The judge of a baseline, at the time of a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord, ReferenceReply
from empathy_edge.bench.check.certificate import open_judge
from empathy_edge.bench.check.steps.faults import JudgeError, is_of_a_runtime, is_out_of_memory
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.raters.likelihood_rater import SHIPPED_JUDGES
from empathy_edge.judging.raters.rater import Rater, ToRate, better_reply
from empathy_edge.judging.raters.sheet_rater import RatingsMissing
from empathy_edge.llm.api_settings import ApiSettings


@dataclass(frozen=True)
class Compared:
    """Replies of an artifact beside those of its reference.

    Attributes:
        record: the prompt.
        answers: the artifact's replies.
        theirs: the reference's, with their ratings.
    """

    record: PromptRecord
    answers: Sequence[str]
    theirs: Sequence[ReferenceReply]

    @property
    def is_settled(self) -> bool:
        """Whether all replies are the same text."""
        return len({*self.answers, *(reply.text for reply in self.theirs)}) == 1

    def to_rate(self, rater: Rater) -> ToRate:
        """What the judge must rate: the reference's replies again, where ratings of two calls differ."""
        again = [reply.text for reply in self.theirs] if rater.together else []
        return ToRate(list(self.record.messages), [*self.answers, *again])

    def points(self, ratings: Sequence[float]) -> float:
        """The artifact's mean points against each of the reference's replies."""
        theirs = ratings[len(self.answers) :] or [reply.rating for reply in self.theirs]
        won: list[float] = []
        for answer, rating in zip(self.answers, ratings, strict=False):
            for reply, other in zip(self.theirs, theirs, strict=True):
                won.append(better_reply((answer, rating), (reply.text, other)))
        return sum(won) / len(won)


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

    @property
    def block(self) -> int:
        """How many prompts are rated between two looks at the evidence.

        Raises:
            JudgeError: it cannot be opened, or is another one.
        """
        return self._open().block

    def points(self, prompts: Sequence[Compared]) -> list[float]:
        """The artifact's mean points (0 to 1) on each prompt; the same text is equally good.

        Raises:
            JudgeError: it cannot be opened, is another one, or fails.
            RatingsMissing: people have to rate first.
        """
        rater = self._open()
        asked = [item for item in prompts if not item.is_settled]
        try:
            ratings = rater.rate_many([item.to_rate(rater) for item in asked])
        except RatingsMissing:
            raise
        except Exception as error:
            if not _is_of_the_judge(error):
                raise
            raise JudgeError(self.spec, error, cannot_start=False) from error
        found = {id(item): item.points(given) for item, given in zip(asked, ratings, strict=True)}
        return [found.get(id(item), 0.5) for item in prompts]

    def _open(self) -> Rater:
        try:
            return self._opened_once()
        except Exception as error:
            if not _is_of_the_judge(error):
                raise
            raise JudgeError(self.spec, error, cannot_start=True) from error

    def _opened_once(self) -> Rater:
        if self._opened is None:
            rater = open_judge(self.spec, self._api)
            if rater.identity != self._baseline.judge.identity:
                rater.close()
                raise EmpathyEdgeError(
                    f"{self.spec}: is not the judge that rated the baseline. Make the baseline again with "
                    "this judge, or use the same version of empathy-edge."
                )
            self._opened = rater
        return self._opened

    def close(self) -> None:
        """Free the memory."""
        if self._opened is not None:
            self._opened.close()


def _is_of_the_judge(error: Exception) -> bool:
    """Whether an error is the judge's; others are bugs of ours."""
    return is_of_a_runtime(error) or is_out_of_memory(error)
