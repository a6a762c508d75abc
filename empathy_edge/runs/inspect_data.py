"""`empathy-edge data inspect`: what a file of data was recognised as, and which commands can use it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.formats.dialogue import Dialogue, DialogueStream

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
    """Who wrote the responses: the one to improve on, and the better ones; see `distill --method rated`.

    Attributes:
        reference: the one to improve on.
        models: the others.
        never_good: no response of the reference is rated 3, as in preferences: pairs, and no SFT rows.
    """

    reference: str
    models: tuple[str, ...]
    never_good: bool


class _Ratings:
    """The rated responses of a split, counted by their source."""

    def __init__(self) -> None:
        self.rated: Counter[str] = Counter()
        self.good: Counter[str] = Counter()

    def add(self, dialogue: Dialogue) -> None:
        for response in dialogue.responses:
            if response.rating:
                self.rated[response.source] += 1
                self.good[response.source] += response.rating == 3

    def sources(self) -> Sources | None:
        """The sources that `distill --method rated` could take; None without a good response.

        The reference is `human`, or else the source that is rated 3 least often.
        """
        if len(self.rated) < 2 or not any(self.good.values()):
            return None
        share = {source: self.good[source] / count for source, count in self.rated.items()}
        reference = "human" if "human" in share else min(share, key=lambda source: share[source])
        models = tuple(source for source in share if source != reference)
        return Sources(reference, models, never_good=not self.good[reference])


class Summary:
    """What is in the dialogues of a file, counted one after the other.

    Attributes:
        shown: the first few dialogues.
    """

    def __init__(self, dialogues: Iterable[Dialogue]) -> None:
        self.shown: list[Dialogue] = []
        self._counts: Counter[str] = Counter()
        self._by_source: Counter[str] = Counter()
        self._train: Counter[str] = Counter()
        self._ratings = _Ratings()
        self._told_apart = 0
        for dialogue in dialogues:
            self._add(dialogue)

    def _add(self, dialogue: Dialogue) -> None:
        if len(self.shown) < SHOWN:
            self.shown.append(dialogue)
        has_system = bool(dialogue.history) and dialogue.history[0]["role"] == "system"
        self._counts.update(
            {
                "dialogues": 1,
                "with a response": bool(dialogue.responses),
                "with a rated response": _is_rated(dialogue),
                "with several turns": bool(dialogue.earlier_turns),
                "with a system prompt": has_system,
                "with an emotion": bool(dialogue.emotion),
                "with a situation": bool(dialogue.situation),
                "of the test split": dialogue.split == "test",
            }
        )
        self._by_source.update(response.source for response in dialogue.responses)
        self._told_apart += {1, 3} <= {response.rating for response in dialogue.responses}
        if dialogue.split == "train":
            self._train.update(all=1, answered=bool(dialogue.responses), rated=_is_rated(dialogue))
            self._ratings.add(dialogue)

    def table(self, rows: int) -> list[list[str]]:
        """Each count with its name; `rows` are those of the file."""
        counts = {"rows": rows, **self._counts}
        of_sources = self._by_source.most_common(6)
        return [[name, str(int(count))] for name, count in counts.items()] + [
            [f"responses by {plain(source)}", str(count)] for source, count in of_sources
        ]

    def sources(self) -> Sources | None:
        """Those of the training split; see `_Ratings.sources`."""
        return self._ratings.sources()

    @property
    def all_good(self) -> bool:
        """Whether no response has a rating; `distill` then takes those to train on as good ones."""
        return bool(self._train["answered"]) and not self._counts["with a rated response"]

    def commands(self) -> list[Needs]:
        """The commands that take dialogues, and how many of these suffice for each."""
        train, dialogues = self._train["all"], self._counts["dialogues"]
        ready, needs = self._train["rated"] if self.sources() else 0, "responses of two sources, rated 1 to 3"
        if self.all_good:
            ready, needs = self._train["answered"], "responses, all taken as good"
        ask = "use --method direct"
        only_test = "all are of the test split"
        every = max(1, train)
        return [
            Needs("distill --method rated", needs, ready, 1, ask),
            Needs("distill --method direct", "prompts", train, 1, only_test),
            Needs(
                "distill --method improve-human",
                "a response to each prompt",
                self._train["answered"],
                every,
                ask,
            ),
            Needs("distill --method improve-llm", "prompts", train, 1, only_test),
            Needs("own-pairs", "prompts", train, 1, only_test),
            Needs("respond", "prompts", dialogues),
            Needs("check --prompts", "at least 64 prompts", dialogues, 64, "use the shipped prompts"),
            Needs(
                "judge certify",
                "40 dialogues with responses rated 3 and 1",
                self._told_apart,
                40,
                "rate more",
            ),
        ]


@dataclass(frozen=True)
class Inspected:
    """What was found in a file of data.

    Attributes:
        name: what the user called it.
        forms: what its rows were recognised as.
        container: of the file, as CSV.
        counts: a name and a count each, as they are shown.
        needs: the commands that take dialogues.
        shown: the first few dialogues.
        next_command: a command line that uses the data.
    """

    name: str
    forms: tuple[str, ...]
    container: str
    counts: list[list[str]]
    needs: list[Needs]
    shown: list[Dialogue]
    next_command: str

    @property
    def has_responses(self) -> bool:
        """Whether a dialogue has one."""
        return ["with a response", "0"] not in self.counts

    def as_json(self) -> dict[str, object]:
        """For a program."""
        return {
            "name": self.name,
            "forms": self.forms,
            "container": self.container,
            "counts": {name: int(count) for name, count in self.counts},
            "commands": [asdict(item) | {"ready": item.ready} for item in self.needs],
            "first": [item.row() for item in self.shown],
            "next": self.next_command,
        }


def inspect_data(name: str, data: DialogueStream, columns: Mapping[str, str]) -> Inspected:
    """Read the data.

    Args:
        name: what the user called it.
        data: its dialogues, not yet read.
        columns: the user's `--map`, which belongs to the next command, too.
    """
    summary = Summary(data)
    needs = summary.commands()
    given = " ".join([shlex.quote(name), *(f"--map {shlex.quote(f'{a}={b}')}" for a, b in columns.items())])
    return Inspected(
        name=name,
        forms=tuple(data.forms),
        container=data.container,
        counts=summary.table(data.rows),
        needs=needs,
        shown=summary.shown,
        next_command=next_step(given, summary.sources(), needs),
    )


def show(found: Inspected) -> None:
    """Print what is in a file of data."""
    tell(f"{found.name}: {', '.join(found.forms)} ({found.container})")
    stdout.print(table("What is in it", ["", "count"], found.counts))
    rows = [[item.command, item.needs, _state(item)] for item in found.needs]
    stdout.print(table("What can be done with it", ["command", "needs", "state"], rows))
    for dialogue in found.shown:
        _show_dialogue(dialogue)


def _is_rated(dialogue: Dialogue) -> bool:
    return any(response.rating for response in dialogue.responses)


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


def next_step(given: str, sources: Sources | None, needs: list[Needs]) -> str:
    """A command line that uses the data; `sources` are those with ratings that it could take."""
    ready = [item.command for item in needs if item.ready]
    distill = f"empathy-edge distill --data {given}"
    if "distill --method rated" in ready:
        if sources is None:  # no response has a rating: all count as good
            return f"{distill} --out rows"
        models = " ".join(f"--model {shlex.quote(plain(model))}" for model in sources.models)
        reference = shlex.quote(plain(sources.reference))
        also = " --sft-on-chosen" if sources.never_good else ""
        return f"{distill} --reference {reference} {models}{also} --out rows"
    if "distill --method improve-human" in ready:
        return f"{distill} --method improve-human --teacher openai:gpt-4o --out rows"
    if "distill --method direct" in ready:
        return f"{distill} --method direct --teacher openai:gpt-4o --out rows"
    return f"empathy-edge respond smollm2-135m --dialogues {given} --out responses.jsonl"
