"""Two results side by side: which differences are real, and which break a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from rich.markup import escape

from empathy_edge.bench.result_file import ArtifactSamples, LengthSamples, StandardResult
from empathy_edge.bench.timing_intervals import Interval, ratio_interval
from empathy_edge.console import out as stdout
from empathy_edge.console import say, table


@dataclass(frozen=True)
class Difference:
    """One artifact at one prompt length, in a new and an old result.

    Attributes:
        artifact: the name of its file or folder.
        prompt_tokens: the prompt length.
        prefill_tps: how many times as fast the new one reads a prompt, with its interval.
        decode_tps: how many times as fast it makes new tokens, with its interval.
        anonymous_mb: memory that cannot be reclaimed after decoding, of the new result; None if unknown.
        old_anonymous_mb: the same of the old one.
    """

    artifact: str
    prompt_tokens: int
    prefill_tps: Interval
    decode_tps: Interval
    anonymous_mb: float | None
    old_anonymous_mb: float | None

    @property
    def name(self) -> str:
        """For messages."""
        return _name_of(self.artifact, self.prompt_tokens)

    def as_json(self) -> dict[str, object]:
        """For a program: each interval with its names."""
        ratios = {"prefill_tps": self.prefill_tps._asdict(), "decode_tps": self.decode_tps._asdict()}
        return asdict(self) | ratios


class Verdict(NamedTuple):
    """What the comparison with a baseline says of one figure of one test."""

    test: str
    figure: str
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"]


def differences(new: StandardResult, old: StandardResult) -> list[Difference]:
    """For each test that both have, how many times as fast the new one is."""
    old_tests = _tests_of(old)
    found = []
    for name, (row, test) in _tests_of(new).items():
        if name in old_tests:
            found.append(_difference(row, test, *old_tests[name]))
    return found


def not_compared(new: StandardResult, old: StandardResult) -> list[str]:
    """The tests that only one of them has, and which one that is."""
    new_tests, old_tests = _tests_of(new), _tests_of(old)
    alone = [f"{name} (only in the new result)" for name in new_tests if name not in old_tests]
    return alone + [f"{name} (only in the old result)" for name in old_tests if name not in new_tests]


def _tests_of(result: StandardResult) -> dict[str, tuple[ArtifactSamples, LengthSamples]]:
    """Each artifact at each prompt length, by a name for messages."""
    tests = {}
    for row in result.artifacts:
        for test in row.tests:
            tests[_name_of(row.artifact, test.prompt_tokens)] = (row, test)
    return tests


def _name_of(artifact: str, prompt_tokens: int) -> str:
    return f"{artifact} @{prompt_tokens}"


def _difference(
    row: ArtifactSamples, test: LengthSamples, old_row: ArtifactSamples, old_test: LengthSamples
) -> Difference:
    return Difference(
        artifact=row.artifact,
        prompt_tokens=test.prompt_tokens,
        prefill_tps=ratio_interval(
            [sample.prefill_tps for sample in test.samples],
            [sample.prefill_tps for sample in old_test.samples],
        ),
        decode_tps=ratio_interval(
            [sample.decode_tps for sample in test.samples],
            [sample.decode_tps for sample in old_test.samples],
        ),
        anonymous_mb=row.memory_at(test).get("after_decode", {}).get("anonymous"),
        old_anonymous_mb=old_row.memory_at(old_test).get("after_decode", {}).get("anonymous"),
    )


def check_comparable(new: StandardResult, old: StandardResult) -> list[str]:
    """What differs between two results beside what was measured."""
    libraries = sorted({*new.versions, *old.versions})
    return [
        *_changes("machine", new.machine, old.machine, ["cpu", "cores", "system"]),
        *_changes(
            "settings", asdict(new.settings), asdict(old.settings), ["threads", "decode_tokens", "context"]
        ),
        *_changes("version", new.versions, old.versions, libraries),
    ]


def _changes(what: str, new: Mapping[str, object], old: Mapping[str, object], names: list[str]) -> list[str]:
    return [
        f"{what}: {name} {old.get(name)} → {new.get(name)}"
        for name in names
        if new.get(name) != old.get(name)
    ]


def gate(found: list[Difference], tolerance: float) -> list[Verdict]:
    """For each test and figure: PASS, FAIL or INCONCLUSIVE against a baseline.

    Speed fails when the whole interval lies below 1 − tolerance, and passes when the whole of it lies above.
    Memory fails when the anonymous part grew by more than the tolerance and 1 MB.
    """
    verdicts = []
    for item in found:
        verdicts.append(Verdict(item.name, "prefill_tps", _speed_verdict(item.prefill_tps, tolerance)))
        verdicts.append(Verdict(item.name, "decode_tps", _speed_verdict(item.decode_tps, tolerance)))
        if item.anonymous_mb is not None and item.old_anonymous_mb:
            grew = item.anonymous_mb > item.old_anonymous_mb * (1 + tolerance) + 1
            verdicts.append(Verdict(item.name, "anonymous_mb", "FAIL" if grew else "PASS"))
    return verdicts


def _speed_verdict(ratio: Interval, tolerance: float) -> Literal["PASS", "FAIL", "INCONCLUSIVE"]:
    if ratio.high < 1 - tolerance:
        return "FAIL"
    return "PASS" if ratio.low >= 1 - tolerance else "INCONCLUSIVE"


def show(found: list[Difference], notes: list[str], alone: list[str]) -> None:
    """Ratios as a table, and in words which of them are real.

    Args:
        found: what both results have.
        notes: what differs beside the figures.
        alone: the tests that were not compared.
    """
    for note in notes:
        say(f"[yellow]Not the same: {escape(note)}[/]")
    if alone:
        say(f"[yellow]Not compared: {escape(', '.join(alone))}.[/]")
    rows = []
    for item in found:
        now, before = item.anonymous_mb, item.old_anonymous_mb
        memory = f"{before:.0f} → {now:.0f}" if now is not None and before is not None else "–"
        rows.append([item.name, _ratio_cell(item.prefill_tps), _ratio_cell(item.decode_tps), memory])
    stdout.print(table("New over old", ["test", "prefill", "decode", "anonymous MB"], rows))


def _ratio_cell(ratio: Interval) -> str:
    if ratio.low <= 1 <= ratio.high:
        words = "no difference seen"
    else:
        words = "faster" if ratio.value > 1 else "slower"
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {words}"
