"""Verification: how much is compared, what is kept for the next time, and faults that distributions hide."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from empathy_edge.bench.verified import read_verified
from empathy_edge.errors import VerdictFailed
from empathy_edge.export import verify, verify_reference
from empathy_edge.export.bundle import card
from empathy_edge.export.fidelity import Fidelity, fidelity_of
from empathy_edge.export.fidelity_bounds import Bounds
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import open_runtime
from empathy_edge.runtimes.base import Sampling
from empathy_edge.runtimes.distributions import log_softmax
from empathy_edge.runtimes.llama_cpp_runtime import LlamaCppRuntime
from tests.conftest import run_command


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _rows(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((folder / "verify.json").read_text())
    return rows


def test_a_second_artifact_needs_no_torch(
    tiny_model: Path, exported: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = [exported / "gguf-f16"]
    verify.run(checkpoint=tiny_model, artifacts=artifacts, out=tmp_path / "first")

    def no_torch(*_: object, **__: object) -> None:
        raise AssertionError("the checkpoint answers again")

    with monkeypatch.context() as patch:
        patch.setattr(verify_reference, "TorchRuntime", no_torch)
        verify.run(checkpoint=tiny_model, artifacts=artifacts, out=tmp_path / "second")
        with pytest.raises(AssertionError):  # a longer comparison is another one
            verify.run(checkpoint=tiny_model, artifacts=artifacts, out=tmp_path / "longer", mode="full")
    assert _rows(tmp_path / "second") == _rows(tmp_path / "first")
    (kept,) = (own_cache / "verify").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    verify.run(checkpoint=tiny_model, artifacts=artifacts, out=tmp_path / "third")
    assert _rows(tmp_path / "third") == _rows(tmp_path / "first")


def test_another_checkpoint_has_a_reference_of_its_own(
    tiny_model: Path, exported: Path, tmp_path: Path, own_cache: Path
) -> None:
    verify.run(checkpoint=tiny_model, artifacts=[exported / "gguf-f16"], out=tmp_path / "first")
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text().replace("'<|im_start|>' +", "'<|im_start|> ' +"))
    with pytest.raises(VerdictFailed, match="other token ids"):
        verify.run(checkpoint=other, artifacts=[exported / "gguf-f16"], out=tmp_path / "second")
    assert len(list((own_cache / "verify").iterdir())) == 2


def test_figures_of_an_artifact_that_was_made_again_are_not_shown(
    tiny_model: Path, exported: Path, tmp_path: Path, own_cache: Path
) -> None:
    """As after `export --update --verify none`, which makes an artifact anew and compares nothing."""
    artifact = tmp_path / "gguf-f16"
    shutil.copytree(exported / "gguf-f16", artifact)
    verify.run(checkpoint=tiny_model, artifacts=[artifact], out=tmp_path / "verify")
    assert list(read_verified(tmp_path / "verify")) == ["gguf-f16"]
    assert "the conversion is right" in str(card._figures(artifact))
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["artifact"]["sha256"] = "0" * 64
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    assert read_verified(tmp_path / "verify") == {}
    assert "the conversion is" not in str(card._figures(artifact))


SETTINGS_THAT_DO_NOT_COUNT = {
    "num_beams": 3,
    "suppress_tokens": list(range(100, 600)),
    "forced_eos_token_id": 2,
    "max_time": 0.001,
    "stop_strings": ["a"],
    "repetition_penalty": 3.0,
}


def test_the_reference_is_greedy_whatever_the_checkpoint_says(
    tiny_model: Path, tmp_path: Path, own_cache: Path
) -> None:
    expected = verify_reference.reference_of(tiny_model, verify_reference.Extent(2, 6))
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | SETTINGS_THAT_DO_NOT_COUNT))
    found = verify_reference.reference_of(tmp_path / "model", verify_reference.Extent(2, 6))
    assert [item.token_ids for item in found.replies] == [item.token_ids for item in expected.replies]
    assert all(len(item.token_ids) == 6 for item in found.replies)


def test_another_size_of_vocabulary_is_said(
    tiny_model: Path, exported: Path, tmp_path: Path, own_cache: Path
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.resize_token_embeddings(49216)
    model.save_pretrained(tmp_path / "larger")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny_model / name, tmp_path / "larger" / name)
    with pytest.raises(VerdictFailed, match="its vocabulary has 49152 tokens, the checkpoint's 49216"):
        verify.run(checkpoint=tmp_path / "larger", artifacts=[exported / "gguf-f16"], out=tmp_path / "out")


def test_only_the_newest_references_are_kept(
    tiny_model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_reference, "KEPT", 2)
    for tokens in (1, 2, 3):
        verify_reference.reference_of(tiny_model, verify_reference.Extent(1, tokens))
    assert len(list((own_cache / "verify").iterdir())) == 2


def test_more_is_compared_in_full(tiny_model: Path, exported: Path, tmp_path: Path, own_cache: Path) -> None:
    for mode, positions in (("quick", 4 * 24), ("full", 8 * 48)):
        folder = tmp_path / mode
        verify.run(checkpoint=tiny_model, artifacts=[exported / "gguf-f16"], out=folder, mode=mode)  # type: ignore[arg-type]
        (row,) = _rows(folder)
        assert row["positions"] == positions and float(str(row["mean_kl"])) < 1e-5


def test_export_can_do_without(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_command("export", tiny_model, "--to", "gguf-f16", "--verify", "none", "--out", out)
    assert result.returncode == 0, result.stderr
    assert "whether they are right is not known" in result.stderr + result.stdout
    assert (out / "gguf-f16" / "manifest.json").is_file() and not (out / "verify").exists()


class _LosesTheLastToken(LlamaCppRuntime):
    """Reads every prompt that it answers without its last token, as a runtime for phones once did."""

    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        return super().tokens(ids[:-1], sampling)


@pytest.mark.slow
def test_replies_that_do_not_follow_from_the_logits_are_found() -> None:
    """The logits of a given reply are right there; only replies made token by token are not."""
    file = find_model("smollm2-135m").path
    healthy = LlamaCppRuntime(file, threads=1, context=256, exact_logits=True)
    prompt = healthy.encode(verify_reference.verify_prompts(1)[0])
    reply = list(healthy.reply(prompt, max_new_tokens=12).token_ids)
    log_probs = log_softmax(healthy.reply_logits(prompt, reply))
    reference = [verify_reference.ReferenceReply(prompt, reply, log_probs)]
    found = fidelity_of(healthy, reference)
    assert found.broken(Bounds(mean_kl=1e-4, top1_agreement=0.9)) == []
    healthy.close()
    broken = _LosesTheLastToken(file, threads=1, context=256, exact_logits=True)
    found = fidelity_of(broken, reference)
    broken.close()
    assert found.mean_kl < 1e-4
    assert found.broken(Bounds(mean_kl=1.5, top1_agreement=0.4)) == [
        "its own reply is not what its logits say (look at its prompt cache)"
    ]


def test_a_short_look_does_not_fail_by_chance() -> None:
    bounds = Bounds(mean_kl=0.03, top1_agreement=0.93)

    def broken(agreement: float, positions: int) -> bool:
        found = Fidelity(
            greedy_same=0,
            top1_agreement=agreement,
            mean_kl=0.005,
            p99_kl=0.02,
            positions=positions,
            own_reply="",
        )
        return bool(found.broken(bounds))

    assert not broken(0.89, 96) and broken(0.80, 96)
    assert broken(0.89, 2000)


def test_gguf_logits_of_a_reply_are_those_of_the_whole(exported: Path) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=256, exact_logits=True)
    prompt, reply = list(range(20, 60)), list(range(300, 312))
    whole = runtime.logits([*prompt, *reply])
    part = runtime.reply_logits(prompt, reply)
    assert part.shape == (len(reply), whole.shape[1])
    assert abs(part - whole[len(prompt) - 1 : -1]).max() < 1e-3
    runtime.close()
