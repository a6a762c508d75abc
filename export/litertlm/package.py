"""Put a graph, a tokenizer and what LiteRT-LM must know of them into one .litertlm file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import eos_of, read_template, turn_end
from empathy_edge.formats.typed_template import typed_template
from empathy_edge.runtimes.pieces import ids_of, special_text
from empathy_edge.system.files import read_json, read_json_object


def package(model: Path, graph: Path, executor: Path, context: int, out: Path) -> None:
    """Write the file.

    It names no start token: the template writes it where the model was trained with one. (litert-torch names
    the tokenizer's, and LiteRT-LM then puts it before a template that begins with it already.) It names stop
    tokens by their ids alone.

    Args:
        model: a folder with tokenizer.json, the template, and config.json or generation_config.json.
        graph: the .tflite file.
        executor: the file of its ExecutorMetadata.
        context: the length of its caches in tokens.
        out: the file to write.
    """
    require_extra("litert_lm_builder", "litert", "Making a .litertlm file")
    import litert_lm_builder as builder

    with tempfile.TemporaryDirectory(prefix=".packing-", dir=out.parent) as scratch:
        metadata = Path(scratch) / "llm_metadata.pb"
        metadata.write_bytes(_metadata(model, context).SerializeToString())
        file = builder.LitertLmFileBuilder()
        file.add_system_metadata(
            builder.Metadata(key="Authors", value="empathy-edge", dtype=builder.DType.STRING)
        )
        file.add_llm_metadata(str(metadata))
        file.add_executor_metadata(str(executor))
        file.add_hf_tokenizer(str(model / "tokenizer.json"))
        file.add_tflite_model(str(graph), builder.TfLiteModelType.PREFILL_DECODE)
        packed = Path(scratch) / out.name
        with open(packed, "wb") as handle:
            file.build(handle)
        os.replace(packed, out)


def _metadata(model: Path, context: int) -> Any:
    """The protobuf message LlmMetadata."""
    from litert_lm_builder.runtime.proto import llm_metadata_pb2, llm_model_type_pb2

    names = read_json_object(model / "tokenizer_config.json")
    template = typed_template(
        read_template(model), bos=special_text(names.get("bos_token")), eos=eos_of(model)
    )
    message = llm_metadata_pb2.LlmMetadata(max_num_tokens=context, jinja_prompt_template=template)
    for token in stop_ids_of(model):
        message.stop_tokens.add().token_ids.ids.append(token)
    # Other kinds have parsers for tool calls and images; they change what a chat shows.
    plain = llm_model_type_pb2.LlmModelType(generic_model=llm_model_type_pb2.GenericModel())
    message.llm_model_type.CopyFrom(plain)
    return message


def stop_ids_of(model: Path) -> list[int]:
    """Every token that ends a response: those of the model's configuration, and the end of a turn.

    Raises:
        EmpathyEdgeError: there is none.
    """
    from tokenizers import Tokenizer

    generation = model / "generation_config.json"
    named = read_json(generation if generation.is_file() else model / "config.json")
    stops = set(ids_of(named.get("eos_token_id")))
    end = turn_end(read_template(model), eos_of(model))
    token = Tokenizer.from_file(str(model / "tokenizer.json")).token_to_id(end)
    if token is not None:
        stops.add(token)
    if not stops:
        raise EmpathyEdgeError(f"{model}: names no token that ends a response.")
    return sorted(stops)
