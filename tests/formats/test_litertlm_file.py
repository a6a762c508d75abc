"""The reader of .litertlm files, on a file that LiteRT-LM's own builder wrote, whole and damaged."""

import json
import zlib
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.litertlm.package import package
from empathy_edge.formats.litertlm_file import read_litertlm
from empathy_edge.models.find import find_model

pytest.importorskip("litert_lm_builder")


@pytest.fixture(scope="module")
def file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose graph is no graph: the reader does not look into it."""
    folder = tmp_path_factory.mktemp("litertlm")
    (folder / "model.tflite").write_bytes(b"graph" * 1000)
    (folder / "executor.pb").write_bytes(b"")
    package(tiny_model, folder / "model.tflite", folder / "executor.pb", 512, folder / "model.litertlm")
    return folder / "model.litertlm"


def test_the_parts_of_a_file(file: Path, tiny_model: Path) -> None:
    opened = read_litertlm(file)
    kinds = [section.kind for section in opened.sections]
    assert sorted(kinds) == [
        "ExecutorMetadataProto", "HF_Tokenizer_Zlib", "LlmMetadataProto", "TFLiteModel",
    ]  # fmt: skip
    assert opened.read("TFLiteModel") == b"graph" * 1000
    assert opened.tokenizer_json() == (tiny_model / "tokenizer.json").read_bytes()
    assert opened.metadata.max_tokens == 512
    assert opened.metadata.stop_ids == (2,) and opened.metadata.stop_texts == ()
    assert opened.metadata.start is None  # the tokenizer's own would come before a template that has it
    assert "<|im_start|>" in opened.metadata.template


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "does not begin with LITERTLM"),
        (lambda data: b"GGUF" + data[4:], "does not begin with LITERTLM"),
        (lambda data: data[:20], "does not begin with LITERTLM"),
        (lambda data: data[:8] + b"\x02" + data[9:], "has format version 2; 1 is read here"),
        (lambda data: data[:100], "cut short, or its header is damaged"),
        (lambda data: data[:24] + b"\xff" * 8 + data[32:], "cut short, or its header is damaged"),
        (lambda data: data[:32] + b"\xff" * 64 + data[96:], "header is damaged"),
        (lambda data: data[:-3000], r"is cut short: it has \d+ bytes, and its part TFLiteModel"),
    ],
)
def test_a_damaged_file_is_one_clear_error(file: Path, tmp_path: Path, change: object, message: str) -> None:
    damaged = tmp_path / "model.litertlm"
    damaged.write_bytes(change(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(EmpathyEdgeError, match=message):
        find_model(str(damaged))


def test_stop_texts_that_are_tokens_end_a_reply(tiny_model: Path, tmp_path: Path) -> None:
    """Files from elsewhere name them so; texts of several tokens are left to LiteRT-LM."""
    import litert_lm_builder as builder
    from litert_lm_builder.runtime.proto import llm_metadata_pb2

    metadata = llm_metadata_pb2.LlmMetadata(jinja_prompt_template="{{ messages[0].content }}")
    for text in ("<|im_end|>", "<|im_end|>\n"):
        metadata.stop_tokens.add().token_str = text
    (tmp_path / "metadata.pb").write_bytes(metadata.SerializeToString())
    (tmp_path / "model.tflite").write_bytes(b"graph")
    made = builder.LitertLmFileBuilder()
    made.add_system_metadata(builder.Metadata(key="Authors", value="x", dtype=builder.DType.STRING))
    made.add_llm_metadata(str(tmp_path / "metadata.pb"))
    made.add_hf_tokenizer(str(tiny_model / "tokenizer.json"))
    made.add_tflite_model(str(tmp_path / "model.tflite"), builder.TfLiteModelType.PREFILL_DECODE)
    with open(tmp_path / "model.litertlm", "wb") as file:
        made.build(file)
    folder = find_model(str(tmp_path / "model.litertlm")).path
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == [2]


def test_a_damaged_tokenizer_is_named(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    packed = read_litertlm(file).read("HF_Tokenizer_Zlib")
    assert packed is not None
    place = content.index(packed[:64])
    damaged = tmp_path / "model.litertlm"
    damaged.write_bytes(content[: place + 500] + b"\0" * 500 + content[place + 1000 :])
    with pytest.raises(EmpathyEdgeError, match="its tokenizer is damaged"):
        read_litertlm(damaged).tokenizer_json()
    # One that says that it unpacks to more than it does.
    size = int.from_bytes(packed[:8], "little")
    damaged.write_bytes(content.replace(packed[:64], (size + 1).to_bytes(8, "little") + packed[8:64]))
    with pytest.raises(EmpathyEdgeError, match="its tokenizer is damaged"):
        read_litertlm(damaged).tokenizer_json()
    assert zlib.decompress(packed[8:]) == read_litertlm(file).tokenizer_json()


@pytest.fixture
def two_graphs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """Two files that differ in their graphs only, and an empty cache."""
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    content = file.read_bytes()
    return content, content.replace(b"graph" * 1000, b"other" * 1000)


def test_two_files_are_two_models(two_graphs: tuple[bytes, bytes], tmp_path: Path) -> None:
    """All files had one identity: replies of one were taken for those of another."""
    for name, content in zip("abc", (*two_graphs, two_graphs[0]), strict=True):
        (tmp_path / f"{name}.litertlm").write_bytes(content)
    first, second, copy = (find_model(str(tmp_path / f"{name}.litertlm")) for name in "abc")
    assert first.identity != second.identity and first.identity == copy.identity
    manifest = json.loads((first.path / "manifest.json").read_text())
    assert set(manifest["outputs"]) == {file.name for file in first.path.iterdir()} - {"manifest.json"}
    assert manifest["outputs"]["model.litertlm"]["sha256"] == first.sha256


def test_a_folder_whose_link_leads_to_another_file_is_made_again(
    two_graphs: tuple[bytes, bytes], tmp_path: Path
) -> None:
    file, moved = tmp_path / "a.litertlm", tmp_path / "elsewhere" / "a.litertlm"
    file.write_bytes(two_graphs[0])
    before = find_model(str(file))
    identity = before.identity
    moved.parent.mkdir()
    file.rename(moved)
    file.write_bytes(two_graphs[1])
    after = find_model(str(moved))
    assert after.path == before.path and after.identity == identity
    assert (after.path / "model.litertlm").read_bytes() == two_graphs[0]


def test_a_copied_model_is_used_again_while_it_is_the_same(
    two_graphs: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """Where the system allows no links, the folder has a copy."""
    file = tmp_path / "a.litertlm"
    file.write_bytes(two_graphs[0])
    folder = find_model(str(file)).path
    (folder / "model.litertlm").unlink()
    (folder / "model.litertlm").write_bytes(two_graphs[0])
    assert not (find_model(str(file)).path / "model.litertlm").is_symlink()
    (folder / "model.litertlm").write_bytes(two_graphs[1])
    assert (find_model(str(file)).path / "model.litertlm").read_bytes() == two_graphs[0]


@pytest.mark.parametrize("outputs", [{}, {"gone.json": {}}])
def test_a_folder_without_its_files_is_made_again(
    outputs: dict[str, object], two_graphs: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """Folders of earlier versions list no files."""
    (tmp_path / "a.litertlm").write_bytes(two_graphs[0])
    made = find_model(str(tmp_path / "a.litertlm"))
    identity, manifest = made.identity, made.path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"outputs": outputs}))
    assert find_model(str(tmp_path / "a.litertlm")).identity == identity
    assert "model.litertlm" in json.loads(manifest.read_text())["outputs"]
