"""A judge's certificate: kept on this machine, made again where it is damaged or of another method."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from empathy_edge.bench.check import certificate
from empathy_edge.bench.check.certificate import (
    CERTIFICATE_PAIRS,
    Agreement,
    agreement_with_readers,
    judge_record,
    known_doubts,
    read_pairs,
)
from empathy_edge.data import certification_pairs, judges_file
from empathy_edge.judging.raters.rater import Rater, ToRate
from empathy_edge.system.files import read_json
from empathy_edge.system.hash_cache import sha256_file


class Readers(Rater):
    """Rates the shipped pairs as most of their readers do, and counts how many it is asked for."""

    tuned = False

    def __init__(self, identity: str = "readers") -> None:
        self.name, self.identity, self.asked = "readers", identity, 0
        self._liked = {
            pair.artifact if pair.preferred == "artifact" else pair.reference for pair in read_pairs()
        }

    def rate_many(
        self, items: Sequence[ToRate], rated: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        self.asked += len(items)
        return [[float(reply in self._liked) for reply in item.replies] for item in items]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept_file(cache: Path) -> Path:
    (kept,) = (cache / "judges").glob("*.json")
    return kept


def test_a_certificate_is_made_once(cache: Path) -> None:
    rater = Readers()
    assert known_doubts(rater) is None
    first = judge_record(rater)
    assert first.certified and first.pairs == rater.asked == CERTIFICATE_PAIRS
    assert judge_record(rater) == first and rater.asked == CERTIFICATE_PAIRS
    assert known_doubts(rater) == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:40],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"longer_by_judge"', '"longer"'),
        lambda text: text.replace('"agreement": {', '"agreement": {"equal_pairs": 0,'),
        lambda text: json.dumps(
            {"agreement": json.loads(text)["agreement"] | {"low": float("nan"), "share": 2.0}}
        ),
    ],
)
def test_a_damaged_or_older_one_is_made_again(change: Callable[[str], str], cache: Path) -> None:
    rater = Readers()
    first = judge_record(rater)
    kept = kept_file(cache)
    whole = kept.read_text()
    kept.write_text(change(whole))
    assert known_doubts(rater) is None
    assert judge_record(rater) == first and rater.asked == 2 * CERTIFICATE_PAIRS
    assert kept.read_text() == whole


def test_one_of_another_method_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rater = Readers()
    judge_record(rater)
    monkeypatch.setattr(certificate, "METHOD", certificate.METHOD + 1)
    assert known_doubts(rater) is None
    judge_record(rater)
    assert rater.asked == 2 * CERTIFICATE_PAIRS


def test_the_shipped_ones_are_of_the_shipped_pairs(cache: Path) -> None:
    shipped = read_json(judges_file())
    assert shipped
    for identity, found in shipped.items():
        assert found["pairs_sha256"] == sha256_file(certification_pairs())
        assert known_doubts(Readers(identity)) == Agreement.model_validate(found["agreement"]).doubts()
    assert not list((cache / "judges").glob("*"))


def test_pairs_that_readers_call_equal_say_nothing() -> None:
    """docs/statistics.md says so, and that no shipped pair is one of them."""
    pairs = read_pairs()
    assert "equal" not in {pair.preferred for pair in pairs}
    ratings = [(float(pair.preferred == "reference"), 0.5) for pair in pairs]
    found = agreement_with_readers(pairs, ratings)
    assert found.share == 1.0
    equal = [replace(pair, readings=("equal",) * 3) for pair in pairs[:100]]
    assert agreement_with_readers([*pairs, *equal], [*ratings, *[(1.0, 0.0)] * 100]) == found
