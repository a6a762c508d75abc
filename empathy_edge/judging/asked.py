"""A large model as scorer: asked for a rating 1–3 (the paper's baselines), or for the explicit subfactors, 1–10 each.

arXiv 2412.20264 has two versions of the fifteen subfactors, five for each dimension of empathy.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.judging.rated import balanced, read_rated
from empathy_edge.judging.study import order_in_dialogue, over_dialogues
from empathy_edge.llm.budget import BudgetReached
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.records import Request, TeacherError
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import write_json

if TYPE_CHECKING:
    import pandas as pd

PROMPTS = ("naive", "dimensions", "subfactors")
SUBFACTORS = {
    1: (
        "perspective-taking", "recognition of thoughts", "understanding intentions", "contextual understanding",
        "inference accuracy", "emotional resonance", "emotional matching", "emotional response", "emotional identification",
        "empathic concern", "emotional concern", "motivation to help", "supportive actions", "empathic responsiveness",
        "practical assistance",
    ),
    2: (
        "perspective-taking", "recognition of emotions", "contextual awareness", "acknowledgment of the speaker's experience",
        "clarity of response", "warmth in tone", "sympathetic responses", "emotional mirroring", "validation of feelings",
        "emotional resonance", "encouragement", "reassurance", "offering help", "empowering", "assistance",
    ),
}  # fmt: skip
"""Cognitive, affective, compassionate: five each, in this order."""

TRIES = 3


def rate(
    *, data: Path, prompt: str, client: ModelClient, most: int | None, seed: int, out: Path
) -> dict[str, Any]:
    """Ask for a rating of each response of the balanced set, and show how often it is the people's; writes `out`.

    Answers that cannot be read are asked for again, then counted as wrong, and shown.
    """
    chosen = _drawn(data, most, seed, out)
    answers = asyncio.run(_ask_all(chosen, client, lambda row: _messages(row, prompt), 4, read_rating))
    ratings = chosen["rating"].to_numpy()
    given = np.array([np.nan if answer is None else answer for answer in answers])
    dialogues = chosen["dialog_id"].to_numpy()
    points, pairs = order_in_dialogue(chosen, np.nan_to_num(given, nan=2.0))
    result = {
        "prompt": prompt,
        "model": client.teacher.model,
        "prompts_sha256": load_prompts("score").sha256,
        "responses": len(chosen),
        "unparsed": int(np.isnan(given).sum()),
        "accuracy": over_dialogues(given == ratings, dialogues),
        "order": over_dialogues(points, pairs) if len(points) else None,
        "order_pairs": len(points),
        "mean_rating": round(float(np.nanmean(given)), 3) if not np.isnan(given).all() else None,
        "ratings": {name: answer for name, answer in zip(chosen["unified_dialog_id"], answers, strict=True)},
    }
    write_json(out, result)
    accuracy = result["accuracy"]
    line = [
        prompt,
        f"{accuracy['mean']:.1f} [{accuracy['low']:.1f}, {accuracy['high']:.1f}]",
        str(result["unparsed"]),
    ]
    order = result["order"]
    line.append(f"{order['mean']:.0f} [{order['low']:.0f}, {order['high']:.0f}]" if order else "–")
    stdout.print(
        table(
            f"{client.teacher.model}, {len(chosen)} responses",
            ["prompt", "accuracy, %", "unparsed", "3 above 1, %"],
            [line],
        )
    )
    return result


def subfactors(
    *, data: Path, version: int, client: ModelClient, most: int | None, seed: int, out: Path
) -> list[dict[str, Any]]:
    """Ask for the fifteen subfactors of each response; writes what `score study --subfactors` reads."""
    chosen = _drawn(data, most, seed, out)
    factors = SUBFACTORS[version]
    answers = asyncio.run(
        _ask_all(
            chosen,
            client,
            lambda row: _messages(row, "explicit", factors=", ".join(factors)),
            256,
            lambda text: read_factors(text, factors),
            schema_of(factors),
        )
    )
    rows = [
        {"id": name, "version": version, "model": client.teacher.model, "scores": answer}
        for name, answer in zip(chosen["unified_dialog_id"], answers, strict=True)
        if answer is not None
    ]
    write_json(out, rows)
    say(f"{len(rows)} of {len(chosen)} responses have their {len(factors)} subfactors in {out}")
    return rows


def _drawn(data: Path, most: int | None, seed: int, out: Path) -> pd.DataFrame:
    if out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name. Nothing was asked.")
    chosen = balanced(read_rated(data))
    return (
        chosen
        if most is None
        else chosen.sample(min(most, len(chosen)), random_state=seed).reset_index(drop=True)
    )


def _messages(row: Any, prompt: str, **slots: str) -> tuple[Message, ...]:
    prompts = load_prompts("score")
    reply = prompts.text("reply", situation=row.situation, utterance=row.speaker_uttr, response=row.response)
    return (
        {"role": "system", "content": prompts.text("system")},
        {"role": "user", "content": prompts.text(prompt, reply=reply, **slots)},
    )


async def _ask_all(
    chosen: pd.DataFrame, client: ModelClient, messages: Any, tokens: int, read: Any, schema: str = ""
) -> list[Any]:
    """Each row's answer as `read` reads it, None where it cannot after some tries."""
    with progress() as bar:
        task = bar.add_task("asking", total=len(chosen), note="")

        async def one(row: Any) -> Any:
            found = None
            for sample in range(TRIES):
                temperature = 0.0 if sample == 0 else 0.7
                request = Request(messages(row), temperature, tokens, sample, row.unified_dialog_id, schema)
                try:
                    found = read((await client.ask(request)).text)
                except TeacherError:
                    break
                if found is not None:
                    break
            bar.update(task, advance=1, note=f"{client.calls} calls, {client.from_ledger} from the ledger")
            return found

        try:
            return list(await asyncio.gather(*(one(row) for row in chosen.itertuples())))
        except BudgetReached as reached:
            raise BudgetReached(
                f"{reached}\n  Every answer so far is in the ledger; run the same command with a higher limit to go on."
            ) from None
        finally:
            await asyncio.shield(client.teacher.close())


def read_rating(text: str) -> int | None:
    """1, 2 or 3 from an answer that is one digit, and nothing that needs interpretation."""
    match = re.fullmatch(r"[\s\"'*(]*([123])[\s\"'*).]*", text)
    return int(match[1]) if match else None


def schema_of(factors: tuple[str, ...]) -> str:
    """The JSON schema of an answer that `read_factors` reads: structured output, for teachers that can."""
    scores = {"type": "integer", "enum": list(range(1, 11))}
    properties = dict.fromkeys(factors, scores)
    return json.dumps(
        {"type": "object", "properties": properties, "required": list(factors), "additionalProperties": False}
    )


def read_factors(text: str, factors: tuple[str, ...]) -> dict[str, float] | None:
    """The scores from an answer that holds one JSON object with exactly these names, each 1 to 10."""
    match = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        content = json.loads(match[0]) if match else None
    except ValueError:
        return None
    if not isinstance(content, dict) or set(content) != set(factors):
        return None
    values = [content[name] for name in factors]
    if not all(isinstance(value, int | float) and 1 <= value <= 10 for value in values):
        return None
    return {name: float(content[name]) for name in factors}
