"""The model card and the chain of hashes, read from the manifests that lie around an artifact in its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.system.files import MANIFEST, read_json

STAGES = ("distill", "finetune/sft", "finetune/own-pairs", "finetune/dpo", "export/merged")
"""What stands behind an artifact, in the order of the road, as a run's folder has it."""


def chain_of(artifact: Path) -> dict[str, Any]:
    """From the artifact back to base and data, as far as manifests lie around it.

    Returns:
        `base` and `base_sha256` where known; `trained`: how each adapter was made; `stages`: for each its settings and the hashes of what went in.
    """
    run = artifact.parent.parent
    chain: dict[str, Any] = {"stages": {}}
    for name in STAGES:
        # `export` alone writes merged/ beside the artifact, a whole run has all of them.
        file = (
            run / name / MANIFEST
            if (run / name / MANIFEST).is_file()
            else artifact.parent / Path(name).name / MANIFEST
        )
        if not file.is_file():
            continue
        made = read_json(file)
        settings = made.get("settings", {})
        inputs = {role: item["sha256"] for role, item in made.get("inputs", {}).items()}
        chain["stages"][name] = {"settings": settings, "inputs": inputs}
        if trained := made.get("results", {}).get("trained"):
            chain["trained"] = trained
        if "base_sha256" in settings:
            chain |= {"base": settings["base"], "base_sha256": settings["base_sha256"]}
    if (run / "distill" / MANIFEST).is_file():
        data = read_json(run / "distill" / MANIFEST)["inputs"].get("data")
        chain |= {"data": data} if data else {}
    return chain


def model_card(artifact: Path, made: dict[str, Any], chain: dict[str, Any]) -> str:
    """Markdown: what it is, from what, how, how good, how far to trust it."""
    what = made["artifact"]
    lines = [
        f"# {what['name']}: a small language model fine-tuned to answer with empathy",
        "",
        f"- Base: {chain.get('base', 'not recorded')}" + _short(chain.get("base_sha256")),
        f"- Data: {chain.get('data', {}).get('path', 'not recorded')}"
        + _short(chain.get("data", {}).get("sha256")),
        f"- Method: {_method(chain, what)}",
        f"- Format: {what['format']}, {what['quantization']} ({what.get('method', 'plain')}), {what['size_mb']} MB"
        + _short(what["sha256"]),
        f"- Made on {made['created'][:10]} with empathy-edge {made['versions'].get('empathy-edge', '?')}.",
        "",
        "## Figures",
        "",
        *_figures(artifact),
        "",
        "## Limits",
        "",
        "- Not a therapist, and no help in a crisis: it does not notice danger. An app must offer people real help.",
        "- It answers one message in English, in a few sentences; longer conversations were neither trained nor measured.",
        "- It may misread who did what to whom, condole where there is joy, or claim a life of its own.",
        "- Figures are of the machine and prompts named above. Measure again on your phone and with your users' words.",
        "",
    ]
    return "\n".join(lines)


def _short(sha256: str | None) -> str:
    return f" (sha256 {sha256[:16]}…)" if sha256 else ""


def _method(chain: dict[str, Any], artifact: dict[str, Any]) -> str:
    steps = []
    for made in chain.get("trained", []):
        step = f"{(made['step'] or 'training').upper()} with LoRA of rank {made['lora_rank']}"
        known = made["epochs"] is not None and made["learning_rate"] is not None
        steps.append(step + (f", {made['epochs']:g} epochs at {made['learning_rate']:g}" if known else ""))
    end = "laid beside the base as it is" if artifact.get("method") == "lora" else "merged in full precision"
    return f"{', then '.join(steps)}, {end}" if steps else "not recorded"


def _figures(artifact: Path) -> list[str]:
    """What verify, bench and gate measured on this artifact, where they did."""
    lines = []
    verified = artifact.parent / "verify" / "verify.json"
    if row := _row(verified, artifact.name):
        lines.append(
            f"- Against the full-precision checkpoint, {row['positions']} response tokens: mean KL {row['mean_kl']:.4f} nats, "
            f"p99 {row['p99_kl']:.3f}, top-1 agreement {row['top1_agreement']:.1%}; verify says {row['verdict']}."
        )
    run = artifact.parent.parent
    measured = run / "bench" / MANIFEST
    if measured.is_file():
        bench = read_json(measured)
        if row := next(
            (item for item in bench["results"]["artifacts"] if item["artifact"] == artifact.name), None
        ):
            machine = bench["machine"]
            lines.append(
                f"- On the host ({machine['cpu']}, {row['threads']} threads, no phone), {row['repetitions']} repetitions, median: "
                f"prefill {row['prefill_tps_median']:.0f}, decode {row['decode_tps_median']:.0f} tokens/s."
            )
    gate = run / "gate" / "gate.json"
    if gate.is_file() and (verdict := read_json(gate).get(artifact.name)):
        reasons = "; ".join(verdict["reasons"])
        lines.append(f"- Gate: {verdict['verdict']}" + (f" ({reasons})." if reasons else "."))
    return lines or ["- None were measured in this run: `empathy-edge bench` and `empathy-edge gate` do it."]


def _row(file: Path, name: str) -> dict[str, Any] | None:
    rows = read_json(file) if file.is_file() else []
    return next((row for row in rows if row["artifact"] == name and "mean_kl" in row), None)
