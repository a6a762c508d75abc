"""The file format of LiteRT-LM (`.litertlm`): a header of sections, then the sections themselves.

The layout is that of google-ai-edge/LiteRT-LM, `schema/core/litertlm_header_schema.fbs`: eight bytes
LITERTLM, three version numbers (uint32), at byte 24 the end of the header (uint64), at byte 32 a flatbuffer
with the begin, end and type of each section.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, require_extra

MODEL = "model.litertlm"
"""The file's name in an artifact's folder."""

MAGIC = b"LITERTLM"
MAJOR_VERSION = 1
HEADER_BEGIN = 32
MAX_HEADER_BYTES = 2**20
MAX_TOKENIZER_BYTES = 2**29
"""How large the packed tokenizer may become."""


@dataclass(frozen=True)
class Section:
    """A part of the file.

    Attributes:
        kind: as the format's schema names it, as `TFLiteModel`.
        begin: its first byte.
        end: the byte after its last one.
        model_type: of a TFLiteModel what it does, as `tf_lite_prefill_decode`; empty for other kinds.
    """

    kind: str
    begin: int
    end: int
    model_type: str


@dataclass(frozen=True)
class Metadata:
    """What the file says about its language model.

    Attributes:
        template: its chat template (Jinja); empty where it has a fixed form of prompts, or none.
        start: the token that the runtime puts before each conversation, as an id or a text; None for none.
        stop_ids: the tokens that end a response. Stop texts of several tokens are not among them.
        stop_texts: texts that end a response.
        max_tokens: the largest context in tokens; 0 where the file does not say.
    """

    template: str
    start: int | str | None
    stop_ids: tuple[int, ...]
    stop_texts: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True)
class LitertLmFile:
    """An opened header; sections are read when they are asked for.

    Attributes:
        path: the file.
        sections: in their order.
    """

    path: Path
    sections: tuple[Section, ...]

    def read(self, kind: str) -> bytes | None:
        """The bytes of the first section of a kind; None if there is none."""
        found = next((section for section in self.sections if section.kind == kind), None)
        return None if found is None else self._bytes_of(found)

    def _bytes_of(self, section: Section) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(section.begin)
            return file.read(section.end - section.begin)

    def graph(self) -> bytes:
        """The language model's graph, as a .tflite file has it.

        Raises:
            EmpathyEdgeError: it has none that holds everything (vision and split models are not read here).
        """
        graphs = [section for section in self.sections if section.kind == "TFLiteModel"]
        wanted = [item for item in graphs if item.model_type in ("", "tf_lite_prefill_decode")]
        if len(graphs) != 1 or len(wanted) != 1:
            kinds = ", ".join(item.model_type or "a graph" for item in graphs) or "none"
            raise EmpathyEdgeError(
                f"{self.path}: its graphs are: {kinds}. Log-probabilities need one graph alone, "
                "tf_lite_prefill_decode; chat and bench do not."
            )
        return self._bytes_of(wanted[0])

    def tokenizer_json(self) -> bytes:
        """The tokenizer in the form of Hugging Face's tokenizer.json.

        Raises:
            EmpathyEdgeError: it has none of this form (SentencePiece is not read here), or it is damaged.
        """
        packed = self.read("HF_Tokenizer_Zlib")
        if packed is None:
            raise EmpathyEdgeError(
                f"{self.path}: has no tokenizer.json in it (SentencePiece models are not read here). "
                "Export it from its checkpoint: empathy-edge export MODEL --to litertlm-int8."
            )
        size = int.from_bytes(packed[:8], "little")
        if size > MAX_TOKENIZER_BYTES:
            raise EmpathyEdgeError(f"{self.path}: its tokenizer would unpack to {size / 1e6:.0f} MB.")
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(packed[8:], size)
        except zlib.error as error:
            raise EmpathyEdgeError(f"{self.path}: its tokenizer is damaged ({error}).") from None
        if len(text) != size:
            raise EmpathyEdgeError(f"{self.path}: its tokenizer is damaged: {len(text)} bytes, not {size}.")
        return text

    @cached_property
    def metadata(self) -> Metadata:
        """What the file says about its language model.

        Raises:
            EmpathyEdgeError: it says nothing, or the part is damaged.
        """
        from google.protobuf.message import DecodeError
        from litert_lm_builder.runtime.proto import llm_metadata_pb2

        content = self.read("LlmMetadataProto")
        if content is None:
            raise EmpathyEdgeError(f"{self.path}: is no language model: it has no LlmMetadata.")
        found = llm_metadata_pb2.LlmMetadata()
        try:
            found.ParseFromString(content)
        except DecodeError as error:
            raise EmpathyEdgeError(f"{self.path}: its LlmMetadata is damaged ({error}).") from None
        start_ids = list(found.start_token.token_ids.ids)
        stops = [list(stop.token_ids.ids) for stop in found.stop_tokens]
        return Metadata(
            template=found.jinja_prompt_template,
            start=int(start_ids[0]) if start_ids else found.start_token.token_str or None,
            stop_ids=tuple(sorted(int(ids[0]) for ids in stops if len(ids) == 1)),
            stop_texts=tuple(stop.token_str for stop in found.stop_tokens if stop.token_str),
            max_tokens=int(found.max_num_tokens),
        )


def read_litertlm(path: Path) -> LitertLmFile:
    """Read the header of a .litertlm file.

    Raises:
        EmpathyEdgeError: it is another format, of a later version, damaged or cut short.
        PrerequisiteError: the extra `litert` is not installed.
    """
    require_extra("litert_lm_builder", "litert", f"Reading {path.name}")
    size = path.stat().st_size
    with open(path, "rb") as file:
        begin = file.read(HEADER_BEGIN)
        if len(begin) < HEADER_BEGIN or begin[:8] != MAGIC:
            raise EmpathyEdgeError(f"{path}: is no .litertlm file: it does not begin with LITERTLM.")
        (major,) = struct.unpack_from("<I", begin, 8)
        (header_end,) = struct.unpack_from("<Q", begin, 24)
        if major != MAJOR_VERSION:
            raise EmpathyEdgeError(f"{path}: has format version {major}; {MAJOR_VERSION} is read here.")
        if not HEADER_BEGIN < header_end <= min(size, HEADER_BEGIN + MAX_HEADER_BYTES):
            raise EmpathyEdgeError(f"{path}: is cut short, or its header is damaged.")
        header = file.read(header_end - HEADER_BEGIN)
    try:
        sections = _sections_of(header)
    except Exception as error:  # flatbuffers reads damaged offsets as they are, and raises whatever follows
        raise EmpathyEdgeError(f"{path}: its header is damaged ({type(error).__name__}).") from None
    for section in sections:
        if not header_end <= section.begin <= section.end <= size:
            raise EmpathyEdgeError(
                f"{path}: is cut short: it has {size} bytes, and its part {section.kind} "
                f"lies at {section.begin} to {section.end}. Download or export it again."
            )
    return LitertLmFile(path, tuple(sections))


def _sections_of(header: bytes) -> list[Section]:
    """The sections that a header's flatbuffer lists."""
    from litert_lm_builder import litertlm_header_schema_py_generated as schema

    kinds = {value: name for name, value in vars(schema.AnySectionDataType).items() if isinstance(value, int)}
    listed = schema.LiteRTLMMetaData.GetRootAs(header, 0).SectionMetadata()
    sections = []
    for number in range(listed.ObjectsLength()):
        item = listed.Objects(number)
        kind = kinds.get(item.DataType(), str(item.DataType()))
        sections.append(Section(kind, item.BeginOffset(), item.EndOffset(), _model_type(item, schema)))
    if not sections:
        raise ValueError("no sections")
    return sections


def _model_type(section: Any, schema: Any) -> str:
    """The value of a section's item `model_type`; empty if it has none."""
    for number in range(section.ItemsLength()):
        item = section.Items(number)
        if item.Key() == b"model_type" and item.ValueType() == schema.VData.StringValue:
            table = item.Value()
            value = schema.StringValue()
            value.Init(table.Bytes, table.Pos)
            return (value.Value() or b"").decode("utf-8").lower()
    return ""
