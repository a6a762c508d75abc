"""Whether a response is well-formed: stopped, neither empty nor too long, no loop, in the right language."""

from __future__ import annotations

import pytest

from empathy_edge.judging.format_checks import CHECKS, check_format, summarize


@pytest.mark.parametrize(
    ("text", "finish", "failed"),
    [
        ("I'm so sorry to hear that.", "stop", set()),
        ("", "stop", {"length"}),
        ("word " * 98, "stop", {"length", "no_loop"}),
        ("I am here for you. " * 4, "length", {"stopped", "no_loop"}),
        ("I hear you, and I am here. I hear you, and I am glad.", "stop", set()),
    ],
)
def test_format_checks(text: str, finish: str, failed: set[str]) -> None:
    found = check_format(text, finish, "I lost my job today and cannot sleep.")
    assert set(found) == set(CHECKS)
    assert {name for name, passed in found.items() if not passed} == failed


@pytest.mark.parametrize(
    ("said", "text", "same"),
    [
        ("I lost my job today.", "I'm sorry. 听到这个消息我很难过。", False),
        ("I lost my job today.", "Das tut mir leid. Wie geht es dir?", False),
        ("I lost my job today.", "Oh no! Arghhhhhhhhh! 😊😊😊😊", True),
        ("Ich habe heute meine Arbeit verloren.", "Das tut mir leid. Wie geht es dir?", True),
        ("Ich habe heute meine Arbeit verloren.", "That must be so hard for you.", False),
        (
            "Jeg mistet jobben min i dag, og jeg er lei meg.",
            "Det er jeg ked af at høre. Hvordan har du det nu?",
            True,
        ),
        ("Hm", "Das tut mir leid.", True),
    ],
)
def test_the_language_must_be_what_was_spoken(said: str, text: str, same: bool) -> None:
    assert check_format(text, "stop", said)["language"] == same


def test_format_summary_is_shares() -> None:
    rows = [
        {"text": "Oh no.", "finish_reason": "stop", "id": "a"},
        {"id": "b", "text": "Oh no.", "finish_reason": "length"},
    ]
    assert summarize(rows, {}) == {
        "responses": 2,
        "ok": 0.5,
        "stopped": 0.5,
        "length": 1.0,
        "no_loop": 1.0,
        "language": 1.0,
        "median_words": 2.0,
    }
