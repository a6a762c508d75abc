"""Two arms' responses to the same prompts, compared by a judge in both orders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.bench.release.responses import Answers
from empathy_edge.bench.release.results import BASE, FULL
from empathy_edge.judging.certificate import Certification
from empathy_edge.judging.compare import ask, judgeable
from empathy_edge.judging.learned_judge import LearnedJudge, verdict_of_probability
from empathy_edge.judging.pairwise_judges import Judge
from empathy_edge.judging.verdicts import POINTS, SWAPPED


@dataclass(frozen=True)
class ChosenJudge:
    """A judge that was chosen instead of the one that learns from the run's own pairs.

    Attributes:
        judge: who compares.
        certification: whether it is certified for the question; without one, it is not.
        question: what it is asked (prompts/judge.yaml).
    """

    judge: Judge
    certification: Certification | None
    question: str = "overall"


@dataclass(frozen=True)
class JudgedPrompt:
    """Two arms' responses to one prompt, judged in both orders.

    Attributes:
        id: the dialogue's.
        emotion: the dialogue's.
        first: the first arm.
        second: the second arm.
        verdicts: with the first arm's response shown first, and with it shown second. Each says which arm
            wins: first, second, tie or unparsed.
    """

    id: str
    emotion: str
    first: str
    second: str
    verdicts: tuple[str, str]

    @property
    def points(self) -> float:
        """The first arm's share over both orders, 0 to 1; an answer that could not be read counts half."""
        return sum(POINTS.get(verdict, 0.5) for verdict in self.verdicts) / 2

    @property
    def flips(self) -> bool:
        """Whether the judge gave the same answer in both orders, so that another arm wins in each.

        Two answers that could not be read count, too.
        """
        in_order, swapped = self.verdicts
        return "tie" not in self.verdicts and in_order == SWAPPED[swapped]

    def as_row(self) -> dict[str, object]:
        """The line of `verdicts.jsonl`.

        There, each verdict is as the judge gave it: `first` is the response that was shown first.
        """
        in_order, swapped = self.verdicts
        return {
            "id": self.id,
            "emotion": self.emotion,
            "first": self.first,
            "second": self.second,
            "verdicts": [in_order, SWAPPED[swapped]],
            "points": self.points,
        }


def comparisons_of(arms: Iterable[str]) -> list[tuple[str, str]]:
    """Which arms are compared: the fine-tuned model with each of the others."""
    return [(FULL, arm) for arm in arms if arm != FULL]


def judge_by_learned(
    judge: LearnedJudge, answers: Answers, comparisons: Sequence[tuple[str, str]]
) -> list[JudgedPrompt]:
    """The verdicts of the judge that learned from the run's own pairs, on all comparisons."""
    judged = []
    for first, second in comparisons:
        pairs = answers.pairs(first, second)
        for dialogue in answers.dialogues:
            texts = pairs.first[dialogue.id]["text"], pairs.second[dialogue.id]["text"]
            verdicts = _verdicts_of_learned(judge, dialogue.utterance, *texts)
            judged.append(JudgedPrompt(dialogue.id, dialogue.emotion, first, second, verdicts))
    return judged


def _verdicts_of_learned(judge: LearnedJudge, utterance: str, first: str, second: str) -> tuple[str, str]:
    """Which of two responses wins, in both orders."""
    in_order = verdict_of_probability(judge.prefer(utterance, first, second))
    swapped = verdict_of_probability(judge.prefer(utterance, second, first))
    return in_order, SWAPPED[swapped]


def judge_by_chosen(
    chosen: ChosenJudge, answers: Answers, comparisons: Sequence[tuple[str, str]], folder: Path
) -> list[JudgedPrompt]:
    """The verdicts of any other judge on all comparisons.

    Each verdict is stored in `folder`, so that nothing is asked twice. A file of verdicts may be about some
    of the dialogues only; then these are compared.
    """
    folder.mkdir(exist_ok=True)
    known = judgeable(chosen.judge, answers.pairs(FULL, BASE)).dialogues
    emotions = {dialogue.id: dialogue.emotion for dialogue in known}
    judged = []
    for first, second in comparisons:
        pairs = answers.pairs(first, second).only(emotions)
        rows, _ = ask(chosen.judge, chosen.question, pairs, folder)
        for row in rows:
            in_order, swapped = row["verdicts"]
            judged.append(JudgedPrompt(row["id"], emotions[row["id"]], first, second, (in_order, swapped)))
    return judged
