"""Chat templates of known families, for models that come without one; each is a file of `templates/`.

They are written from the families' public documentation, and do not write the token that begins a text
at their beginning: whether one is needed there depends on the tokenizer. Tests compare them with llama.cpp's
own formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from empathy_edge.formats.vocabulary import Vocabulary

_CHATML = ("<|im_start|>", "<|im_end|>")
_LLAMA_3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_GEMMA = ("<start_of_turn>", "<end_of_turn>")
_PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_INST = ("[INST]", "[/INST]")


@dataclass(frozen=True)
class BuiltIn:
    """A family's template.

    Attributes:
        models: which models were trained with it.
        tokens: the special tokens that it writes, beside those that a tokenizer names itself.
        model_types: what `config.json` calls models of the family; none: it is never proposed by the type.
    """

    models: str
    tokens: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()

    def fits(self, vocabulary: Vocabulary) -> bool:
        """Whether the tokenizer has every token that the template writes."""
        return all(token in vocabulary.tokens for token in self.tokens)


BUILT_IN = {
    "alpaca": BuiltIn("Alpaca and many fine-tuned base models"),
    "chatml": BuiltIn("Hermes, LFM2 and many others", _CHATML),
    "exaone-3.5": BuiltIn(
        "EXAONE 3.5", ("[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"), ("exaone",)
    ),
    "gemma": BuiltIn("Gemma 1 and 2 (no system prompt)", _GEMMA, ("gemma", "gemma2")),
    "gemma-3": BuiltIn("Gemma 3", _GEMMA, ("gemma3", "gemma3_text")),
    "granite": BuiltIn(
        "Granite 3", ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"), ("granite", "granitemoe")
    ),
    "llama-2": BuiltIn("Llama 2 Chat"),
    "llama-3": BuiltIn("Llama 3", _LLAMA_3, ("llama",)),
    "llama-3.2": BuiltIn("Llama 3.1, 3.2 and 3.3", _LLAMA_3, ("llama",)),
    "mistral-v3": BuiltIn("Mistral 7B v0.3 and Mistral Small 2409", _INST, ("mistral",)),
    "mistral-v3-tekken": BuiltIn("Mistral Nemo and Ministral 8B", _INST, ("mistral",)),
    "mistral-v7-tekken": BuiltIn(
        "Mistral Small 3", (*_INST, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), ("mistral",)
    ),
    "phi-3": BuiltIn("Phi-3 and Phi-3.5", _PHI, ("phi3",)),
    "phi-4-mini": BuiltIn("Phi-4-mini", _PHI, ("phi3",)),
    "qwen-2.5": BuiltIn("Qwen2.5", _CHATML, ("qwen2",)),
    "qwen-3": BuiltIn("Qwen3, without thinking", (*_CHATML, "<think>", "</think>"), ("qwen3",)),
    "smollm2": BuiltIn("SmolLM2", _CHATML, ("llama",)),
    "smollm3": BuiltIn("SmolLM3, without thinking", (*_CHATML, "<think>", "</think>"), ("smollm3",)),
    "vicuna": BuiltIn("Vicuna 1.1 and 1.5"),
    "zephyr": BuiltIn("Zephyr and TinyLlama"),
}
"""By the name that `--template` takes."""


def built_in_template(name: str, *, begins_with_bos: bool) -> str:
    """The Jinja source of a built-in template.

    Args:
        name: a key of BUILT_IN.
        begins_with_bos: whether the tokenizer begins every text with its beginning-of-sequence token.
    """
    file = resources.files("empathy_edge.formats") / "templates" / f"{name}.jinja"
    source = file.read_text(encoding="utf-8").rstrip("\n")
    return ("{{- bos_token -}}\n" if begins_with_bos else "") + source


def proposed(vocabulary: Vocabulary) -> list[str]:
    """The built-in templates whose tokens the tokenizer all has: the family's own, and ChatML."""
    return [
        name
        for name, template in BUILT_IN.items()
        if template.fits(vocabulary)
        and (vocabulary.model_type in template.model_types or (template.tokens and name == "chatml"))
    ]
