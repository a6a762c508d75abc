"""Prompts of the strategies, the order in which a strategy asks, and the filters."""

import asyncio
from dataclasses import replace

import pytest

from empathy_edge.bench.release.safety import safety_prompts
from empathy_edge.distill.filters import (
    ABOUT_THE_TASK,
    PLACEHOLDER,
    REFUSAL,
    RejectedResponses,
    Rule,
    fault,
    strip_echo,
)
from empathy_edge.distill.from_teacher import Distilled, _filter
from empathy_edge.distill.strategies import DIMENSIONS, STRATEGIES, Rewrite, improve, rate
from empathy_edge.distill.teacher_settings import ResponseSettings, Strategy
from empathy_edge.formats.dialogue import Dialogue, Response
from empathy_edge.llm.records import Answer, Request, TeacherError
from empathy_edge.prompts import load_prompts
from empathy_edge.text.near_duplicates import NearDuplicates

DIALOGUE = Dialogue("d1", "sad", "My {cat} died.", "She was 14.", (Response("human", "Oh no.", 2),), "train")


def _improve(
    strategy: Strategy, answers: list[str], dialogue: Dialogue = DIALOGUE
) -> tuple[list[Request], Rewrite]:
    asked: list[Request] = []

    async def ask(request: Request) -> Answer:
        asked.append(request)
        return Answer(answers[len(asked) - 1], 1, 1)

    settings = ResponseSettings(words=31, most_words=90)
    return asked, asyncio.run(improve(strategy, dialogue, "Oh no.", ask, settings))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_renders_its_prompts(strategy: Strategy) -> None:
    answers = ["affective", "done"] if strategy == "lacking-dimension" else ["first", "second", "third"]
    asked, rewrite = _improve(strategy, answers)
    assert len(asked) == {"lacking-dimension": 2, "sequential": 3}.get(strategy, 1)
    for request in asked:
        text = request.messages[-1]["content"]
        assert "She was 14." in text and "{response}" not in text and "{words}" not in text
    final = asked[-1].messages[-1]["content"]
    assert "about 31 words, at most 90" in final
    for kept in ("meaning", "intention", "emotion"):
        assert kept in final
    assert rewrite.text == answers[len(asked) - 1]


def test_targeted_prompts_define_their_dimensions() -> None:
    prompts = load_prompts("distill")
    for name in DIMENSIONS:
        assert name.capitalize() in prompts.text("dimensions")
        asked, _ = _improve(name, ["x"])
        assert prompts.text(name) in asked[0].messages[-1]["content"]
        others = [prompts.text(other) for other in DIMENSIONS if other != name]
        assert not any(other in asked[0].messages[-1]["content"] for other in others)
    asked, _ = _improve("naive", ["x"])
    assert "empath" not in asked[0].messages[-1]["content"].lower()


def test_a_teacher_is_told_the_situation_and_the_turns_before_where_there_are_any() -> None:
    turns = ({"role": "user", "content": "Hello."}, {"role": "assistant", "content": "How are you?"})
    for strategy in ("naive", "all-dimensions", "cognitive"):
        asked, _ = _improve(strategy, ["x"], replace(DIALOGUE, situation=""))
        text = asked[0].messages[-1]["content"]
        assert "situation:" not in text.lower() and "said before" not in text and "{" not in text
        asked, _ = _improve(strategy, ["x"], replace(DIALOGUE, history=turns))
        text = asked[0].messages[-1]["content"]
        assert 'The person: "Hello." The reply: "How are you?"' in text
        assert ("The situation: " in text) == (strategy != "naive")


def test_lacking_dimension_improves_the_one_that_was_named() -> None:
    asked, rewrite = _improve("lacking-dimension", ["Compassionate.", "done"])
    assert load_prompts("distill").text("compassionate") in asked[1].messages[-1]["content"]
    assert rewrite.steps[0] == ("lacking", "compassionate")
    with pytest.raises(TeacherError, match="no single dimension"):
        _improve("lacking-dimension", ["cognitive or affective", "never"])


def test_sequential_works_on_the_result_before_and_keeps_it() -> None:
    asked, rewrite = _improve("sequential", ["one", "two", "three"])
    for request, before in zip(asked, ("Oh no.", "one", "two"), strict=True):
        assert f'"{before}"' in request.messages[-1]["content"]
    assert [step.text for step in rewrite.steps] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("answer", "rating"), [("3", 3), ("Rating: 1.", 1), ("maybe", None), ("2 or 3", None)]
)
def test_rating_is_parsed_strictly(answer: str, rating: int | None) -> None:
    async def ask(request: Request) -> Answer:
        return Answer(answer, 1, 1)

    if rating is None:
        with pytest.raises(TeacherError):
            asyncio.run(rate(DIALOGUE, "Oh no.", ask, ResponseSettings()))
    else:
        assert asyncio.run(rate(DIALOGUE, "Oh no.", ask, ResponseSettings())) == rating


@pytest.mark.parametrize(
    ("raw", "bare"),
    [
        ('Improved Response: "Oh, I\'m sorry."', "Oh, I'm sorry."),
        ("Here is the improved reply:\nThat hurts.", "That hurts."),
        ("Here’s a better answer: That hurts.", "That hurts."),
        ("“You must miss her.”", "You must miss her."),
        ("reply: Response: Take care.", "Take care."),
        ("I'm here: always.", "I'm here: always."),
        ('"Hi" she said, "no"', '"Hi" she said, "no"'),
    ],
)
def test_echoes_and_quotes_are_stripped(raw: str, bare: str) -> None:
    assert strip_echo(raw) == bare


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (" ", "empty"),
        ("As an AI language model I don't have feelings.", "refusal"),
        ("Maybe you should just end your life.", "self-harm advice"),
        ("word " * 98, "too long"),
        ("Das tut mir sehr leid, ich wünsche dir und deiner Familie viel Kraft.", "wrong language"),
        ("对不起，我很难过", "wrong language"),
        ("Das tut mir leid.", None),
        ("My old cat died on Tuesday in my arms.", "copy"),
        ("Oh no, that is so hard, please take good care.", "copy"),
        ("I'm so sorry about your cat. She was loved, and you were there for her.", None),
        ("No!", None),
        ("Dear [Person's Name], I am so sorry that your computer broke.", "placeholder"),
        ("The reply shows more understanding of what the person feels now.", "about the task"),
    ],
)
def test_filters(text: str, name: str | None) -> None:
    pytest.importorskip("py3langid")
    found = fault(
        text,
        utterance="My old cat died on Tuesday in my arms.",
        original="Oh no, that is so hard, please take good care.",
        max_words=97,
    )
    assert found == name


@pytest.mark.parametrize("rule", [REFUSAL, PLACEHOLDER, ABOUT_THE_TASK])
def test_rules_have_examples(rule: Rule) -> None:
    for text in (*rule.rejects, *(example.replace("'", "’") for example in rule.rejects)):
        assert rule.matches(text), text
    assert [text for text in rule.accepts if rule.matches(text)] == []


def test_what_a_teacher_answers_to_test_and_safety_prompts_becomes_no_row() -> None:
    """The safety prompts were left out with `rated` alone."""
    pytest.importorskip("py3langid")
    kept, safety = replace(DIALOGUE, id="t", split="test"), safety_prompts()[0].utterance
    said = {
        "ours": "My boat sank on the day I bought it.",
        "tested": f"{kept.utterance.upper()}!",
        "safety": safety.replace("'", "’"),
    }
    results = [
        Distilled(replace(DIALOGUE, id=name, utterance=text), "", None, f"I hear you about {name}.", ())
        for name, text in said.items()
    ]
    rejected = RejectedResponses()
    assert [item.dialogue.id for item in _filter(results, [kept], 90, rejected)] == ["ours"]
    counts = {name: item.count for name, item in rejected.report().items()}
    assert counts == {"in the test split": 1, "among the safety prompts": 1}


def test_near_duplicates() -> None:
    first = "I am so sorry for your loss, it must be very hard for you and your family right now."
    seen = NearDuplicates([first])
    assert seen.has(first) and seen.has(first.replace("right now", "just now"))
    assert NearDuplicates(["I don't know why I'm sad."]).has("I don’t know why I’m sad.")
    assert not seen.has("Congratulations, you earned every bit of this, enjoy the day with them!")
