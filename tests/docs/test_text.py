"""The rules for text are tried on their own examples, and the limits on pages made for them."""

from pathlib import Path

import pytest

from scripts import check_text
from scripts.check_text import Rule, all_faults, faults_of_code, faults_of_page, read_rules

RULES = read_rules()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.find.pattern[:30])
def test_each_rule_on_its_examples(rule: Rule) -> None:
    assert rule.wrong and rule.right
    for text in rule.wrong:
        assert rule.found_in(text), text
    for text in rule.right:
        assert not rule.found_in(text), text


def test_the_tree_keeps_to_the_rules() -> None:
    assert list(all_faults()) == []


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(check_text, "ROOT", tmp_path)
    return tmp_path / "page.md"


def test_long_lines_and_sentences_are_found(page: Path) -> None:
    long_line = "word " * 21
    page.write_text(f"# Page\n\n{long_line}\n{long_line}end.\n")
    lines, sentence = list(faults_of_page(page, RULES))[:2], list(faults_of_page(page, RULES))[-1]
    assert all("columns" in line for line in lines) and "a sentence of 43 words" in sentence


def test_tables_code_and_two_sentences_are_left_alone(page: Path) -> None:
    half = "word " * 18 + "end."
    text = f"{half}\n{half.capitalize()}\n\n```sh\n{'x' * 120} the toll\n```\n\n| {'cell ' * 40} |\n|---|\n"
    page.write_text(text + "\n`the toll` is a name in code.\n")
    assert list(faults_of_page(page, RULES)) == []


def test_words_in_docstrings_and_messages_are_found(page: Path) -> None:
    code = page.with_suffix(".py")
    code.write_text(
        '"""What it rests on is said."""\nrests_on = 1\nMESSAGE = f"The toll of {rests_on} bits."\n'
    )
    found = list(faults_of_code(code, RULES))
    assert len(found) == 2 and "page.py:1" in found[0] and "page.py:3" in found[1]


def test_a_guide_that_is_too_long_is_found(page: Path) -> None:
    guide = page.parent / "guides" / "page.md"
    guide.parent.mkdir()
    guide.write_text("Line.\n\n" * 61)
    assert "122 lines (at most 120)" in next(iter(faults_of_page(guide, RULES)))
