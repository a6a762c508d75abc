"""Judges that are told how to be wrong."""

import random
from collections.abc import Iterator, Sequence

from empathy_edge.judging.pairwise_judges import Judge
from empathy_edge.judging.verdicts import Pair, Verdict


class Artificial(Judge):
    """A judge that is told how to be wrong: by place, by length, by saying something else."""

    def __init__(self, rule: str) -> None:
        self.name, self.rule, self.asked, self._chance = f"artificial {rule}", rule, 0, random.Random(1)

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        for pair in pairs:
            self.asked += 1
            if self.rule == "place":
                yield Verdict("first")
            elif self.rule == "length":
                yield Verdict("first" if len(pair.first.split()) > len(pair.second.split()) else "second")
            elif self.rule == "of GPT's family":
                yield Verdict(
                    "first" if "indeed" in pair.first else "second" if "indeed" in pair.second else "tie"
                )
            elif self.rule == "mute" and self._chance.random() < 0.2:
                yield Verdict("unparsed", answer="As an AI")
            else:
                yield Verdict("first" if "good" in pair.first else "second")
