"""How likely a larger model finds a student's answers: it seldom says what makes no sense.

Pairs that are ranked so move the student towards what the larger model would say, within what the student can
say: on-policy distillation (e.g. arXiv 2306.13649) by way of preferences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.console import progress
from empathy_edge.formats.chat_format import Message, turn_end
from empathy_edge.formats.json_lines import line_of, read_unfinished_jsonl, write_jsonl
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import default_threads, open_runtime

CONTEXT = 2048


@dataclass(frozen=True)
class _Answer:
    """An answer and what was said before it: what a value is kept under."""

    text: str
    utterance: str


def log_probs_by_ranker(
    model: str, prompts: Sequence[Sequence[Message]], texts: Sequence[str], file: Path
) -> list[float]:
    """The log-probability of each text as the answer to its prompt, end token included: nats per character.

    Args:
        model: what `open_runtime` takes.
        prompts: the messages before each text. The runtime keeps its prompt cache between equal prompts.
        texts: as many answers.
        file: JSON lines, one for each text. Lines of an interrupted run are kept and not computed again.
    """
    digest = find_model(model).identity
    kept = [row for row in read_unfinished_jsonl(file) if row["model"] == digest]
    known = {_Answer(row["answer"], row["said"]): float(row["nats"]) for row in kept}
    answers = [_Answer(text, _said(messages)) for text, messages in zip(texts, prompts, strict=True)]
    missing = [place for place, answer in enumerate(answers) if answer not in known]
    if missing:
        write_jsonl(file, kept)  # drops a line that was cut off; the next line would continue it
        runtime = open_runtime(model, threads=default_threads(), context=CONTEXT)
        end_token = runtime.tokenize(turn_end(runtime.template, runtime.eos))[0]
        with progress() as bar, open(file, "a", encoding="utf-8") as handle:
            task = bar.add_task("ranking", total=len(texts), completed=len(texts) - len(missing), note="")
            for place in missing:
                prompt_ids = runtime.encode(list(prompts[place]))
                answer_ids = [*runtime.tokenize(texts[place] or " "), end_token]
                log_probs = runtime.log_probs([*prompt_ids, *answer_ids], len(prompt_ids))
                nats = float(log_probs.sum()) / max(1, len(texts[place]))
                known[answers[place]] = nats
                handle.write(_line(digest, answers[place], nats))
                handle.flush()
                bar.advance(task)
        runtime.close()
    return [known[answer] for answer in answers]


def _said(messages: Sequence[Message]) -> str:
    """The utterance, after what was said before it."""
    return "\n\n".join(message["content"] for message in messages if message["role"] != "system")


def _line(model: str, answer: _Answer, nats: float) -> str:
    row = {"model": model, "answer": answer.text, "said": answer.utterance, "nats": round(nats, 5)}
    return line_of(row)
