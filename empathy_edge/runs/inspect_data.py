"""`empathy-edge data inspect`: what a file of data was recognised as, and which commands can use it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.formats.dialogue import DataFile, Dialogue, Response

SHOWN = 3
"""How many rows are shown."""

SHOWN_CHARACTERS = 110


@dataclass(frozen=True)
class Needs:
    """A command and what it needs of dialogues; `enough` have it, of `fewest` that are needed."""

    command: str
    needs: str
    enough: int
    fewest: int = 1
    remedy: str = ""

    @property
    def ready(self) -> bool:
        """Whether there are enough."""
        return self.enough >= self.fewest


@dataclass(frozen=True)
class Sources:
    """Who wrote the responses: the one to improve on, and the better ones; see `distill --method rated`."""

    reference: str
    models: tuple[str, ...]


def show(name: str, data: DataFile, columns: Mapping[str, str]) -> None:
    """Print what is in a file of data.

    Args:
        name: what the user called it.
        data: what was read.
        columns: the user's `--map`, which belongs to the next command, too.
    """
    forms = ", ".join(data.forms)
    tell(f"{name}: {forms} ({data.container})")
    stdout.print(table("What is in it", ["", "count"], _counts(data)))
    needs = commands_of(data.dialogues)
    rows = [[item.command, item.needs, _state(item)] for item in needs]
    stdout.print(table("What can be done with it", ["command", "needs", "state"], rows))
    for dialogue in data.dialogues[:SHOWN]:
        _show_dialogue(dialogue)
    given = " ".join([shlex.quote(name), *(f"--map {shlex.quote(f'{a}={b}')}" for a, b in columns.items())])
    tell(f"Next: {next_step(given, data.dialogues, needs)}")


def _counts(data: DataFile) -> list[list[str]]:
    dialogues = data.dialogues
    first_roles = [item.history[0]["role"] for item in dialogues if item.history]
    responses = [response for item in dialogues for response in item.responses]
    sources = Counter(response.source for response in responses)
    counts = {
        "rows": data.rows,
        "dialogues": len(dialogues),
        "with a response": sum(bool(item.responses) for item in dialogues),
        "with a rated response": sum(_is_rated(item) for item in dialogues),
        "with several turns": sum(bool(item.earlier_turns) for item in dialogues),
        "with a system prompt": first_roles.count("system"),
        "with an emotion": sum(bool(item.emotion) for item in dialogues),
        "with a situation": sum(bool(item.situation) for item in dialogues),
        "of the test split": sum(item.split == "test" for item in dialogues),
    }
    rows = [[word, str(count)] for word, count in counts.items()]
    return rows + [[f"responses by {plain(source)}", str(count)] for source, count in sources.most_common(6)]


def _is_rated(dialogue: Dialogue) -> bool:
    return any(response.rating for response in dialogue.responses)


def sources_of(dialogues: list[Dialogue]) -> Sources | None:
    """The sources that `distill --method rated` could take; None without a good response.

    The reference is `human`, or else the source that is rated 3 least often.
    """
    of_source: dict[str, list[Response]] = {}
    for dialogue in dialogues:
        for response in dialogue.responses:
            if response.rating:
                of_source.setdefault(response.source, []).append(response)
    good = {name: sum(item.rating == 3 for item in found) / len(found) for name, found in of_source.items()}
    if len(good) < 2 or not any(good.values()):
        return None
    reference = "human" if "human" in good else min(good, key=lambda name: good[name])
    return Sources(reference, tuple(name for name in good if name != reference))


def commands_of(dialogues: list[Dialogue]) -> list[Needs]:
    """The commands that take dialogues, and how many of these suffice for each."""
    train = [item for item in dialogues if item.split == "train"]
    answered = sum(bool(item.responses) for item in train)
    rated = sum(_is_rated(item) for item in train) if sources_of(train) else 0
    told_apart = sum({1, 3} <= {response.rating for response in item.responses} for item in dialogues)
    ask = "use --method direct"
    only_test = "all are of the test split"
    every = max(1, len(train))
    return [
        Needs("distill --method rated", "responses of two sources, rated 1 to 3", rated, 1, ask),
        Needs("distill --method direct", "prompts", len(train), 1, only_test),
        Needs("distill --method improve-human", "a response to each prompt", answered, every, ask),
        Needs("distill --method improve-llm", "prompts", len(train), 1, only_test),
        Needs("own-pairs", "prompts", len(train), 1, only_test),
        Needs("respond", "prompts", len(dialogues)),
        Needs("check --prompts", "at least 64 prompts", len(dialogues), 64, "use the shipped prompts"),
        Needs("judge certify", "40 dialogues with responses rated 3 and 1", told_apart, 40, "rate more"),
    ]


def _state(item: Needs) -> str:
    return "ready" if item.ready else f"{item.enough} of {item.fewest} needed: {item.remedy}"


def _show_dialogue(dialogue: Dialogue) -> None:
    about = ", ".join(filter(None, (dialogue.emotion, dialogue.split)))
    tell(f"{plain(dialogue.id)} ({plain(about)})")
    for message in dialogue.history[-2:]:
        tell(f"  {message['role']}: {plain(message['content'])}")
    tell(f"  user: {plain(dialogue.utterance)}")
    for response in dialogue.responses[:2]:
        rating = f", rated {response.rating}" if response.rating else ""
        tell(f"  {plain(response.source)}{rating}: {plain(response.text)}")


def plain(text: str) -> str:
    """A text of somebody's data on one line, shortened, without control characters."""
    words = " ".join(text.split())
    kept = "".join(character for character in words if character.isprintable())
    return kept if len(kept) <= SHOWN_CHARACTERS else kept[: SHOWN_CHARACTERS - 1] + "…"


def next_step(given: str, dialogues: list[Dialogue], needs: list[Needs]) -> str:
    """A command line that uses the data."""
    ready = [item.command for item in needs if item.ready]
    distill = f"empathy-edge distill --data {given}"
    sources = sources_of([item for item in dialogues if item.split == "train"])
    if "distill --method rated" in ready and sources is not None:
        models = " ".join(f"--model {shlex.quote(plain(model))}" for model in sources.models)
        reference = shlex.quote(plain(sources.reference))
        return f"{distill} --reference {reference} {models} --out rows"
    if "distill --method improve-human" in ready:
        return f"{distill} --method improve-human --teacher openai:gpt-4o --out rows"
    if "distill --method direct" in ready:
        return f"{distill} --method direct --teacher openai:gpt-4o --out rows"
    return f"empathy-edge respond smollm2-135m --dialogues {given} --out responses.jsonl"
