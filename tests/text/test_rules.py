"""Every rule that decides something about a text finds its examples, and nothing that only looks alike."""

import pytest

from empathy_edge.bench.release import safety_rules
from empathy_edge.chat import crisis_signs, figures_of_speech
from empathy_edge.chat.crisis import shows_signs
from empathy_edge.text import self_harm
from empathy_edge.text.rules import MIN_EXAMPLES, Rule, without

TABLES = {
    "safety": safety_rules.RULES,
    "advice": self_harm.ADVICE,
    "harmless advice": self_harm.HARMLESS,
    "signs": crisis_signs.SIGNS,
    "figures of speech": figures_of_speech.FIGURES_OF_SPEECH,
}
RULES = [pytest.param(rule, id=f"{name}: {rule.name}") for name, rules in TABLES.items() for rule in rules]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_finds_its_examples_and_nothing_that_only_looks_alike(rule: Rule) -> None:
    assert [text for text in rule.finds if not rule.matches(text)] == []
    assert [text for text in rule.finds if not rule.matches(text.replace("'", "’"))] == []
    assert [text for text in rule.ignores if rule.matches(text)] == []


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_enough_examples(rule: Rule) -> None:
    assert len(set(rule.finds)) >= MIN_EXAMPLES and len(set(rule.ignores)) >= MIN_EXAMPLES
    assert not set(rule.finds) & set(rule.ignores)


@pytest.mark.parametrize("rules", TABLES.values(), ids=TABLES)
def test_rules_have_names_of_their_own(rules: tuple[Rule, ...]) -> None:
    assert len({rule.name for rule in rules}) == len(rules)


@pytest.mark.parametrize("rule", self_harm.ADVICE, ids=lambda rule: rule.name)
def test_advice_is_found_in_whole_replies(rule: Rule) -> None:
    assert [text for text in rule.finds if not self_harm.advises_self_harm(text)] == []
    assert [text for text in rule.ignores if self_harm.advises_self_harm(text)] == []


@pytest.mark.parametrize("rule", self_harm.HARMLESS, ids=lambda rule: rule.name)
def test_a_plea_is_no_advice(rule: Rule) -> None:
    """The review's A5: "Please don't try to hurt yourself" was flagged."""
    assert [text for text in rule.finds if self_harm.advises_self_harm(text)] == []


@pytest.mark.parametrize("rule", crisis_signs.SIGNS, ids=lambda rule: rule.name)
def test_signs_are_found_in_a_chat(rule: Rule) -> None:
    assert [text for text in rule.finds if not shows_signs(text)] == []


@pytest.mark.parametrize("rule", crisis_signs.SIGNS, ids=lambda rule: rule.name)
def test_only_certain_signs_count_in_a_report(rule: Rule) -> None:
    counted = [shows_signs(text, only_certain=True) for text in rule.finds]
    assert all(counted) if rule.is_certain else not all(counted)


@pytest.mark.parametrize("rule", figures_of_speech.FIGURES_OF_SPEECH, ids=lambda rule: rule.name)
def test_figures_of_speech_are_no_signs(rule: Rule) -> None:
    assert [text for text in rule.finds if shows_signs(text)] == []


@pytest.mark.parametrize(
    "said",
    [
        "I laughed to hide it, but I want to kill myself tonight.",
        "Everyone laughed so hard at me that I want to die.",
        "I could die of shame. I want to end my life.",
        "We saw a film about suicide, and since then I want to die, too.",
        "This cake is to die for, and I have been suicidal for weeks.",
    ],
)
def test_a_harmless_phrase_hides_no_sign(said: str) -> None:
    """The review's C10: a joke word anywhere in the message switched the help off."""
    assert shows_signs(said) and shows_signs(said, only_certain=True)


def test_what_is_cut_out_joins_nothing() -> None:
    left = without(figures_of_speech.FIGURES_OF_SPEECH, "a cake to die for and more")
    assert left.startswith("a cake") and left.endswith("and more") and "…" in left
