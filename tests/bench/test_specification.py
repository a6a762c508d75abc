"""Devices that nobody measured: the speed of a chip from its specification."""

import math
from pathlib import Path

import pytest

from empathy_edge.bench.phones.model import PHASES, Rates
from empathy_edge.bench.phones.predict import predict
from empathy_edge.bench.phones.specification import (
    TERMS,
    can_describe,
    half_width,
    slowness,
    specification_fit,
    specification_of,
)
from empathy_edge.bench.phones.specification_fit import (
    Chip,
    covered,
    interval,
    mean_absolute_error,
    measured_chips,
    regress,
)
from empathy_edge.bench.phones.workload import Workload
from empathy_edge.devices import Device, device_ids, load_device, parse_device
from tests.conftest import assert_one_clear_error, run_command

COMMON = Rates({"q4_0": 1.0}, 0.0, 0.0, {"q4_0": 9})
WORKLOAD = Workload("m", {"q4_0": 1.0}, {"q4_0": 2.0}, 24)


def device(name: str, bandwidth: float, cores: int, ghz: float) -> Device:
    text = f"""
name: {name}
soc: {name}
tier: flagship
isa: {{value: dotprod, kind: measured, source: a made-up chip}}
clusters:
  value: [{{cores: {cores}, ghz: {ghz}, core: Cortex-X1}}]
  kind: datasheet
  source: a made-up chip
figures:
  memory_bandwidth_peak_gb_per_s: {{value: {bandwidth}, kind: datasheet, source: a made-up chip}}
"""
    return parse_device(text, name, name)


def chips() -> list[Chip]:
    """Chips whose decode speed is exp(3) (bandwidth/50)^0.8 (cores/30)^0.3."""
    found = []
    for number in range(24):
        bandwidth, cores, ghz = 15 + 9 * (number % 7), 1 + number % 4, 1.5 + 0.3 * (number % 5)
        speed = math.exp(3) * (bandwidth / 50) ** 0.8 * (4 * cores * ghz / 30) ** 0.3
        found.append(Chip(device(f"chip-{number}", bandwidth, cores, ghz), [(WORKLOAD, 1 / speed)]))
    return found


def test_the_regression_finds_what_was_put_in() -> None:
    found = regress(chips(), COMMON, "decode")
    assert found["speed"] == pytest.approx(3, abs=0.05)
    assert found["bandwidth"] == pytest.approx(0.8, abs=0.06)
    assert found["cores"] == pytest.approx(0.3, abs=0.06)


def test_every_chip_weighs_the_same() -> None:
    """One chip with a hundred small errors does not hide the other nine's."""
    errors = {"often": [0.01] * 100, **{f"c{number}": [0.1 * number] for number in range(1, 10)}}
    assert interval(errors) == pytest.approx(0.9)
    assert covered(errors) == pytest.approx(0.9)
    assert mean_absolute_error({"a": [math.log(1.5)], "b": [0.0] * 50}) == pytest.approx(0.25)


def test_the_shipped_fit_is_complete_and_as_good_as_the_page_says() -> None:
    fit = specification_fit()
    for phase in PHASES:
        found = fit.phase(phase)
        assert tuple(found.coefficients) == TERMS[phase]
        assert found.chips >= 10 and found.mean_absolute_error <= 0.25 and 0.85 <= found.covered <= 0.95
    assert [chip.device.id for chip in measured_chips([], "prefill")][:2] == [
        "cix-cp8180",
        "dimensity-9000-plus",
    ]


def test_all_profiles_but_one_can_be_predicted() -> None:
    known = [name for name in device_ids() if can_describe(load_device(name))]
    assert set(device_ids()) - set(known) == {"redmi-note-12"}
    old, new = load_device("redmi-note-9-pro"), load_device("galaxy-s25-ultra")
    for phase in PHASES:
        slow, fast = slowness(old, phase), slowness(new, phase)
        assert slow is not None and fast is not None and slow > 1.5 * fast
    specification = specification_of(load_device("raspberry-pi-4"))
    assert specification is not None and not specification.dotprod and specification.fan
    assert half_width(load_device("iphone-13-pro"), "decode") == 2 * half_width(new, "decode")


def test_cores_of_one_name_need_not_be_as_wide() -> None:
    """Oryon's performance cores begin half as many products in a cycle as its prime cores."""
    specification = specification_of(load_device("poco-myron"))
    assert specification is not None
    assert specification.decode_cores == pytest.approx(2 * 4.6 * 4 + 2 * 3.62 * 2)


def test_a_device_that_nobody_measured(exported: Path) -> None:
    artifact = str(exported / "gguf-q8_0")
    result = run_command("bench", "predict", "--device", "pixel-8", "--artifact", artifact)
    assert result.returncode == 0, result.stderr
    assert "nobody measured it" in " ".join(result.stderr.split())
    found, measured = predict(artifact, "pixel-8").decode_tps, predict(artifact, "poco-myron").decode_tps
    assert found is not None and measured is not None
    assert found.high / found.low > measured.high / measured.low


def test_the_closest_names_are_offered() -> None:
    result = run_command("devices", "pixel8")
    assert_one_clear_error(result, 2, "Did you mean pixel-8")
