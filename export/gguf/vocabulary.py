"""A checkpoint's tokenizer as GGUF metadata: tokens, merges or scores, special tokens, chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.gguf.families import NotWritten
from empathy_edge.formats.chat_format import (
    Message,
    eos_of,
    fit_to_template,
    read_template,
    render,
    turn_end,
)
from empathy_edge.formats.vocabulary import first_special_token
from empathy_edge.runtimes.pieces import special_text
from empathy_edge.system.files import read_json

MAX_TOKENIZER_BYTES = 64 * 2**20

_SHORT_CONVERSATION: list[Message] = [
    {"role": "system", "content": "a"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "a"},
]
"""Its texts have no token of their own, so that what else is in the prompt is the template's."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS_BY_CASE = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = {
    _WORDS % "{1,3}": "llama-bpe",  # Llama 3
    _WORDS % "": "qwen2",  # Qwen2, Qwen2.5, Qwen3
    _WORDS_BY_CASE: "tekken",  # Mistral's newer ones
    "digits": "smollm",
    "byte-level": "gpt-2",
}
"""The rule that splits text before byte-level BPE → llama.cpp's name of it (its `llama-vocab.cpp`)."""


def write_vocabulary(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    """Write the tokenizer and the chat template.

    Tokens without a row of embeddings are left out, as llama.cpp's own script does it: Gemma 3's tokenizer
    has one for images, which a model of text alone has no row for.

    Raises:
        EmpathyEdgeError: a tokenizer that llama.cpp has no equal of, no chat template, or one that writes a
            token without a row of embeddings.
    """
    import gguf

    tokenizer = _read_tokenizer(checkpoint)
    tokens, kinds = _tokens_and_kinds(tokenizer)
    template = read_template(checkpoint)
    rows = config["vocab_size"]
    ids = range(rows)
    _require_rows_for_prompts(checkpoint, tokenizer, rows, template)
    _say_what_is_left_out(tokens, rows)
    if tokenizer["model"].get("byte_fallback"):
        _write_sentencepiece(writer, checkpoint, tokenizer, [tokens.get(index, "") for index in ids])
    else:
        _write_byte_level(writer, checkpoint, tokenizer)
    writer.add_token_list([tokens.get(index, f"[PAD{index}]") for index in ids])
    writer.add_token_types([kinds.get(index, gguf.TokenType.UNUSED) for index in ids])
    id_of = {text: index for index, text in tokens.items() if index < rows}
    _write_special_tokens(writer, checkpoint, tokenizer, id_of, template)
    writer.add_chat_template(template)


def _require_rows_for_prompts(checkpoint: Path, tokenizer: dict[str, Any], rows: int, template: str) -> None:
    """Refuse a tokenizer with which every prompt would have a token that the model cannot read.

    Args:
        checkpoint: for the special tokens' texts, and the error message.
        tokenizer: what tokenizer.json holds. Its added tokens are found in a text whatever is around them.
        rows: of embeddings.
        template: the chat template.
    """
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    left_out = {text: index for text, index in added.items() if text and index >= rows}
    if not left_out:
        return
    eos = eos_of(checkpoint)
    bos = special_text(read_json(checkpoint / "tokenizer_config.json").get("bos_token"))
    prompt = render(template, fit_to_template(template, _SHORT_CONVERSATION), bos=bos, eos=eos)
    written = f"{prompt}{turn_end(template, eos)}"
    first = first_special_token(tokenizer.get("post_processor") or {})
    for text, index in left_out.items():
        if text in written or text == first:
            where = "the chat template writes" if text in written else "the tokenizer begins every text with"
            raise EmpathyEdgeError(
                f"{checkpoint}: {where} the token {text!r} (number {index}), but there are {rows} rows of "
                "embeddings, so the model cannot read it.\n  Take the tokenizer and the template that it was "
                "trained with, or the checkpoint whose embeddings grew with them (resize_token_embeddings)."
            )


def _say_what_is_left_out(tokens: Mapping[int, str], rows: int) -> None:
    """Warn of tokens without a row of embeddings, which a GGUF cannot hold."""
    left_out = sorted(index for index in tokens if index >= rows)
    if left_out:
        first = escape(repr(tokens[left_out[0]]))
        say(
            f"  [yellow]Warning:[/] the tokenizer has tokens up to {left_out[-1]}, but there are {rows} rows "
            f"of embeddings: the GGUF leaves {len(left_out)} out (the first: {first})."
        )


def name_for_llama_cpp(checkpoint: Path, name: str) -> str:
    """The model's name, as apps show it.

    llama.cpp recognizes Phi-3's tokenizer by this name only: where it has phi-3 in it, special tokens swallow
    the spaces behind them.
    """
    added_tokens = _read_tokenizer(checkpoint).get("added_tokens", [])
    if any(token.get("rstrip") for token in added_tokens):
        return f"phi-3 {name}"
    return re.sub(r"(?i)phi-?3", "phi_3", name)


def _read_tokenizer(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        raise NotWritten(
            f"{checkpoint}: no tokenizer.json; save the tokenizer with transformers 5 to get it."
        )
    if file.stat().st_size > MAX_TOKENIZER_BYTES:
        raise EmpathyEdgeError(f"{file}: {file.stat().st_size / 1e6:.0f} MB is no tokenizer's size.")
    tokenizer: dict[str, Any] = read_json(file)
    kind = (tokenizer.get("model") or {}).get("type")
    if kind != "BPE":
        raise NotWritten(
            f"{checkpoint}: the tokenizer is {kind}; our own writer knows BPE, byte-level or SentencePiece's."
        )
    return tokenizer


def _tokens_and_kinds(tokenizer: dict[str, Any]) -> tuple[dict[int, str], dict[int, Any]]:
    """By their ids the texts of all tokens, and their kinds (gguf's TokenType)."""
    import gguf

    model = tokenizer["model"]
    tokens = {index: text for text, index in model["vocab"].items()}
    kinds = {index: gguf.TokenType.NORMAL for index in tokens}
    if model.get("byte_fallback"):
        for index, text in tokens.items():
            if _is_byte(text):
                kinds[index] = gguf.TokenType.BYTE
    for token in tokenizer.get("added_tokens", []):
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    unknown = model["vocab"].get(model.get("unk_token")) if model.get("byte_fallback") else None
    if unknown is not None:
        kinds[unknown] = gguf.TokenType.UNKNOWN
    return tokens, kinds


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def _write_byte_level(writer: Any, checkpoint: Path, tokenizer: dict[str, Any]) -> None:
    """Byte-level BPE, GPT-2's kind."""
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(checkpoint, tokenizer))
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_add_space_prefix(False)


def _write_sentencepiece(writer: Any, checkpoint: Path, tokenizer: dict[str, Any], tokens: list[str]) -> None:
    """SentencePiece's BPE.

    llama.cpp joins the pair with the highest score, so the scores follow the order of the merges.

    Args:
        writer: a GGUFWriter.
        checkpoint: for the error message.
        tokenizer: what tokenizer.json holds.
        tokens: the text of each token, empty where an id has none.
    """
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(tokenizer["model"]["merges"]):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault("".join(parts), rank)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([-float(ranks.get(token, len(ranks))) for token in tokens])
    writer.add_add_space_prefix(_adds_space(tokenizer))


def _adds_space(tokenizer: dict[str, Any]) -> bool:
    """Whether a space is put before text; llama.cpp does it behind every special token or not at all."""
    steps = [*_steps(tokenizer.get("normalizer")), *_steps(tokenizer.get("pre_tokenizer"))]
    if any(step["type"] == "Prepend" for step in steps):
        return True
    schemes = [step.get("prepend_scheme", "always") for step in steps if step["type"] == "Metaspace"]
    # `first` puts it only at the very beginning, where chat templates have a special token: so never.
    return bool(schemes) and schemes[0] == "always"


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer; one that is no sequence is one step."""
    part = part or {}
    return part.get("pretokenizers") or part.get("normalizers") or ([part] if part else [])


def _pre_tokenizer(checkpoint: Path, tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of the rule that splits text before byte-level BPE."""
    steps = _steps(tokenizer.get("pre_tokenizer"))
    kinds = [step.get("type") for step in steps]
    rule = _splitting_rule(steps, kinds)
    if rule not in PRE_TOKENIZERS:
        found = ", ".join(map(str, kinds)) or "no pre-tokenizer"
        raise NotWritten(
            f"{checkpoint}: the tokenizer splits text in a way that our own writer does not know ({found}; "
            f"it knows {', '.join(PRE_TOKENIZERS.values())})."
        )
    return PRE_TOKENIZERS[rule]


def _splitting_rule(steps: list[dict[str, Any]], kinds: list[Any]) -> Any:
    """The regular expression by which text is split, or the name of a rule that needs none."""
    if kinds == ["Digits", "ByteLevel"]:
        known = steps[0].get("individual_digits") and steps[1].get("use_regex", True)
        return "digits" if known else None
    if kinds == ["ByteLevel"]:
        return "byte-level" if steps[0].get("use_regex", True) else None
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        return steps[0]["pattern"].get("Regex")
    return None


def _write_special_tokens(
    writer: Any, checkpoint: Path, tokenizer: dict[str, Any], id_of: Mapping[str, int], template: str
) -> None:
    settings = read_json(checkpoint / "tokenizer_config.json")

    def special(role: str) -> int | None:
        text = settings.get(f"{role}_token")
        return id_of.get(text["content"] if isinstance(text, dict) else text)

    add = {"bos": writer.add_bos_token_id, "unk": writer.add_unk_token_id, "pad": writer.add_pad_token_id}
    for role, add_token in add.items():
        token = special(role)
        if token is not None:
            add_token(token)
    turn_ends_with = turn_end(template, eos_of(checkpoint))
    end_of_turn = id_of.get(turn_ends_with)
    if end_of_turn is None:
        raise EmpathyEdgeError(
            f"{checkpoint}: the template ends a turn with {turn_ends_with}, no token of it."
        )
    end = special("eos")
    writer.add_eos_token_id(end_of_turn if end is None else end)
    writer.add_eot_token_id(end_of_turn)
    first = first_special_token(tokenizer.get("post_processor") or {})
    writer.add_add_bos_token(first is not None and id_of.get(first) == special("bos"))
