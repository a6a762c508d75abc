"""Load a checkpoint into torch, to train it or to sample from it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from empathy_edge.console import say
from empathy_edge.errors import require_extra
from empathy_edge.formats.chat_format import set_template
from empathy_edge.models.adapter_folder import tokenizer_folder
from empathy_edge.models.merging import merge_into
from empathy_edge.models.templated_folder import template_for
from empathy_edge.runs.settings import Weights
from empathy_edge.runtimes.precision import Precision, choose_precision
from empathy_edge.system.device import chosen_device
from empathy_edge.system.processes import from_main_process

SCRATCH = "scratch"
"""The folder, inside a stage's, for a model that has to be written and read again."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class LoadedBase(NamedTuple):
    """A model to train or to sample from."""

    model: Any
    tokenizer: Any
    precision: Precision


def load_base(
    folder: Path, weights: Weights, adapters: list[Path], scratch: Path, *, tokens: int = 1024
) -> LoadedBase:
    """A checkpoint with adapters merged in full precision, then converted to `weights`.

    It is on the GPU if there is one, or where --device says.

    Args:
        folder: a checkpoint.
        weights: `auto`, `fp32`, `bf16`, or `nf4` (QLoRA: bitsandbytes' 4-bit NormalFloat, Dettmers et al.,
            arXiv 2305.14314).
        adapters: PEFT adapter folders of earlier steps.
        scratch: a folder for the merged model, which `nf4` reads again in four bits; it is deleted.
        tokens: how many tokens are computed at a time; `auto` measures with as many.
    """
    precision = from_main_process(lambda: choose_precision(weights, folder, tokens=tokens))
    precision = _trainable(precision)
    if precision.warning:
        say(f"  [yellow]Warning:[/] {precision.warning}")
    if precision.weights == "nf4":
        model = _load_nf4(folder, adapters, scratch, DTYPES[precision.compute])
    else:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        model = merge_into(model, adapters)
        if precision.weights != "fp32":
            # Not `model.to`, which would also round the frequencies of the rotary embedding, a buffer.
            for parameter in model.parameters():
                parameter.data = parameter.data.to(DTYPES[precision.weights])
        device = chosen_device()
        if device == "cuda":
            model.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        elif device == "mps":
            model.to(device)
    source = tokenizer_folder(folder, adapters)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    set_template(tokenizer, template_for(folder, adapters))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LoadedBase(model, tokenizer, precision)


def _trainable(precision: Precision) -> Precision:
    """The decision, with products of `nf4` in fp32 where they would be in fp16.

    Gradients in fp16 must be scaled, which the trainer only does where the weights are in fp16, too.
    """
    if precision.weights != "nf4" or precision.compute != "fp16":
        return precision
    return replace(
        precision, compute="fp32", reason="nf4 was asked for; products in fp32: the GPU has no bf16"
    )


def _load_nf4(folder: Path, adapters: list[Path], scratch: Path, compute: torch.dtype) -> Any:
    require_extra("bitsandbytes", "qlora", "weights: nf4")
    from transformers import BitsAndBytesConfig

    if adapters:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        model = merge_into(model, adapters)
        model.save_pretrained(scratch)
        del model  # it takes eight times the memory of what is read next
        folder = scratch
    # Without a map bitsandbytes takes a GPU wherever there is one, and the same one in every process.
    places = {"cpu": "cpu", "cuda": f"cuda:{os.environ.get('LOCAL_RANK', '0')}"}
    device = chosen_device()
    try:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
        )
        return AutoModelForCausalLM.from_pretrained(
            folder,
            quantization_config=config,
            device_map={"": places[device]} if device in places else None,
            dtype=compute,
            local_files_only=True,
            trust_remote_code=False,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
