"""ExecuTorch as a third format, in an environment that has it (`make test-executorch`)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from empathy_edge.export import artifacts, verify
from empathy_edge.export.bundle import check, make
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.system.files import read_json

library = pytest.importorskip("executorch.extension.pybindings.portable_lib")


@pytest.fixture(scope="session")
def program(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny model as an artifact of a name; each is made once, which takes a minute."""
    out = tmp_path_factory.mktemp("executorch")

    def made(name: str) -> Path:
        settings = ExportSettings(artifacts=(name,))
        base = find_model(str(tiny_model))
        (folder,) = artifacts.make_artifacts(tiny_model, out, settings, base=base, adapters=[])
        return folder

    return made


def test_a_program_says_what_the_checkpoint_says(
    program: Callable[[str], Path], tiny_model: Path, tmp_path: Path
) -> None:
    folder = program("executorch-fp32")
    results = verify.run(checkpoint=tiny_model, artifacts=[folder], out=tmp_path / "verify")
    (row,) = results.artifacts
    assert isinstance(row, verify.CheckedArtifact)
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
    program: Callable[[str], Path], tiny_model: Path, tmp_path: Path, artifact: str
) -> None:
    folder = program(artifact)
    results = verify.run(checkpoint=tiny_model, artifacts=[folder], out=tmp_path / "verify")
    (row,) = results.artifacts
    assert isinstance(row, verify.CheckedArtifact)
    assert row.verdict == "PASS" and 1e-5 < row.mean_kl < 0.3
    fp32_mb = (tiny_model / "model.safetensors").stat().st_size / 1e6
    assert row.size_mb < 0.6 * fp32_mb  # embeddings and output, one matrix there, are two here


def test_a_program_uses_as_many_threads_as_asked_for_and_the_models_whole_context(
    program: Callable[[str], Path],
) -> None:
    folder = program("executorch-fp32")
    assert read_json(folder / "executorch.json") == {"context": 512, "tokens_at_once": 128}
    said = messages_for("word " * 400)
    replies = []
    for threads in (1, 3):
        runtime = open_runtime(folder, threads=threads)
        assert library._threadpool_get_thread_count() == threads
        reply = runtime.reply(said, max_new_tokens=100, ignore_stop=True)
        assert reply.prompt_tokens + len(reply.token_ids) == 512  # to the last token
        replies.append(reply.token_ids)
    assert replies[0] == replies[1]
