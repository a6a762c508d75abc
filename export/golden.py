"""The token ids of a fixed conversation, on which a merge is proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, fit_to_template, read_template, render


def golden_ids(folder: Path) -> Any:
    """The ids of the golden conversation, the assistant's turn opened: a tensor [1, tokens].

    The template may be from anyone: it is rendered here, with bounds on its time and memory, and not by
    transformers, which has none.

    Args:
        folder: of the tokenizer and the template.

    Raises:
        EmpathyEdgeError: the template cannot be rendered, or does too much.
    """
    quiet_libraries()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    template = read_template(folder)
    messages = fit_to_template(template, GOLDEN_CONVERSATION)
    text = render(template, messages, bos=tokenizer.bos_token or "", eos=tokenizer.eos_token or "")
    return tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]


def logits_of(model: Any, ids: Any, folder: Path) -> Any:
    """A model's logits, float32 [1, tokens, vocabulary].

    Args:
        model: a causal language model of transformers, or PEFT's model of one.
        ids: of `golden_ids`.
        folder: for the error message.

    Raises:
        EmpathyEdgeError: the conversation has a token that the model has no row of embeddings for.
    """
    import torch

    rows = int(model.config.get_text_config().vocab_size)
    largest = int(ids.max())
    if largest >= rows:
        raise EmpathyEdgeError(
            f"{folder}: the chat template writes the token number {largest}, but there are {rows} rows of "
            "embeddings, so the model cannot read it.\n  Save the embeddings with the adapter "
            "(modules_to_save), or take the tokenizer's files out of the adapter's folder."
        )
    with torch.inference_mode():
        return model.eval()(input_ids=ids, use_cache=False).logits
