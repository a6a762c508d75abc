"""A genai_config.json from anyone loads no code, and names no file outside its folder."""

import json
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.genai_config import read_genai_config

BUILT = {
    "model": {
        "context_length": 512,
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "inputs": {"past_key_names": "past_key_values.%d.key"},
        },
        "eos_token_id": [2, 3],
        "type": "llama",
    },
    "search": {"do_sample": False, "top_k": 50},
}
"""As ONNX Runtime GenAI's builder writes it."""


def with_decoder(**keys: object) -> str:
    """The built file with other keys in its decoder."""
    model = BUILT["model"]
    decoder = model["decoder"] | keys  # type: ignore[operator]
    return json.dumps(BUILT | {"model": model | {"decoder": decoder}})


def test_what_the_builder_writes_is_read(tmp_path: Path) -> None:
    file = tmp_path / "genai_config.json"
    file.write_text(json.dumps(BUILT, indent=4))
    assert read_genai_config(file) == BUILT
    for options in (
        {"intra_op_num_threads": 2, "inter_op_num_threads": 1, "graph_optimization_level": "ORT_ENABLE_ALL"},
        {"provider_options": [{"cpu": {}}]},
        {},
    ):
        file.write_text(with_decoder(session_options=options, run_options={}))
        assert read_genai_config(file)["model"]["decoder"]["session_options"] == options


NOT_CPU = "'provider_options' names more than the CPU"
HOSTILE_OPTIONS = [
    ({"custom_ops_library": "x.so"}, "'custom_ops_library' in session_options"),
    ({"log_id": "x", "enable_profiling": "/home/user/.bashrc"}, "'enable_profiling' in session_options"),
    ({"ep.context_file_path": "/etc/x"}, "'ep.context_file_path' in session_options"),
    ({"provider_options": [{"cuda": {}}]}, NOT_CPU),
    ({"provider_options": [{"cpu": {}, "QNN": {}}]}, NOT_CPU),
    ({"provider_options": [{"cpu": {"library_path": "x.so"}}]}, NOT_CPU),
    ({"provider_options": {"cpu": {}}}, NOT_CPU),
    (["custom_ops_library", "x.so"], "'session_options' is no JSON object"),
]


@pytest.mark.parametrize(("options", "words"), HOSTILE_OPTIONS)
def test_options_that_load_or_write_are_refused_wherever_they_are(
    options: object, words: str, tmp_path: Path
) -> None:
    file, session = tmp_path / "genai_config.json", {"session_options": options}
    texts = [
        with_decoder(**session),
        with_decoder(pipeline=[{"first": session | {"filename": "first.onnx"}}]),
        *(json.dumps(BUILT | {"model": {part: session}}) for part in ("embedding", "encoder", "vision")),
        json.dumps({"runtime_profiles": [{"overlay": {"model": {"speech": session}}}]}),
    ]
    for text in texts:
        file.write_text(text)
        with pytest.raises(EmpathyEdgeError, match=rf"genai_config\.json: (has )?{words}"):
            read_genai_config(file)


def test_options_of_a_run_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "genai_config.json"
    file.write_text(with_decoder(run_options={"enable_profiling": "1"}))
    with pytest.raises(EmpathyEdgeError, match="'enable_profiling' in run_options"):
        read_genai_config(file)


@pytest.mark.parametrize("key", ["filename", "config_filename", "adapter_filename", "data_file"])
@pytest.mark.parametrize(
    "name", ["../model.onnx", "/etc/passwd", "a/model.onnx", "a\\model.onnx", "C:model.onnx", "..", "", 1]
)
def test_a_file_elsewhere_is_refused(key: str, name: object, tmp_path: Path) -> None:
    file = tmp_path / "genai_config.json"
    file.write_text(with_decoder(**{key: name}))
    with pytest.raises(EmpathyEdgeError, match=rf"genai_config\.json: '{key}' is .* not the name of a file"):
        read_genai_config(file)


def test_a_key_that_comes_twice_hides_nothing(tmp_path: Path) -> None:
    """ONNX Runtime GenAI takes both; a Python dict would show the last alone."""
    file = tmp_path / "genai_config.json"
    for options, words in (
        (
            '"provider_options": [{"cuda": {}}], "provider_options": []',
            "has the key 'provider_options' twice",
        ),
        ('"custom_ops_library": "x.so"}, "session_options": {', "'custom_ops_library' in session_options"),
    ):
        file.write_text(f'{{"model": {{"decoder": {{"session_options": {{{options}}}}}}}}}')
        with pytest.raises(EmpathyEdgeError, match=words):
            read_genai_config(file)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 200_000, json.dumps(BUILT) + "x", "// x\n{}"])
def test_a_damaged_file_is_one_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "genai_config.json"
    file.write_text(text)
    with pytest.raises(EmpathyEdgeError, match=r"genai_config\.json: (not readable as|holds no) JSON"):
        read_genai_config(file)
    file.unlink()
    with pytest.raises(EmpathyEdgeError, match=r"genai_config\.json"):
        read_genai_config(file)
