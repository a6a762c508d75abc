"""What the stages that make training rows have found; written into their manifests."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from empathy_edge.runs.stage import Results

DISTILL_FILES = ("responses.jsonl", "sft.jsonl", "preference.jsonl", "control.jsonl", "test.jsonl")
"""What the stages that make training rows write."""


class RejectedExample(BaseModel):
    """A response that a filter rejected: the dialogue's id, and the first 300 characters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    text: str


class RejectedBy(BaseModel):
    """How many responses a filter rejected, and the first few of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    examples: list[RejectedExample]


class DistillResults(Results):
    """What `distill` made of a file of dialogues; some figures are of one method only.

    Attributes:
        dialogues: in the file; with a teacher, those that were sent to it.
        train_dialogues: in the training split (rated responses only).
        test_dialogues: in the test split.
        sft_found: SFT rows before the draw (rated responses only).
        pairs_found: preference pairs before the draw (rated responses only).
        sft_rows: rows in `sft.jsonl`.
        safety_rows: rows with the shipped safe answers (rated responses only).
        preference_pairs: rows in `preference.jsonl`.
        control_pairs: rows in `control.jsonl` (rated responses only).
        left_out_as_nearly_in_the_test_split: ids (rated responses only).
        taken_as_good: responses that are taken as good ones, where none of the file has a rating.
        calls: answered calls (teacher only).
        answers_from_the_ledger: answers that were paid before (teacher only).
        cost_usd: of the calls (teacher only).
        served: the models and fingerprints that the endpoint reported (teacher only).
        failed: ids of dialogues whose calls failed; the same command asks again (teacher only).
        caught: what each filter rejected.
        median_words: of the completions, chosen and rejected responses.
    """

    dialogues: int
    train_dialogues: int | None = None
    test_dialogues: int
    sft_found: int | None = None
    pairs_found: int | None = None
    sft_rows: int
    safety_rows: int | None = None
    preference_pairs: int
    control_pairs: int | None = None
    left_out_as_nearly_in_the_test_split: list[str] | None = None
    taken_as_good: int | None = None
    calls: int | None = None
    answers_from_the_ledger: int | None = None
    cost_usd: float | None = None
    served: list[str] | None = None
    failed: list[str] | None = None
    caught: dict[str, RejectedBy]
    median_words: dict[str, int | float]
