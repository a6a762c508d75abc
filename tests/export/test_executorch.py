"""ExecuTorch as a third format, in an environment that has it (`make test-executorch`)."""

from pathlib import Path

import pytest

from empathy_edge.export import artifacts, verify
from empathy_edge.export.bundle import check, make
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.system.files import read_json


def test_a_program_says_what_the_checkpoint_says(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    settings = ExportSettings(artifacts=("executorch-fp32",))
    base = find_model(str(tiny_model))
    (folder,) = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    results = verify.run(checkpoint=tiny_model, artifacts=[folder], out=tmp_path / "verify")
    (row,) = results.artifacts
    assert row.mean_kl < 1e-5 and row.greedy_same == 4 and row.verdict == "PASS"
    runtime = open_runtime(folder)
    said = messages_for("word " * 150)  # longer than one step takes
    first = runtime.reply(said, max_new_tokens=6, ignore_stop=True)
    again = runtime.reply(said, max_new_tokens=6, ignore_stop=True)  # from its cache
    assert (
        first.token_ids
        == again.token_ids
        == open_runtime(tiny_model).reply(said, max_new_tokens=6, ignore_stop=True).token_ids
    )
    (tmp_path / "licence.txt").write_text("x")
    make.make(artifact=folder, out=tmp_path / "bundle", licence=tmp_path / "licence.txt")
    assert check.check(tmp_path / "bundle").artifact.format == "executorch"


@pytest.mark.parametrize("artifact", ["executorch-8da4w", "executorch-int8"])
def test_quantized_programs_are_smaller_and_keep_their_bounds(
    tiny_model: Path, tmp_path: Path, artifact: str
) -> None:
    pytest.importorskip("executorch")
    settings = ExportSettings(artifacts=(artifact,))
    base = find_model(str(tiny_model))
    (folder,) = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    results = verify.run(checkpoint=tiny_model, artifacts=[folder], out=tmp_path / "verify")
    (row,) = results.artifacts
    assert isinstance(row, verify.CheckedArtifact)
    assert row.verdict == "PASS" and 1e-5 < row.mean_kl < 0.3
    fp32_mb = (tiny_model / "model.safetensors").stat().st_size / 1e6
    assert row.size_mb < 0.6 * fp32_mb  # embeddings and output, one matrix there, are two here
    assert read_json(folder / "executorch.json")["context"] == 512  # the tiny model's own


def test_threads_are_as_many_as_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("executorch.extension.pybindings.portable_lib")
    settings = ExportSettings(artifacts=("executorch-fp32",))
    base = find_model(str(tiny_model))
    (folder,) = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    replies = []
    for threads in (1, 3):
        runtime = open_runtime(folder, threads=threads)
        assert library._threadpool_get_thread_count() == threads
        replies.append(runtime.reply(messages_for("Hi"), max_new_tokens=4, ignore_stop=True).token_ids)
    assert replies[0] == replies[1]
