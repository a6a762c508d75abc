"""How a response is improved: the baseline and the targeted strategies of arXiv 2507.08151, section 3.2."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, get_args

from empathy_edge.distill.teacher_settings import Dimension, ResponseSettings, Strategy
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.llm.records import Answer, Request, StepNotKept, TeacherError
from empathy_edge.prompts import load_prompts

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

ONE_WORD_PROMPTS = ("find-lacking", "rate")
"""Prompts that ask for one word or number."""

ONE_WORD_TOKENS = 8

Ask = Callable[[Request], Awaitable[Answer]]


class Step(NamedTuple):
    """One answer on the way to a response: the step's name and the text."""

    name: str
    text: str


@dataclass(frozen=True)
class Rewrite:
    """An improved response, and the steps that led to it; the last step has the same text."""

    text: str
    steps: tuple[Step, ...]


async def answer_directly(dialogue: Dialogue, ask: Ask, settings: ResponseSettings) -> str:
    """The teacher's own response to a dialogue."""
    request = _request("direct", "initial", dialogue, response="", settings=settings)
    return (await ask(request)).text


async def rate(dialogue: Dialogue, response: str, ask: Ask, settings: ResponseSettings) -> int:
    """The teacher's rating of a response, 1 to 3, for a response that no person has rated.

    Raises:
        TeacherError: the answer has no rating, or more than one.
    """
    request = _request("rate", "rating", dialogue, response=response, settings=settings)
    answer = (await ask(request)).text
    ratings = set(re.findall(r"\b[123]\b", answer))
    if len(ratings) != 1:
        raise TeacherError(f"no single rating in the answer {answer[:60]!r}")
    return int(ratings.pop())


async def improve(
    strategy: Strategy,
    dialogue: Dialogue,
    response: str,
    ask: Ask,
    settings: ResponseSettings,
    prefix: str = "",
) -> Rewrite:
    """Rewrite `response`.

    Args:
        strategy: how.
        dialogue: what the response answers.
        response: the text to improve.
        ask: asks the teacher.
        settings: length and sampling.
        prefix: stands before each step's name in the request's purpose (`llm-`: the teacher's own response).

    Raises:
        TeacherError: the teacher did not answer, or not as it should.
    """
    rewriter = _Rewriter(dialogue, ask, settings, prefix)
    if strategy in ("naive", "all-dimensions"):
        text = await rewriter.answer(strategy, strategy, response)
        return Rewrite(text, (Step(strategy, text),))
    if strategy == "lacking-dimension":
        return await rewriter.improve_lacking(response)
    if strategy == "sequential":
        return await rewriter.improve_in_sequence(response)
    text = await rewriter.improve_dimension(strategy, strategy, response)
    return Rewrite(text, (Step(strategy, text),))


@dataclass(frozen=True)
class _Rewriter:
    """Asks a teacher to improve responses to one dialogue; see `improve`."""

    dialogue: Dialogue
    ask: Ask
    settings: ResponseSettings
    prefix: str

    async def answer(self, prompt: str, step: str, response: str, definition: str = "") -> str:
        """The teacher's answer to a prompt about a response."""
        name = f"{self.prefix}{step}"
        request = _request(prompt, name, self.dialogue, response, self.settings, definition)
        return (await self.ask(request)).text

    async def improve_dimension(self, dimension: str, step: str, response: str) -> str:
        """The response with more of one dimension of empathy."""
        definition = load_prompts("distill").text(dimension)
        return await self.answer("one-dimension", step, response, definition)

    async def improve_lacking(self, response: str) -> Rewrite:
        """Improve the dimension that the response lacks most, by the teacher's own judgement."""
        answer = await self.answer("find-lacking", "lacking", response)
        lacking = [name for name in DIMENSIONS if re.search(rf"\b{name}\b", answer.lower())]
        if len(lacking) != 1:
            raise TeacherError(f"no single dimension in the answer {answer[:60]!r}")
        text = await self.improve_dimension(lacking[0], "lacking-dimension", response)
        return Rewrite(text, (Step("lacking", lacking[0]), Step("lacking-dimension", text)))

    async def improve_in_sequence(self, response: str) -> Rewrite:
        """Improve one dimension after the other. A file of answers may have the last step only."""
        steps: list[Step] = []
        text = response
        for number, dimension in enumerate(DIMENSIONS, 1):
            name = "sequential" if number == len(DIMENSIONS) else f"sequential-{number}"
            try:
                text = await self.improve_dimension(dimension, name, text)
            except StepNotKept:
                continue
            steps.append(Step(name, text))
        return Rewrite(text, tuple(steps))


def _request(
    prompt: str,
    step: str,
    dialogue: Dialogue,
    response: str,
    settings: ResponseSettings,
    definition: str = "",
) -> Request:
    """The request for one step.

    Args:
        prompt: the prompt's name in prompts/distill.yaml.
        step: the step's name, for the request's purpose.
        dialogue: what the response answers.
        response: the text to improve or to rate; empty for `direct`.
        settings: length and sampling.
        definition: of the dimension, for `one-dimension`.
    """
    prompts = load_prompts("distill")
    text = prompts.text(
        prompt,
        utterance=dialogue.utterance,
        context=_situation(dialogue) + _conversation(dialogue),
        earlier=_conversation(dialogue),
        response=response,
        dimensions=prompts.text("dimensions"),
        definition=definition,
        words=str(settings.words),
        most_words=str(settings.most_words),
    )
    one_word = prompt in ONE_WORD_PROMPTS
    return Request(
        messages=({"role": "system", "content": prompts.text("system")}, {"role": "user", "content": text}),
        temperature=0.0 if one_word else settings.temperature,
        max_tokens=ONE_WORD_TOKENS if one_word else settings.max_tokens,
        purpose=f"{dialogue.id} {step}",
    )


def _situation(dialogue: Dialogue) -> str:
    """What a teacher is told of the situation, after a space; empty where it is not known."""
    if not dialogue.situation:
        return ""
    return " " + load_prompts("distill").text("the-situation", situation=dialogue.situation)


def _conversation(dialogue: Dialogue) -> str:
    """What a teacher is told of the conversation so far, after a space; empty where there is none."""
    if not dialogue.earlier_turns:
        return ""
    return " " + load_prompts("distill").text("the-conversation", conversation=dialogue.earlier_turns)
