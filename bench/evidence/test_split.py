"""Dialogues for the last measurement: as many of each emotion, near to none that anything was chosen on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, Response, read_dialogues
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.system.files import sha256_json
from empathy_edge.text.near_duplicates import KeptForTests

HUMAN = "human"


def write_test_split(source: Path, apart_from: Sequence[Path], each: int, file: Path) -> list[Dialogue]:
    """Write the beginnings of some dialogues with the response that a person gave.

    Args:
        source: conversations with their emotions.
        apart_from: data that were used before; no dialogue of the split is in them, by id or as a near
            duplicate, and none of it is a near duplicate of another.
        each: dialogues of each emotion; the first ones in the order of the hashes of their ids.
        file: the JSONL to write; it must not exist.

    Raises:
        EmpathyEdgeError: the file exists, or an emotion has too few dialogues.
    """
    if file.exists():
        raise EmpathyEdgeError(f"{file}: exists already; a test split is made once.")
    used = KeptForTests((item.id, item.utterance) for data in apart_from for item in read_dialogues(data))
    chosen: dict[str, list[Dialogue]] = defaultdict(list)
    first_turns = (item for item in read_dialogues(source) if not item.history and item.responses)
    for dialogue in sorted(first_turns, key=lambda item: sha256_json(item.id)):
        found = chosen[dialogue.emotion]
        if len(found) < each and not used.has(dialogue.id, dialogue.utterance):
            used.add(dialogue.id, dialogue.utterance)
            found.append(_for_test(dialogue))
    short = sorted(emotion for emotion, found in chosen.items() if len(found) < each)
    if short or not chosen:
        raise EmpathyEdgeError(
            f"{source}: fewer than {each} dialogues of {', '.join(short) or 'any emotion'}."
        )
    split = [dialogue for _, found in sorted(chosen.items()) for dialogue in found]
    write_jsonl(file, [dialogue.row() for dialogue in split])
    return split


def _for_test(dialogue: Dialogue) -> Dialogue:
    response = Response(HUMAN, dialogue.responses[0].text)
    return Dialogue(
        dialogue.id, dialogue.emotion, dialogue.situation, dialogue.utterance, (response,), "test"
    )
