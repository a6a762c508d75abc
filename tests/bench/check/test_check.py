"""The check of artifacts: tiny real models, the real command line."""

import gzip
import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from empathy_edge.bench.check.baseline.drawing import draw_records, require_same_model
from empathy_edge.bench.check.baseline.record import Baseline, read_baseline, write_baseline
from empathy_edge.bench.check.certificate import open_judge
from empathy_edge.bench.check.make import make_baseline
from empathy_edge.bench.check.prompts import read_prompts
from empathy_edge.bench.check.run import _labels, check, require_ready
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.judging.raters.rater import ToRate
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import CheckSettings, ReplySettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import sha256_json
from tests.commands.tree import assert_says_next
from tests.conftest import CHECK_REPLIES, assert_one_clear_error, run_command


@pytest.fixture
def certified(baseline_file: Path, tmp_path: Path) -> Path:
    """The same baseline, as with a certified judge who tells the replies to other prompts apart."""
    known = read_baseline(baseline_file)
    rater = open_judge(known.judge.name, ApiSettings())
    prompts = []
    for record in known.prompts:
        item = ToRate(list(record.messages), [reply.text for reply in record.replies])
        replies = [
            reply.model_copy(update={"rating": rating})
            for reply, rating in zip(record.replies, rater.rate_many([item])[0], strict=True)
        ]
        prompts.append(record.model_copy(update={"replies": tuple(replies), "misplaced_rating": -99.0}))
    judge = known.judge.model_copy(
        update={"agreement": 0.95, "agreement_low": 0.9, "agreement_high": 0.99, "pairs": 200, "doubts": ()}
    )
    file = tmp_path / "certified.json.gz"
    write_baseline(file, known.model_copy(update={"judge": judge, "prompts": tuple(prompts)}))
    return file


def test_an_exact_copy_passes_whatever_the_judge(baseline_file: Path, exported: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"check.{name}" for name in ("json", "xml", "md")}
    result = run_command(
        "check", exported / "gguf-f16", "--baseline", baseline_file,
        "--json", files["json"], "--junit", files["xml"], "--markdown", files["md"],
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "gguf-f16 keeps it" in result.stdout and "whatever the judge" in result.stdout
    found = json.loads(files["json"].read_text())
    (artifact,) = found["artifacts"]
    assert found["power"] is None and found["controls"] is None
    assert artifact["verdict"] == "PASS" and artifact["decided_by"] == "likelihood, any judge"
    assert 0.45 <= artifact["win_rate_low"] <= 0.5 <= artifact["win_rate_high"]
    assert artifact["effective_share"] > 0.99 and artifact["prompts_scored"] >= 64
    assert 'failures="0"' in files["xml"].read_text() and "| gguf-f16 | PASS |" in files["md"].read_text()


def test_without_a_certified_judge_a_far_artifact_is_undecided(baseline_file: Path, damaged: Path) -> None:
    result = run_command("check", damaged, "--baseline", baseline_file)
    assert result.returncode == 4, result.stdout
    said = " ".join(result.stdout.split())
    assert "UNDECIDED" in said and "it takes a certified judge: people (--judge sheet:ratings.csv)" in said
    assert "no judge compared its replies with the reference's: likelihood:" in said
    assert "step 3" not in said and "step 4" not in said
    assert said.count("of unequal pairs") == 0 and said.count("it agrees with readers on") == 1
    assert "; more than 55% is needed" in said
    assert "Power: without a judge that counts no loss is seen; only what is ruined FAILs." in said
    assert "--out judged.json.gz --max-prompts 80 --temperature 0.5" in result.stderr
    assert "--judge openai:MODEL" in result.stderr
    assert_says_next(result, "empathy-edge baseline ")
    assert result.stderr.rstrip().endswith("--judge sheet:ratings.csv")


def test_a_damaged_model_fails_by_the_judge(certified: Path, damaged: Path, tmp_path: Path) -> None:
    judge = read_baseline(certified).judge.name
    unnamed = run_command("check", damaged, "--baseline", certified)
    assert unnamed.returncode == 4 and f"add --judge {judge}" in unnamed.stdout.replace("\n", "")
    assert "Power of step 4" not in unnamed.stdout
    files = tmp_path / "check.json", tmp_path / "check.md"
    written = ("--json", files[0], "--markdown", files[1])
    result = run_command("check", damaged, "--baseline", certified, "--judge", judge, *written)
    power = json.loads(files[0].read_text())["power"]
    sentence = (
        f"Power of step 4: a loss of {100 * power['loss']:.1f} points (by the judge; at most "
        f"{100 * power['loss_in_truth']:.1f} in truth) would FAIL in 80% of such runs; an artifact that lost "
        f"nothing would PASS in {power['unharmed_passes']:.0%}."
    )
    assert sentence in " ".join(result.stdout.split()) and sentence in files[1].read_text()
    assert result.returncode == 1, result.stdout + result.stderr
    assert "does not keep it: at best" in result.stdout and "decided by judge" in result.stdout


def test_an_exact_copy_passes_with_greedy_replies(baseline_file: Path, exported: Path) -> None:
    result = run_command("check", exported / "gguf-f16", "--baseline", baseline_file, "--greedy")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "decided by identical replies" in result.stdout


@pytest.mark.slow
def test_onnx_and_a_reference_given_at_once(tiny_model: Path, exported_onnx: Path, exported: Path) -> None:
    judge = f"likelihood:{exported / 'gguf-f16'}"
    result = run_command(
        "check", exported_onnx / "onnx-int4", "--reference", tiny_model, *CHECK_REPLIES, "--judge", judge
    )
    assert result.returncode == 4, result.stdout + result.stderr
    assert "onnx-int4 is undecided" in result.stdout


def test_an_artifact_that_cannot_be_opened_fails(baseline_file: Path, exported: Path, tmp_path: Path) -> None:
    file = next((exported / "gguf-f16").glob("*.gguf"))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = run_command("check", cut, "--baseline", baseline_file)
    assert result.returncode == 1 and "cut.gguf does not keep it: cannot be opened" in result.stdout
    assert "truncated" in result.stdout


def test_an_artifact_that_ends_replies_elsewhere_fails(
    baseline_file: Path, exported: Path, tmp_path: Path
) -> None:
    from gguf import GGUFReader

    file = tmp_path / "other-end.gguf"
    shutil.copyfile(next((exported / "gguf-f16").glob("*.gguf")), file)
    reader = GGUFReader(file, "r+")
    for name in ("eos", "eot"):
        reader.fields[f"tokenizer.ggml.{name}_token_id"].parts[-1][0] = 7
    template = reader.fields["tokenizer.chat_template"].parts[-1]
    template[:] = list(bytes(template).replace(b"<|im_end|>", b"<|im_sep|>"))
    reader.data.flush()
    result = run_command("check", file, "--baseline", baseline_file)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "it stops at" in result.stdout or "does not stop at" in result.stdout


def test_a_missing_artifact_is_an_error(baseline_file: Path) -> None:
    result = run_command("check", "nowhere/gguf-q8_0", "--baseline", baseline_file)
    assert_one_clear_error(result, 2, "nowhere/gguf-q8_0", "no such file")


def test_what_is_no_model_is_an_error_and_no_verdict(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    page, saved = folder / "README.md", tmp_path / "model.gguf"
    page.write_text("# Hello")
    saved.write_text("<html>404</html>")
    no_weights = tmp_path / "no-weights"
    no_weights.mkdir()
    (no_weights / "config.json").write_text("{}")
    words = {
        folder: "no config.json in it; it is no checkpoint folder",
        page: "is not a GGUF model file",
        saved: "is not a GGUF model file",
        no_weights: "no .safetensors file in it",
    }
    for path, found in words.items():
        with pytest.raises(EmpathyEdgeError, match=f"{path.name}: {found}"):
            require_ready([str(exported / "gguf-f16"), str(path)])


def test_a_folder_without_a_model_ends_the_command(baseline_file: Path, tmp_path: Path) -> None:
    result = run_command("check", tmp_path, "--baseline", baseline_file)
    assert_one_clear_error(result, 2, str(tmp_path), "no checkpoint folder")
    assert "does not keep it" not in result.stdout


def test_a_damaged_file_that_begins_as_a_model_is_checked(exported: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(next((exported / "gguf-f16").glob("*.gguf")).read_bytes()[:1000])
    require_ready([str(cut)])


def test_too_small_a_context_window_is_no_verdict(baseline_file: Path, exported: Path) -> None:
    """The tiny model reads 512 tokens; the others' verdicts stay."""
    known = read_baseline(baseline_file)
    longer = known.settings.model_copy(update={"max_new_tokens": 500})
    copy = str(exported / "gguf-f16")
    (found,) = check([copy], known.model_copy(update={"settings": longer}), CheckSettings()).artifacts
    assert found.verdict == "UNDECIDED" and (found.win_rate_low, found.win_rate_high) == (0, 1)
    assert "its context window has 512 tokens" in found.notes[0]
    assert "fewer --max-new-tokens" in found.to_decide and found.identity


def test_a_package_that_is_missing_takes_no_verdict_away(
    baseline_file: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported / "gguf-f16", other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["artifact"]["format"] = "onnx-genai"
    (other / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    known = read_baseline(baseline_file)
    copy, found = check([str(exported / "gguf-f16"), str(other)], known, CheckSettings()).artifacts
    assert copy.verdict == "PASS"
    assert found.verdict == "UNDECIDED" and "onnxruntime_genai" in found.notes[0].replace("-", "_")
    with pytest.raises(PrerequisiteError):
        check([str(other)], known, CheckSettings())


def test_a_quantized_reference_is_refused(exported: Path, tmp_path: Path) -> None:
    file = next((exported / "gguf-q8_0").glob("*.gguf"))
    out = tmp_path / "b.json.gz"
    result = run_command("baseline", file, "--judge", f"likelihood:{exported / 'gguf-f16'}", "--out", out)
    assert_one_clear_error(result, 2, "quantized", "--allow-quantized-reference")


def test_a_baseline_changed_by_hand_is_refused(baseline_file: Path, exported: Path, tmp_path: Path) -> None:
    document = json.loads(gzip.decompress(baseline_file.read_bytes()))
    document["baseline"]["settings"]["temperature"] = 0.9
    file = tmp_path / "changed.json.gz"
    file.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert_one_clear_error(
        run_command("check", exported / "gguf-f16", "--baseline", file), 2, "changed.json.gz", "changed after"
    )
    document["baseline"]["format"] = "empathy-edge baseline 0"
    file.write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(EmpathyEdgeError, match="baseline 0"):
        read_baseline(file)


def test_a_baseline_is_read_with_and_without_optional_fields(baseline_file: Path, tmp_path: Path) -> None:
    content = json.loads(gzip.decompress(baseline_file.read_bytes()))["baseline"]
    assert not any(
        "q2_k_text" in record for record in content["prompts"]
    )  # so that it is read by versions before
    for record in content["prompts"]:
        record |= {"q2_k_text": None, "q2_k_rating": None}
    file = tmp_path / "other.json.gz"
    file.write_bytes(
        gzip.compress(json.dumps({"sha256": sha256_json(content), "baseline": content}).encode())
    )
    assert read_baseline(file) == read_baseline(baseline_file)


def test_decoding_is_the_baselines(baseline_file: Path, exported: Path) -> None:
    result = run_command("check", exported / "gguf-f16", "--baseline", baseline_file, "--temperature", "0.9")
    assert_one_clear_error(result, 2, "--temperature", "set by the baseline")


def test_too_few_prompts_never_pass(tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"My cat {n} is ill." for n in range(20)))
    judge = f"likelihood:{exported / 'gguf-f16'}"
    result = run_command(
        "check",
        exported / "gguf-f16",
        "--reference",
        tiny_model,
        *CHECK_REPLIES,
        "--prompts",
        prompts,
        "--judge",
        judge,
    )
    assert result.returncode == 4, result.stdout + result.stderr
    assert "at least 64 prompts" in result.stdout
    assert_says_next(result, "give at least 64 prompts (--prompts FILE)")


def test_the_shipped_prompts() -> None:
    prompts = read_prompts(None, None, 0)
    assert len(prompts) == 640 and sum(len(prompt.messages) > 1 for prompt in prompts) == 128
    assert prompts != read_prompts(None, None, 1)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"id": "a", "messages": []}', "at least one message"),
        ('{"id": "a", "messages": [{"role": "user"}]}', "message 1 needs"),
        ('{"id": "a", "messages": [{"role": "assistant", "content": "Hello."}]}', "must be the user's"),
    ],
)
def test_wrong_prompts_name_the_row(line: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"id": "ok", "messages": [{"role": "user", "content": "Hello."}]}\n' + line + "\n")
    with pytest.raises(EmpathyEdgeError, match=f"row 2: .*{found}"):
        read_prompts(file, None, 0)


def test_a_baseline_is_small_and_names_what_it_is_of(baseline_file: Path) -> None:
    known = read_baseline(baseline_file)
    assert isinstance(known, Baseline) and len(known.prompts) == 80
    assert all(len(record.replies) == 3 for record in known.prompts)
    assert known.reference.identity and not known.reference.quantized
    assert baseline_file.stat().st_size < 640 / 80 * 5e6


def test_a_baseline_that_was_cut_off_goes_on(exported: Path, tmp_path: Path) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=512)
    prompts = read_prompts(None, 70, 0)
    settings = ReplySettings(samples=2, max_new_tokens=8)
    whole = draw_records(runtime, prompts, settings, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 70
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join(lines[:64]).replace(whole[5].replies[0].text, "kept") + lines[64][:100])
    again = draw_records(runtime, prompts, settings, cut)
    assert again[5].replies[0].text == "kept" and again[6:] == whole[6:]
    cut.write_text("".join(lines[1:]))  # of other prompts
    assert draw_records(runtime, prompts, settings, cut) == whole


def test_two_artifacts_of_one_file_name_are_told_apart() -> None:
    assert _labels(["a/model.gguf", "b/model.gguf", "c/other.gguf"]) == [
        "a/model.gguf", "b/model.gguf", "other.gguf",
    ]  # fmt: skip


def test_a_manifest_without_outputs_fails_with_the_reason(
    baseline_file: Path, exported: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(exported / "gguf-f16", broken)
    manifest = json.loads((broken / "manifest.json").read_text())
    del manifest["outputs"]
    (broken / "manifest.json").write_text(json.dumps(manifest))
    result = run_command("check", broken, exported / "gguf-f16", "--baseline", baseline_file)
    assert result.returncode == 1, result.stderr
    assert "no 'outputs' with file names" in " ".join(result.stdout.split())
    assert "gguf-f16 keeps it" in result.stdout


@pytest.mark.slow
def test_a_cut_off_onnx_file_fails_and_the_others_are_decided(
    baseline_file: Path, exported: Path, exported_onnx: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "onnx-portable-fp32"
    shutil.copytree(exported_onnx / "onnx-portable-fp32", broken)
    (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:1000])
    result = run_command("check", broken, exported / "gguf-f16", "--baseline", baseline_file)
    assert result.returncode == 1, result.stderr
    assert "cannot be opened" in result.stdout and "gguf-f16 keeps it" in result.stdout


def test_a_gguf_that_is_not_the_checkpoints_is_refused(
    tiny_model: Path, exported: Path, damaged: Path, tmp_path: Path
) -> None:
    reference, prompts = find_model(str(tiny_model)), read_prompts(None, 4, 0)
    settings = ReplySettings(samples=2, max_new_tokens=8)
    for artifact, is_same in ((exported / "gguf-f16", True), (damaged, False)):
        runtime = open_runtime(artifact, context=512)
        records = draw_records(runtime, prompts, settings, tmp_path / f"{is_same}.jsonl")
        with nullcontext() if is_same else pytest.raises(EmpathyEdgeError, match="nats a token"):
            require_same_model(reference, records, settings.temperature)


def test_replies_are_drawn_once_whoever_judges(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    settings, prompts = ReplySettings(samples=2, max_new_tokens=8), read_prompts(None, 4, 0)
    made = []
    for name in ("first", "second"):
        folder = shutil.copytree(exported / "gguf-f16", tmp_path / name)
        rater = open_judge(f"likelihood:{folder}", ApiSettings())
        made.append(make_baseline(str(folder), prompts, rater, settings))
        assert made[-1].reference.name == str(folder) and made[-1].judge.name == rater.name
        (kept,) = (cache_folder() / "replies").glob("*.jsonl")
        rows = read_jsonl(kept)
        rows[1]["replies"][0]["text"] = "kept"
        write_jsonl(kept, rows)
    assert made[1].prompts[1].replies[0].text == "kept"


def test_names_in_a_strangers_baseline_are_shown_plain(
    baseline_file: Path, damaged: Path, tmp_path: Path
) -> None:
    known = read_baseline(baseline_file)
    judge = known.judge.model_copy(
        update={"name": "likelihood:\x1b[31m\n# PASS", "doubts": ("\x1b[0m\n# x",)}
    )
    reference = known.reference.model_copy(update={"name": "\x1b]0;x\n# PASS"})
    file, page = tmp_path / "strange.json.gz", tmp_path / "check.md"
    write_baseline(file, known.model_copy(update={"judge": judge, "reference": reference}))
    result = run_command("check", damaged, "--baseline", file, "--markdown", page)
    assert result.returncode == 4, result.stdout + result.stderr
    assert "\x1b" not in result.stdout + page.read_text()
    assert not any(line.startswith("# ") for line in page.read_text().splitlines())
