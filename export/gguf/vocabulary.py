"""A checkpoint's tokenizer as GGUF metadata: pieces, kinds, merges or scores, special tokens, chat template."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import read_template, turn_end
from empathy_edge.system.files import read_json

MOST_TOKENIZER_BYTES = 64 * 2**20

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = {
    _WORDS % "{1,3}": "llama-bpe",  # Llama 3
    _WORDS % "": "qwen2",  # Qwen2, Qwen2.5, Qwen3
    _CASED: "tekken",  # Mistral's newer ones
    "digits": "smollm",
    "byte-level": "gpt-2",
}
"""The rule that splits text before byte-level BPE → llama.cpp's name of it (its `llama-vocab.cpp`)."""


def write_vocabulary(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    """Write the tokenizer and the chat template.

    Raises:
        EmpathyEdgeError: a tokenizer that llama.cpp has no equal of, or no chat template.
    """
    import gguf

    tokenizer = _read_tokenizer(checkpoint)
    model = tokenizer["model"]
    tokens = {index: piece for piece, index in model["vocab"].items()}
    kinds = {index: gguf.TokenType.NORMAL for index in tokens}
    if model.get("byte_fallback"):
        kinds |= {index: gguf.TokenType.BYTE for index, piece in tokens.items() if _is_byte(piece)}
    for item in tokenizer.get("added_tokens", []):
        tokens[item["id"]] = item["content"]
        kinds[item["id"]] = gguf.TokenType.CONTROL if item["special"] else gguf.TokenType.USER_DEFINED
    ids = range(config["vocab_size"])
    if model.get("byte_fallback"):
        _write_sentencepiece(writer, checkpoint, tokenizer, ids, tokens, kinds)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pre_tokenizer(checkpoint, tokenizer))
        writer.add_token_merges(
            [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        )
        writer.add_add_space_prefix(False)
    writer.add_token_list([tokens.get(index, f"[PAD{index}]") for index in ids])
    writer.add_token_types([kinds.get(index, gguf.TokenType.UNUSED) for index in ids])
    template = read_template(checkpoint)
    _write_special_tokens(
        writer, checkpoint, tokenizer, {text: index for index, text in tokens.items()}, template
    )
    writer.add_chat_template(template)


def name_for_llama_cpp(checkpoint: Path) -> str:
    """The model's name: its folder's. llama.cpp takes from it, and only from it, whether the tokenizer is Phi-3's.

    Phi-3's special tokens swallow the spaces behind them; a name with phi-3 in it switches that on.
    """
    name = f"{checkpoint.resolve().parent.name}-{checkpoint.name}"
    swallows = any(item.get("rstrip") for item in _read_tokenizer(checkpoint).get("added_tokens", []))
    return f"phi-3 {name}" if swallows else re.sub(r"(?i)phi-?3", "phi_3", name)


def _read_tokenizer(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        raise EmpathyEdgeError(
            f"{checkpoint}: no tokenizer.json; save the tokenizer with transformers 5 to get it."
        )
    if file.stat().st_size > MOST_TOKENIZER_BYTES:
        raise EmpathyEdgeError(f"{file}: {file.stat().st_size / 1e6:.0f} MB is no tokenizer's size.")
    tokenizer: dict[str, Any] = read_json(file)
    kind = (tokenizer.get("model") or {}).get("type")
    if kind != "BPE":
        raise EmpathyEdgeError(
            f"{checkpoint}: the tokenizer is {kind}; supported: BPE, byte-level or SentencePiece's."
        )
    return tokenizer


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _write_sentencepiece(
    writer: Any,
    checkpoint: Path,
    tokenizer: dict[str, Any],
    ids: range,
    tokens: dict[int, str],
    kinds: dict[int, Any],
) -> None:
    """SentencePiece's BPE: llama.cpp joins the pair whose piece has the highest score, so scores follow the merges' order."""
    import gguf

    model = tokenizer["model"]
    unknown = model["vocab"].get(model.get("unk_token"))
    if unknown is not None:
        kinds[unknown] = gguf.TokenType.UNKNOWN
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([-float(ranks.get(tokens.get(index, ""), len(ranks))) for index in ids])
    writer.add_add_space_prefix(_adds_space(checkpoint, tokenizer))


def _adds_space(checkpoint: Path, tokenizer: dict[str, Any]) -> bool:
    """Whether a space is put before text; llama.cpp does it behind every special token or not at all."""
    steps = [step for part in ("normalizer", "pre_tokenizer") for step in _steps(tokenizer.get(part))]
    if any(step["type"] == "Prepend" for step in steps):
        return True
    scheme = next(
        (step.get("prepend_scheme", "always") for step in steps if step["type"] == "Metaspace"), "never"
    )
    # `first` puts it at the very beginning only, where chat templates have a special token: never, then.
    return bool(scheme == "always")


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    part = part or {}
    return part.get("pretokenizers") or part.get("normalizers") or ([part] if part else [])


def _pre_tokenizer(checkpoint: Path, tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of the rule that splits text before byte-level BPE."""
    steps = _steps(tokenizer.get("pre_tokenizer"))
    kinds = [step.get("type") for step in steps]
    rule = None
    if (
        kinds == ["Digits", "ByteLevel"]
        and steps[0].get("individual_digits")
        and steps[1].get("use_regex", True)
    ):
        rule = "digits"
    elif kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        rule = "byte-level"
    elif kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        rule = steps[0]["pattern"].get("Regex")
    if rule not in PRE_TOKENIZERS:
        raise EmpathyEdgeError(
            f"{checkpoint}: the tokenizer splits text in a way that is not supported "
            f"({', '.join(map(str, kinds)) or 'no pre-tokenizer'}); supported: {', '.join(PRE_TOKENIZERS.values())}."
        )
    return PRE_TOKENIZERS[rule]


def _write_special_tokens(
    writer: Any, checkpoint: Path, tokenizer: dict[str, Any], ids: dict[str, int], template: str
) -> None:
    settings = read_json(checkpoint / "tokenizer_config.json")

    def named(role: str) -> int | None:
        text = settings.get(f"{role}_token")
        return ids.get(text["content"] if isinstance(text, dict) else text)

    for role in ("bos", "unk", "pad"):
        token = named(role)
        if token is not None:
            getattr(writer, f"add_{role}_token_id")(token)
    turn = ids.get(turn_end(template))
    if turn is None:
        raise EmpathyEdgeError(
            f"{checkpoint}: the template ends a turn with {turn_end(template)}, no token of it."
        )
    end = named("eos")
    writer.add_eos_token_id(turn if end is None else end)
    writer.add_eot_token_id(turn)
    processor = tokenizer.get("post_processor") or {}
    first = [step for step in _flat(processor) if "SpecialToken" in step][:1]
    writer.add_add_bos_token(bool(first) and ids.get(first[0]["SpecialToken"]["id"]) == named("bos"))


def _flat(processor: dict[str, Any]) -> list[dict[str, Any]]:
    """What a post-processor puts around one text, in order, as far as its first text."""
    parts = processor.get("processors", [processor])
    steps = [step for part in parts for step in part.get("single", [])]
    text = next((place for place, step in enumerate(steps) if "Sequence" in step), len(steps))
    return steps[:text]
