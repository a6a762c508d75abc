"""A large model as scorer: asked for a rating 1–3 (the paper's baselines), or for subfactors, 1–10.

arXiv 2412.20264 has two versions of the fifteen subfactors, five for each dimension of empathy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.judging.evaluation import order_in_dialogue, percent_over_dialogues
from empathy_edge.judging.rated import balanced, read_rated
from empathy_edge.llm.client import CallsFailed, ModelClient
from empathy_edge.llm.records import CutOff, Request, TeacherError, Withheld
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import write_json

if TYPE_CHECKING:
    import pandas as pd

PROMPTS = ("naive", "dimensions", "subfactors")

EXPLICIT = "explicit"
"""The prompt that asks for a score of each subfactor."""

SUBFACTORS = {
    1: (
        # cognitive
        "perspective-taking",
        "recognition of thoughts",
        "understanding intentions",
        "contextual understanding",
        "inference accuracy",
        # affective
        "emotional resonance",
        "emotional matching",
        "emotional response",
        "emotional identification",
        "empathic concern",
        # compassionate
        "emotional concern",
        "motivation to help",
        "supportive actions",
        "empathic responsiveness",
        "practical assistance",
    ),
    2: (
        # cognitive
        "perspective-taking",
        "recognition of emotions",
        "contextual awareness",
        "acknowledgment of the speaker's experience",
        "clarity of response",
        # affective
        "warmth in tone",
        "sympathetic responses",
        "emotional mirroring",
        "validation of feelings",
        "emotional resonance",
        # compassionate
        "encouragement",
        "reassurance",
        "offering help",
        "empowering",
        "assistance",
    ),
}
"""The paper's list of subfactors, by its version."""

TRIES = 3
"""How often the model is asked in all when its answer cannot be read."""

RATING_TOKENS, SUBFACTOR_TOKENS = 4, 256
"""The longest answer, in tokens."""

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Sample:
    """Which rated responses are asked about.

    Attributes:
        data: a CSV of rated responses; the balanced set of it is used.
        max_responses: draw at most so many; None: all.
        seed: for the draw.
    """

    data: Path
    max_responses: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class _Task(Generic[Parsed]):
    """What is asked about each response.

    Attributes:
        messages: the chat messages for a row of responses.
        max_tokens: of the answer.
        parse: reads an answer; None where it cannot be read.
        step: names the answer in a file of answers.
        schema: the JSON schema of the answer, for models that can be held to one; empty for free text.
    """

    messages: Callable[[Any], tuple[Message, ...]]
    max_tokens: int
    parse: Callable[[str], Parsed | None]
    step: str
    schema: str = ""


class RatingsByModel(TypedDict):
    """What `rate` writes: how often a model's ratings are those of people.

    `accuracy`: %, with a 95 % interval over dialogues; an answer that could not be read counts as wrong.
    `order`: of two responses to one dialogue rated 3 and 1, how often the model rates the 3 higher, %, over
    `order_pairs`; None without such pairs. `ratings`: row id → rating, None where no answer could be read
    (`unparsed`: how many).
    """

    prompt: str
    model: str
    prompts_sha256: str
    responses: int
    unparsed: int
    accuracy: dict[str, float]
    order: dict[str, float] | None
    order_pairs: int
    mean_rating: float | None
    ratings: dict[str, int | None]


class SubfactorRow(TypedDict):
    """A row's id, the version of the paper's list, the model, and subfactor → score, 1 to 10."""

    id: str
    version: int
    model: str
    scores: dict[str, float]


def rate(sample: Sample, prompt: str, client: ModelClient, out: Path) -> RatingsByModel:
    """Ask for a rating of each response, and show how often it is the people's rating; writes `out`.

    Answers that cannot be read are asked for again. If that does not help, they count as wrong.
    """
    chosen = _draw(sample, out)
    task = _Task(lambda row: _messages(row, prompt), RATING_TOKENS, read_rating, prompt)
    answers = _ask_all(chosen, client, task)
    result = _compare_with_people(chosen, answers, prompt, client.teacher.model)
    write_json(out, result)
    _show(result)
    return result


def _compare_with_people(
    chosen: pd.DataFrame, answers: Sequence[int | None], prompt: str, model: str
) -> RatingsByModel:
    given = np.array([np.nan if answer is None else answer for answer in answers], dtype=float)
    unparsed = np.isnan(given)
    points, pair_dialogues = order_in_dialogue(chosen, np.nan_to_num(given, nan=2.0))
    right = given == chosen["rating"].to_numpy()
    return {
        "prompt": prompt,
        "model": model,
        "prompts_sha256": load_prompts("score").sha256,
        "responses": len(chosen),
        "unparsed": int(unparsed.sum()),
        "accuracy": percent_over_dialogues(right, chosen["dialog_id"].to_numpy()),
        "order": percent_over_dialogues(points, pair_dialogues) if len(points) else None,
        "order_pairs": len(points),
        "mean_rating": None if unparsed.all() else round(float(np.nanmean(given)), 3),
        "ratings": dict(zip(chosen["unified_dialog_id"], answers, strict=True)),
    }


def _show(result: RatingsByModel) -> None:
    accuracy, order = result["accuracy"], result["order"]
    line = [
        result["prompt"],
        f"{accuracy['mean']:.1f} [{accuracy['low']:.1f}, {accuracy['high']:.1f}]",
        str(result["unparsed"]),
        f"{order['mean']:.0f} [{order['low']:.0f}, {order['high']:.0f}]" if order else "–",
    ]
    title = f"{result['model']}, {result['responses']} responses"
    stdout.print(table(title, ["prompt", "accuracy, %", "unparsed", "3 above 1, %"], [line]))


def subfactors(sample: Sample, version: int, client: ModelClient, out: Path) -> list[SubfactorRow]:
    """Ask for the fifteen subfactors of each response; writes what `score study --subfactors` reads."""
    chosen = _draw(sample, out)
    names = SUBFACTORS[version]
    task = _Task(
        lambda row: _messages(row, EXPLICIT, factors=", ".join(names)),
        SUBFACTOR_TOKENS,
        lambda text: read_subfactors(text, names),
        EXPLICIT,
        schema_of(names),
    )
    answers = _ask_all(chosen, client, task)
    rows: list[SubfactorRow] = []
    for row_id, scores in zip(chosen["unified_dialog_id"], answers, strict=True):
        if scores is not None:
            rows.append({"id": row_id, "version": version, "model": client.teacher.model, "scores": scores})
    write_json(out, rows)
    say(f"{len(rows)} of {len(chosen)} responses have their {len(names)} subfactors in {out}")
    return rows


def _draw(sample: Sample, out: Path) -> pd.DataFrame:
    if out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name. Nothing was asked.")
    chosen = balanced(read_rated(sample.data))
    if sample.max_responses is None:
        return chosen
    n = min(sample.max_responses, len(chosen))
    return chosen.sample(n, random_state=sample.seed).reset_index(drop=True)


def _messages(row: Any, prompt: str, **slots: str) -> tuple[Message, ...]:
    prompts = load_prompts("score")
    reply = prompts.text("reply", situation=row.situation, utterance=row.speaker_uttr, response=row.response)
    return (
        {"role": "system", "content": prompts.text("system")},
        {"role": "user", "content": prompts.text(prompt, reply=reply, **slots)},
    )


def _ask_all(chosen: pd.DataFrame, client: ModelClient, task: _Task[Parsed]) -> list[Parsed | None]:
    """Each row's answer, as it was parsed; None where it cannot be read after some tries.

    Raises:
        CallsFailed: some calls failed; the other answers are in the ledger.
    """
    rows = list(chosen.itertuples())
    answers = client.run(rows, lambda row: _ask(row, client, task), label="asking")
    failed = [answer for answer in answers if isinstance(answer, TeacherError)]
    if failed:
        raise CallsFailed(
            f"{len(failed)} of {len(rows)} calls to {client.teacher.model} failed (the first: {failed[0]}).\n"
            "  The other answers are in the ledger; run the same command again to ask for the missing ones."
        )
    return [answer for answer in answers if not isinstance(answer, TeacherError)]


async def _ask(row: Any, client: ModelClient, task: _Task[Parsed]) -> Parsed | None:
    for sample in range(TRIES):
        temperature = 0.0 if sample == 0 else 0.7
        purpose = f"{row.unified_dialog_id} {task.step}"
        request = Request(task.messages(row), temperature, task.max_tokens, sample, purpose, task.schema)
        try:
            answer = await client.ask(request)
        except CutOff:
            continue
        except Withheld:
            return None
        parsed = task.parse(answer.text)
        if parsed is not None:
            return parsed
    return None


def read_rating(text: str) -> int | None:
    """1, 2 or 3, if the answer is one digit and nothing that needs interpretation."""
    match = re.fullmatch(r"[\s\"'*(]*([123])[\s\"'*).]*", text)
    return int(match[1]) if match else None


def schema_of(names: Sequence[str]) -> str:
    """The JSON schema of an answer that `read_subfactors` reads, for models with structured output."""
    score = {"type": "integer", "enum": list(range(1, 11))}
    schema = {
        "type": "object",
        "properties": dict.fromkeys(names, score),
        "required": list(names),
        "additionalProperties": False,
    }
    return json.dumps(schema)


def read_subfactors(text: str, names: Sequence[str]) -> dict[str, float] | None:
    """The scores from an answer that has one JSON object with exactly these names, each 1 to 10."""
    match = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        content = json.loads(match[0]) if match else None
    except ValueError:
        return None
    if not isinstance(content, dict) or set(content) != set(names):
        return None
    scores = [content[name] for name in names]
    if not all(isinstance(score, int | float) and 1 <= score <= 10 for score in scores):
        return None
    return {name: float(content[name]) for name in names}
