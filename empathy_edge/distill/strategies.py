"""How a response is improved: the naive baseline and the targeted strategies of arXiv 2507.08151, section 3.2."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.llm.records import Answer, Request, StepNotKept, TeacherError
from empathy_edge.prompts import load_prompts

DIMENSIONS = ("cognitive", "affective", "compassionate")

STRATEGIES = ("naive", "all-dimensions", "lacking-dimension", *DIMENSIONS, "sequential")

Ask = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Wording:
    """The length that is asked for (the human responses have about 28 words, at most 97), and the sampling."""

    words: int = 28
    most_words: int = 97
    temperature: float = 0.7
    max_tokens: int = 256


@dataclass(frozen=True)
class Rewrite:
    """An improved response with what came before it: (step, text) in order, the last one being the result."""

    text: str
    steps: tuple[tuple[str, str], ...]


async def answer_directly(dialogue: Dialogue, ask: Ask, wording: Wording) -> str:
    """The teacher's own response to a dialogue."""
    return (await ask(_request("direct", "initial", dialogue, "", wording))).text


async def rate(dialogue: Dialogue, response: str, ask: Ask, wording: Wording) -> int:
    """The teacher's rating of a response, 1–3, where there is no human one."""
    answer = (await ask(_request("rate", "rating", dialogue, response, wording))).text
    numbers = set(re.findall(r"\b[123]\b", answer))
    if len(numbers) != 1:
        raise TeacherError(f"no single rating in the answer {answer[:60]!r}")
    return int(numbers.pop())


async def improve(
    strategy: str, dialogue: Dialogue, response: str, ask: Ask, wording: Wording, prefix: str = ""
) -> Rewrite:
    """Rewrite `response` by one of STRATEGIES.

    Args:
        strategy: which one.
        dialogue: what the response answers.
        response: the words to improve.
        ask: asks the teacher.
        wording: length and sampling.
        prefix: stands before each step's name in the request's purpose (`llm-` for improvements of the teacher's own).
    """

    def request(prompt: str, step: str, text: str, **slots: str) -> Request:
        return _request(prompt, f"{prefix}{step}", dialogue, text, wording, **slots)

    if strategy in ("naive", "all-dimensions"):
        text = (await ask(request(strategy, strategy, response))).text
        return Rewrite(text, ((strategy, text),))
    if strategy in DIMENSIONS:
        text = (await ask(_one_dimension(request, strategy, strategy, response))).text
        return Rewrite(text, ((strategy, text),))
    if strategy == "lacking-dimension":
        found = (await ask(request("find-lacking", "lacking", response))).text
        named = [name for name in DIMENSIONS if re.search(rf"\b{name}\b", found.lower())]
        if len(named) != 1:
            raise TeacherError(f"no single dimension in the answer {found[:60]!r}")
        text = (await ask(_one_dimension(request, named[0], "lacking-dimension", response))).text
        return Rewrite(text, (("lacking", named[0]), ("lacking-dimension", text)))
    if strategy == "sequential":
        steps: list[tuple[str, str]] = []
        text = response
        for place, name in enumerate(DIMENSIONS, 1):
            step = "sequential" if place == len(DIMENSIONS) else f"sequential-{place}"
            try:
                text = (await ask(_one_dimension(request, name, step, text))).text
            except StepNotKept:
                continue
            steps.append((step, text))
        return Rewrite(text, tuple(steps))
    raise ValueError(f"no strategy '{strategy}'")


def _one_dimension(request: Callable[..., Request], dimension: str, step: str, text: str) -> Request:
    return request("one-dimension", step, text, definition=load_prompts("distill").text(dimension))


def _request(
    prompt: str, step: str, dialogue: Dialogue, response: str, wording: Wording, **slots: str
) -> Request:
    prompts = load_prompts("distill")
    text = prompts.text(
        prompt,
        situation=dialogue.situation,
        utterance=dialogue.utterance,
        response=response,
        dimensions=prompts.text("dimensions"),
        words=str(wording.words),
        most_words=str(wording.most_words),
        **slots,
    )
    one_word = prompt in ("find-lacking", "rate")
    return Request(
        messages=({"role": "system", "content": prompts.text("system")}, {"role": "user", "content": text}),
        temperature=0.0 if one_word else wording.temperature,
        max_tokens=8 if one_word else wording.max_tokens,
        purpose=f"{dialogue.id} {step}",
    )
