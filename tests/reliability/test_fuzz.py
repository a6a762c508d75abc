"""Readers of foreign files, fed with damaged files: each accepts a file, or refuses it with one clear error.

`make test` gives every reader 6 seconds, `make fuzz` ten minutes. What was found once lies in `findings/`,
named after its reader, and is read again each time.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import resource
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError

for _module in ("gguf", "safetensors"):
    pytest.importorskip(_module)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SECONDS = float(os.environ.get("EMPATHY_EDGE_FUZZ_SECONDS", "6"))
FILES = 20_000 if SECONDS <= 60 else 10**9
"""At most so many files a reader, so that a fast machine tries in `make test` what a slow one does."""

SEED = int(os.environ.get("EMPATHY_EDGE_FUZZ_SEED", "0"))
FINDINGS = Path(__file__).parent / "findings"

MAX_SECONDS_OF_ONE = 10.0
"""A file that takes longer to refuse is a finding; nothing here is larger than a few kilobytes."""

MAX_GROWTH_MB = 400
"""Of the process, over all files of a reader."""

STRANGE = (
    b"\xff\xfe", b"\x00", b"\xed\xa0\x80", "\u2028".encode(), b"NaN", b"Infinity", b"-1", b"1e999",
    b"null", b"[]", b"{}", b'""', b"true", b"99999999999999999999", b'"\\ud800"', b"\r", b"../../x",
    b"{%", b"%}", b"{{", b"}}",
    b"[" * 2000,
    b"\xff" * 8, b"\x7f" + b"\xff" * 7,
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader, the name under which the file lies in a folder, and good files of it."""

    read: Callable[[Path], object]
    name: str
    seeds: tuple[bytes, ...]


def damaged(content: bytes, generator: random.Random) -> bytes:
    """A file with one to six changes: bytes, cuts, copies, strange values."""
    data = bytearray(content)
    for _ in range(generator.randint(1, 6)):
        place = generator.randrange(len(data) + 1)
        kind = generator.randrange(6)
        if kind == 0 and data:
            data[place % len(data)] = generator.randrange(256)
        elif kind == 1:
            data[place:place] = generator.choice(STRANGE)
        elif kind == 2:
            del data[place : place + generator.randint(1, 40)]
        elif kind == 3:
            start = generator.randrange(len(data) + 1)
            data[place:place] = data[start : start + generator.randint(1, 60)]
        elif kind == 4:
            strange = generator.choice(STRANGE)
            data[place : place + len(strange)] = strange
        else:
            del data[place:]
    return bytes(data)


def _gguf() -> bytes:
    import tempfile

    import gguf
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
        writer.add_chat_template("{{ messages[0].content }}")
        writer.add_tensor("token_embd.weight", np.ones((3, 64), np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _safetensors() -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save(
        {"a.lora_A.weight": np.ones((2, 3), np.float32), "a.lora_B.weight": np.ones((4, 2), np.float32)}
    )


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _read_gguf(file: Path) -> None:
    from empathy_edge.formats.gguf_header import check_gguf, tensors_of

    check_gguf(file)
    tensors_of(file)


def _read_safetensors(file: Path) -> None:
    from empathy_edge.formats.tensor_files import stored_tensors

    for tensor in stored_tensors(file.parent).values():
        tensor.load()


def _read_index(file: Path) -> None:
    (file.parent / "one.safetensors").write_bytes(_safetensors())
    _read_safetensors(file)


def _read_json_lines(file: Path) -> None:
    from empathy_edge.formats.json_lines import read_jsonl, read_unfinished_jsonl
    from empathy_edge.judging.response_pairs import read_responses

    read_unfinished_jsonl(file)
    for read in (read_jsonl, read_responses):
        try:
            read(file)
        except EmpathyEdgeError:
            continue


def _read_dialogues(file: Path) -> None:
    from empathy_edge.formats.dialogue import read_dialogues

    read_dialogues(file)


def _read_adapter(file: Path) -> None:
    from empathy_edge.models.lora import adapter_deltas

    (file.parent / "adapter_model.safetensors").write_bytes(_safetensors())
    adapter_deltas(file.parent)


def _read_template(file: Path) -> None:
    from empathy_edge.formats.chat_format import (
        GOLDEN_CONVERSATION,
        read_template,
        render,
        takes_system,
        turn_end,
    )

    template = read_template(file.parent)
    takes_system(template)
    with contextlib.suppress(EmpathyEdgeError):
        turn_end(template)
    render(template, GOLDEN_CONVERSATION)


def _read_bundle(file: Path) -> None:
    from empathy_edge.export.bundle.check import check

    check(file)


def _bundle() -> bytes:
    import hashlib
    import io

    files = {"chat_template.jinja": b"{{ messages }}", "generation.json": b"{}", "LICENSE": b"x"}
    outputs = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
    }
    artifact = {"name": "gguf-f16", "format": "gguf", "quantization": "f16", "method": "plain",
                "file": "model.gguf", "sha256": "0" * 64, "size_mb": 1.0}  # fmt: skip
    manifest = {"stage": "bundle", "outputs": outputs, "artifact": artifact, "size_mb": 1.0}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {**files, "manifest.json": _json(manifest)}.items():
            archive.writestr(f"bundle/{name}", data)
    return buffer.getvalue()


CONFIG = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "use_rslora": False,
    "bias": "none",
    "target_modules": ["a"],
}
INDEX = {"metadata": {"total_size": 56}, "weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}
DIALOGUE = {"id": "d1", "emotion": "sad", "situation": "s", "utterance": "u", "split": "train",
            "responses": [{"source": "human", "text": "t", "rating": 3}]}  # fmt: skip
TURNS = {"dialog_id": 7, "emotion": "sad", "situation": "s", "turns": [{"text": "a"}, {"text": "b"}]}
ROWS = b'{"id": "a", "text": "b"}\n{"id": "c", "text": ""}\n'
CSV = (
    'dialog_id,emotion,situation,speaker_uttr,response_human,rating_human\n1,sad,s,u,r,3\n2,sad,s,"u,2",r,1\n'
)
TEMPLATES = (
    b"{% for m in messages %}{% if m.role == 'user' %}<|u|>{{ m['content'] | trim }}{% else %}"
    b"{{ m.content + 'x' }}<|im_end|>{% endif %}{% endfor %}{% set n = namespace(a=1) %}"
    b"{% macro f(x) %}{{ x * 3 }}{% endmacro %}{{ f('a') }}",
    b"{%- if messages[0]['role'] != 'system' %}{{ raise_exception('no') }}{% endif %}"
    b"{{ messages | tojson(indent=2) }}{{ '%5d' % 3 }}{{ strftime_now('%Y') }}"
    b"{% generation %}{{ eos_token }}{% endgeneration %}",
)

SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
FORMS = (
    _json([{"messages": SAID}, {"prompt": SAID[:1], "chosen": SAID[1:], "rejected": SAID[1:]}]),
    _json({"data": [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]}),
    _json(
        [
            {
                "emotion_type": "e",
                "situation": "s",
                "dialog": [{"speaker": "seeker", "content": "a"}, {"speaker": "supporter", "content": "b"}],
            }
        ]
    ),
    _json({"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]}) + b"\n",
    _json({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}) + b"\n",
)
PUBLISHED = (
    b"conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
    b"c1,1,sad,p,1,a_comma_ b,5,\nc1,2,sad,p,0,b,5,\n"
)

READERS = {
    "gguf": Reader(_read_gguf, "model.gguf", (_gguf(),)),
    "safetensors": Reader(_read_safetensors, "model.safetensors", (_safetensors(),)),
    "safetensors-index": Reader(_read_index, "model.safetensors.index.json", (_json(INDEX),)),
    "json-lines": Reader(_read_json_lines, "rows.jsonl", (ROWS,)),
    "dialogues": Reader(_read_dialogues, "d.jsonl", (_json(DIALOGUE) + b"\n", _json(TURNS) + b"\n")),
    "csv": Reader(_read_dialogues, "d.csv", (CSV.encode(), PUBLISHED)),
    "forms": Reader(_read_dialogues, "d.json", FORMS),
    "gzip": Reader(_read_dialogues, "d.jsonl.gz", (gzip.compress(FORMS[0]),)),
    "adapter-config": Reader(_read_adapter, "adapter_config.json", (_json(CONFIG),)),
    "template": Reader(_read_template, "chat_template.jinja", TEMPLATES),
    "tokenizer-config": Reader(
        _read_template, "tokenizer_config.json",
        (_json({"chat_template": [{"name": "default", "template": "{{ messages }}</s>"}]}),),
    ),
    "bundle": Reader(_read_bundle, "bundle.zip", (_bundle(),)),
}  # fmt: skip


def read_one(reader: Reader, content: bytes, folder: Path) -> None:
    """Read a file; anything but success and our own error is a finding."""
    for old in folder.iterdir():
        old.unlink()
    file = folder / reader.name
    file.write_bytes(content)
    start = time.monotonic()
    try:
        reader.read(file)
    except EmpathyEdgeError as error:
        assert str(error)
    assert time.monotonic() - start < MAX_SECONDS_OF_ONE


@pytest.mark.parametrize("name", READERS)
def test_the_seeds_are_good_files(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    for content in reader.seeds:
        (tmp_path / reader.name).write_bytes(content)
        if name not in (
            "template",
            "bundle",
        ):  # one of the templates refuses, and this bundle lacks its model
            reader.read(tmp_path / reader.name)
        read_one(reader, content, tmp_path)


@pytest.mark.parametrize("finding", sorted(FINDINGS.glob("*")), ids=lambda path: path.name)
def test_what_was_found_once_is_one_clear_error(finding: Path, tmp_path: Path) -> None:
    read_one(READERS[finding.name.split(".")[0]], finding.read_bytes(), tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_one_clear_error(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    generator = random.Random(f"{SEED} {name}")
    until = time.monotonic() + SECONDS
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried = 0
    while time.monotonic() < until and tried < FILES:
        content = damaged(generator.choice(reader.seeds), generator)
        try:
            read_one(reader, content, tmp_path)
        except BaseException:
            keep = Path(os.environ.get("EMPATHY_EDGE_FINDINGS", tmp_path)) / f"{name}.{SEED}-{tried}"
            keep.write_bytes(content)
            print(f"kept as {keep}")
            raise
        tried += 1
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < MAX_GROWTH_MB, f"{tried} files: {grown_mb:.0f} MB"
    print(f"{name}: {tried} files")
