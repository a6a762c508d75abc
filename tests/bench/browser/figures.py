"""The figures of docs/results/phone.md: an artifact in Chromium beside the same artifact natively.

Run as `python -m tests.bench.browser.figures ARTIFACT [--shots FOLDER] [--threads N …]`.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import statistics
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from empathy_edge.bench.browser.wllama import wllama_files
from empathy_edge.system.machine import machine
from tests.bench.browser.chromium import Browser, browser, chromedriver
from tests.bench.browser.serving import serving
from tests.conftest import run_command

LENGTHS = ("--prompt-tokens", "128", "--decode-tokens", "32")
ROUNDS = "5"
COLUMNS = (
    "threads", "load s", "browser prefill (best)", "browser decode (best)", "native prefill (best)",
    "native decode (best)", "ratio of prefill", "ratio of decode", "tokens",
)  # fmt: skip


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact")
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, {here['system']}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory() as scratch, chromedriver(Path(scratch)) as driver:
        for threads in given.threads:
            folder = Path(scratch) / str(threads)
            found = in_chromium(given.artifact, threads, driver, folder, given.shots)
            native = natively(given.artifact, threads, folder)
            print(row(found, native, threads), flush=True)
    print(f"\nThe page without the model, compressed: {page_weight() / 1e6:.2f} MB")


def in_chromium(artifact: str, threads: int, driver: str, folder: Path, shots: Path | None) -> dict[str, Any]:
    """The result that the page sent."""
    options = (*LENGTHS, "--rounds", ROUNDS, "--threads", str(threads), "--context", "1024")
    with serving(artifact, folder, *options) as served, browser(driver) as page:
        page.open(served.url)
        page.load_model()
        page.say("I failed my exam, and my parents do not know it yet.")
        page.set("phone-name", "Chromium on the host")
        if "NOT" in page.measure():
            raise SystemExit("the tokens are not those of the host")
        if shots is not None:
            save_shots(page, shots)
        (file,) = folder.glob("phone-*.json")
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def page_weight() -> int:
    """Bytes of all that is served beside the model, as browsers get it; wllama's two builds included."""
    folder = resources.files("empathy_edge.bench.browser") / "page"
    files = [item.read_bytes() for item in folder.iterdir() if item.is_file()]
    return sum(len(gzip.compress(content, 6)) for content in (*files, *wllama_files().values()))


def save_shots(page: Browser, folder: Path) -> None:
    """The page, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.devtools(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        (folder / f"phone-{scheme}.png").write_bytes(base64.b64decode(page.screenshot()))


def natively(artifact: str, threads: int, folder: Path) -> list[dict[str, float]]:
    """The samples of `bench` with the same lengths and threads."""
    file = folder / "native.json"
    done = run_command(
        "bench", artifact, *LENGTHS, "--repetitions", ROUNDS, "--threads", str(threads), "--json", file
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    (found,) = json.loads(file.read_text())["artifacts"]
    samples: list[dict[str, float]] = found["tests"][0]["samples"]
    return samples


def row(found: dict[str, Any], native: list[dict[str, float]], threads: int) -> str:
    """One line of the table: medians, and the best round, which a busy machine disturbs least."""
    rates = ("prefill_tps", "decode_tps")
    cells = [str(threads), f"{found['load']['load_s']:.2f}"]
    for samples in (found["samples"], native):
        for name in rates:
            values = [item[name] for item in samples]
            cells.append(f"{statistics.median(values):.1f} ({max(values):.1f})")
    for name in rates:
        best = [max(item[name] for item in samples) for samples in (found["samples"], native)]
        cells.append(f"{best[0] / best[1]:.1%}")
    gap = found["parting_gap_nats"]
    cells.append(found["tokens"] + (f" ({gap} nats)" if gap else ""))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
