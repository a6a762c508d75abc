"""How likely a larger model finds a student's answers: what makes no sense, a larger model seldom says.

Learning from pairs that are ranked so moves the student towards what the larger model would say, among what the student itself
can say (on-policy distillation, e.g. arXiv 2306.13649, by way of preferences).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from empathy_edge.console import progress
from empathy_edge.formats.chat_format import Message, turn_end
from empathy_edge.formats.dialogue import read_unfinished_jsonl, write_jsonl
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import default_threads, open_runtime

CONTEXT = 2048


def likelihoods(
    model: str, asked: Sequence[Sequence[Message]], texts: Sequence[str], file: Path
) -> list[float]:
    """The log-probability (nats) of each text as the answer to its messages, its end included, divided by its characters.

    Args:
        model: what `open_runtime` takes.
        asked: the messages before each text; those that follow each other and are equal are read once.
        texts: as many answers.
        file: JSON lines, one for each text; what an interrupted run left in it is kept.
    """
    digest = find_model(model).sha256
    kept = [row for row in read_unfinished_jsonl(file) if row["model"] == digest]
    known = {(row["answer"], row["said"]): row["nats"] for row in kept}
    keys = [(text, messages[-1]["content"]) for text, messages in zip(texts, asked, strict=True)]
    missing = [place for place, key in enumerate(keys) if key not in known]
    if missing:
        write_jsonl(file, kept)  # without a line that was cut off, to which the next one would be glued
        runtime = open_runtime(model, threads=default_threads(), context=CONTEXT)
        end = runtime.tokenize(turn_end(runtime.template))[0]
        with progress() as bar, open(file, "a", encoding="utf-8") as handle:
            task = bar.add_task("ranking", total=len(texts), completed=len(texts) - len(missing), note="")
            for place in missing:
                prompt = runtime.encode(list(asked[place]))
                answer = [*runtime.tokenize(texts[place] or " "), end]
                found = float(runtime.log_probs([*prompt, *answer], len(prompt)).sum())
                known[keys[place]] = found / max(1, len(texts[place]))
                handle.write(_line(digest, *keys[place], known[keys[place]]))
                handle.flush()
                bar.advance(task)
        runtime.close()
    return [known[key] for key in keys]


def _line(model: str, answer: str, said: str, nats: float) -> str:
    return (
        json.dumps(
            {"model": model, "answer": answer, "said": said, "nats": round(nats, 5)}, ensure_ascii=False
        )
        + "\n"
    )
