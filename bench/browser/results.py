"""Results from browsers: written, read again, and shown beside the host's figures, never among them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from empathy_edge.bench.browser.plan import PhonePlan
from empathy_edge.bench.browser.upload import (
    PhoneDevice,
    PhoneLoad,
    PhoneUpload,
    PhoneWindow,
    claimed_s,
    largest_parting_gap,
    tokens_agree,
)
from empathy_edge.bench.browser.wllama import VERSION
from empathy_edge.bench.latency_summary import LatencySummary
from empathy_edge.bench.result_file import Record
from empathy_edge.bench.timing_intervals import median_interval
from empathy_edge.console import out as stdout
from empathy_edge.console import table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import read_json, write_json

FORMAT: Literal["empathy-edge phone 1"] = "empathy-edge phone 1"
MEASURED_BROWSER: Literal["measured-browser"] = "measured-browser"
"""The label of every figure that a browser measured."""
PATTERN = "phone-*.json"
MINUTE_S = 60.0
BUSY_SHARE = 0.5
"""Where the phone measured less than this share of the time, it did something else, or it lies."""


class BrowserSample(Record):
    """One round: seconds to the first token, tokens per second, and the times they come from."""

    ttft_s: float
    prefill_tps: float
    decode_tps: float
    token_times_s: list[float]


class BrowserResult(Record):
    """One phone's result.

    Attributes:
        format: the layout and its version.
        label: where the figures come from.
        created: when it arrived (ISO 8601, UTC).
        artifact: the name of the model's file or folder.
        model_sha256: of the file.
        model_bytes: of the file.
        runtime: what ran it.
        plan: the hash of the plan.
        device: what the browser told of its phone.
        load: how the model came.
        threads: of the phone's CPU.
        prompt_tokens: read before the new tokens of each round.
        tokens: `same`, `near tie` or `differ`: the greedy tokens beside the host's.
        parting_gap_nats: where they parted, how much likelier the host's token was there; the largest of all
            replies; None where all are the same, or a prompt's own tokens differ.
        samples: of each round.
        windows: of the test of heat.
        hidden: how often the page was hidden.
        elapsed_s: from the start to the result, by this machine's clock.
        doubtful: the time measured is less than half of the time that passed.
    """

    format: Literal["empathy-edge phone 1"]
    label: Literal["measured-browser"]
    created: str
    artifact: str
    model_sha256: str
    model_bytes: int
    runtime: str
    plan: str
    device: PhoneDevice
    load: PhoneLoad
    threads: int
    prompt_tokens: int
    tokens: Literal["same", "near tie", "differ"]
    parting_gap_nats: float | None
    samples: list[BrowserSample]
    windows: list[PhoneWindow]
    hidden: int
    elapsed_s: float
    doubtful: bool

    @property
    def decode_tps(self) -> float:
        """Median of the rounds."""
        return statistics.median(sample.decode_tps for sample in self.samples)

    @property
    def prefill_tps(self) -> float:
        """Median of the rounds."""
        return statistics.median(sample.prefill_tps for sample in self.samples)

    @property
    def ttft_s(self) -> float:
        """Median of the rounds."""
        return statistics.median(sample.ttft_s for sample in self.samples)

    @property
    def phone(self) -> str:
        """What to call it: the person's name for it, or what the browser says."""
        return self.device.name or _system_of(self.device.user_agent)

    @property
    def heat(self) -> tuple[float, float] | None:
        """Tokens per second in the first and in the last minute; None where it ran for less than two."""
        if not self.windows or self.windows[-1].end_s < 2 * MINUTE_S:
            return None
        last = self.windows[-1].end_s - MINUTE_S
        return (
            _rate([window for window in self.windows if window.end_s <= MINUTE_S + 1]),
            _rate([window for window in self.windows if window.end_s - window.seconds >= last - 1]),
        )


def _rate(windows: Sequence[PhoneWindow]) -> float:
    return sum(window.tokens for window in windows) / max(sum(window.seconds for window in windows), 1e-9)


def _system_of(user_agent: str) -> str:
    """What stands in the first brackets of a user agent: the system, and on some phones the model."""
    inside = user_agent.partition("(")[2].partition(")")[0]
    return inside[:60] or "a browser"


def result_of(upload: PhoneUpload, plan: PhonePlan, elapsed_s: float) -> BrowserResult:
    """The record of a checked upload; speeds are computed here, from the times."""
    samples = []
    for sample in upload.samples:
        times_s = sample.token_times_s
        samples.append(
            BrowserSample(
                ttft_s=times_s[0],
                prefill_tps=round(len(plan.bench_ids) / times_s[0], 2),
                decode_tps=round((len(times_s) - 1) / (times_s[-1] - times_s[0]), 2),
                token_times_s=times_s,
            )
        )
    gap = largest_parting_gap(upload, plan)
    return BrowserResult(
        format=FORMAT,
        label=MEASURED_BROWSER,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        artifact=plan.artifact,
        model_sha256=plan.model_sha256,
        model_bytes=plan.size_bytes,
        runtime=f"wllama {VERSION}",
        plan=upload.plan,
        device=upload.device,
        load=upload.load,
        threads=upload.threads,
        prompt_tokens=len(plan.bench_ids),
        tokens=tokens_agree(gap),
        parting_gap_nats=None if gap is None or math.isinf(gap) else gap,
        samples=samples,
        windows=upload.windows,
        hidden=upload.hidden,
        elapsed_s=round(elapsed_s, 1),
        doubtful=claimed_s(upload) < BUSY_SHARE * elapsed_s - 60,
    )


def write_browser_result(folder: Path, result: BrowserResult, run: str) -> Path:
    """Write a result under a name that no phone chose."""
    when = result.created.replace(":", "").replace("-", "")[:15]
    path = folder / f"phone-{when}-{run[:8]}.json"
    write_json(path, result.model_dump(mode="json"))
    return path


def read_browser_result(path: Path) -> BrowserResult:
    """A result that `phone` wrote.

    Raises:
        EmpathyEdgeError: it is another file, or of another version.
    """
    try:
        return BrowserResult.model_validate(read_json(path))
    except ValidationError:
        raise EmpathyEdgeError(f"{path}: is not what `phone` of this version writes ({FORMAT}).") from None


def is_browser_result(path: Path) -> bool:
    """Whether a file is JSON of this layout, of whatever version."""
    try:
        content = read_json(path)
    except EmpathyEdgeError:
        return False
    return isinstance(content, dict) and str(content.get("format", "")).startswith("empathy-edge phone")


def read_browser_results(folder: Path) -> list[BrowserResult]:
    """All results of a folder, the oldest first; none where there is no folder."""
    return [read_browser_result(path) for path in sorted(folder.glob(PATTERN))]


def _is_same_model(row: LatencySummary, result: BrowserResult) -> bool:
    """Whether the host's figures are of that artifact: its name, and its size in MB with one digit."""
    return row.artifact == result.artifact and row.size_mb == round(result.model_bytes / 1e6, 1)


class BesideNative(Record):
    """A result as a report shows it: apart from native figures, with the ratio to them where there are some.

    Attributes:
        result: from the browser.
        native_tps: decode of the same artifact on the host, tokens per second.
        native_threads: of the host's CPU.
    """

    result: BrowserResult
    native_tps: float | None
    native_threads: int | None

    @property
    def ratio(self) -> float | None:
        """Decode in the browser over decode on the host."""
        return self.result.decode_tps / self.native_tps if self.native_tps else None


def beside_native(results: Sequence[BrowserResult], native: Sequence[LatencySummary]) -> list[BesideNative]:
    """Each result with the host's figures of the same artifact, where there are some."""
    rows = []
    for result in results:
        found = next((row for row in native if _is_same_model(row, result)), None)
        rows.append(
            BesideNative(
                result=result,
                native_tps=found.decode_tps_median if found else None,
                native_threads=found.threads if found else None,
            )
        )
    return rows


def show_results(rows: Sequence[BesideNative]) -> None:
    """Print the results as a table."""
    title = "Phones (measured-browser: WebAssembly, not the phone's native speed)"
    stdout.print(table(title, COLUMNS, [cells(row) for row in rows]))


COLUMNS = (
    "phone", "artifact", "threads", "load s", "TTFT s", "prefill tok/s", "decode tok/s", "tokens", "heat",
    "of the host",
)  # fmt: skip


def cells(row: BesideNative) -> list[str]:
    """One result as text for a table with COLUMNS; heat is the first minute's speed and the last's."""
    result = row.result
    decode = median_interval([sample.decode_tps for sample in result.samples])
    heat = f"{result.heat[0]:.1f} → {result.heat[1]:.1f}" if result.heat else "–"
    doubt = " (doubtful)" if result.doubtful else ""
    return [
        result.phone + doubt,
        result.artifact,
        str(result.threads),
        f"{result.load.load_s:.2f}",
        f"{result.ttft_s:.3f}",
        f"{result.prefill_tps:.1f}",
        f"{decode.value:.1f} [{decode.low:.1f}, {decode.high:.1f}]",
        result.tokens,
        heat,
        f"{row.ratio:.0%} ({row.native_threads} threads)" if row.ratio else "–",
    ]
