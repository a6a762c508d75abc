"""Let models answer a test split once, and record it: a second look would be a choice made on the test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from empathy_edge.bench.evidence.compare_arms import refuse_name
from empathy_edge.bench.release.responses import respond
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.json_lines import line_of, read_jsonl
from empathy_edge.models.find import find_model
from empathy_edge.models.identity import model_identity
from empathy_edge.system.files import sha256_path

MAX_NEW_TOKENS = 160


class Reading(BaseModel):
    """A model's answering of a test split.

    Attributes:
        at: when it began, UTC.
        test_sha256: of the file of dialogues.
        arm: the model's name among those that are compared.
        model: its identity: its weights, tokenizer, template and settings of generation.
        purpose: what is to be learned.
        again: why the arm reads the split a second time with another model; empty the first time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    test_sha256: str
    arm: str
    model: str
    purpose: str
    again: str = ""


def read_record(file: Path) -> list[Reading]:
    """The readings so far; none where there is no file."""
    return [Reading.model_validate(row) for row in read_jsonl(file)] if file.exists() else []


def answer(
    test: Path, arms: Mapping[str, str], folder: Path, record: Path, purpose: str, again: str = ""
) -> None:
    """Have each arm's model answer the dialogues of the test split greedily, and record it beforehand.

    Args:
        test: the dialogues.
        arms: name → what a runtime opens.
        folder: gets a JSONL of responses for each arm; one that was cut off goes on.
        record: a JSONL of readings, which is added to.
        purpose: what is to be learned.
        again: why an arm whose name is in the record may read the split with another model.

    Raises:
        EmpathyEdgeError: an arm has read this split before with another model, and `again` is empty.
    """
    dialogues = read_dialogues(test)
    sha256 = sha256_path(test)
    known = {item.arm: item for item in read_record(record) if item.test_sha256 == sha256}
    models = {arm: model_identity(find_model(model)) for arm, model in arms.items()}
    for arm, model in models.items():
        refuse_name(arm)
        if arm in known and known[arm].model != model and not again:
            raise EmpathyEdgeError(
                f"{arm}: has read {test} on {known[arm].at} with another model ({known[arm].purpose}).\n"
                "  A test split is read once. Choose on the development split; where a fault makes a second "
                "reading necessary, say why with --again."
            )
        if arm in known and known[arm].model != model and (folder / f"{arm}.jsonl").exists():
            raise EmpathyEdgeError(f"{folder / arm}.jsonl: holds the former responses; move it away first.")
    for arm, model in models.items():
        if arm not in known or known[arm].model != model:
            reading = Reading(
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                test_sha256=sha256,
                arm=arm,
                model=model,
                purpose=purpose,
                again=again,
            )
            record.parent.mkdir(parents=True, exist_ok=True)
            with record.open("a", encoding="utf-8") as handle:
                handle.write(line_of(reading.model_dump()))
        respond(arms[arm], dialogues, folder / f"{arm}.jsonl", max_new_tokens=MAX_NEW_TOKENS, arm=arm)
