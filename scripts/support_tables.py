"""Write the tables of docs/formats.md from the tests: adapters, quantized bases, families, templates.

A test compares the page with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
BEGIN = "<!-- made by `make docs` from the lists in tests/; a test fails when it is stale -->\n"
PIPE = "\\|"
"""A bar that ends no cell of a table."""
END = "<!-- end of what `make docs` makes -->\n"


def support_markdown() -> str:
    """The sections: adapters, quantized bases, families, templates."""
    from empathy_edge.formats.built_in_templates import BUILT_IN
    from tests.export.test_converter import ONLY_BY_SCRIPT
    from tests.export.test_families import CASES
    from tests.export.test_litertlm_families import (
        BY_HAND,
        CONVERTED,
        FP32_ONLY,
        REFUSED_BY_HAND,
        WRONG,
    )
    from tests.export.test_litertlm_families import REFUSED as REFUSED_BY_LITERT
    from tests.export.test_onnx_families import BY_BUILDER
    from tests.export.test_onnx_families import REFUSED as REFUSED_BY_BUILDER
    from tests.export.test_vocabulary import KINDS
    from tests.models.test_adapters import CONFIGS, PREFIXES, REFUSED
    from tests.models.test_four_bit_bases import BITSANDBYTES, PACKED
    from tests.models.test_four_bit_bases import REFUSED as REFUSED_BASES
    from tests.models.test_new_tokens import CONFIGS as NEW_TOKENS

    families = [*CASES, "gemma 3 with vision (its text part)"]
    lines = [
        "## Adapters",
        "",
        "Each kind is made with PEFT on a tiny model, merged, and compared with PEFT's own adapter model",
        "(`tests/models/test_adapters.py`).",
        "",
        "| | |",
        "|---|---|",
        _row("merged", CONFIGS),
        _row("merged, too", ["new tokens with the tokenizer beside the adapter", "LoRA, then DoRA"]),
        _row("merged, with tokens that the base lacks", NEW_TOKENS),
        _row("prefixes of names that are known", PREFIXES),
        _row("refused with the reason", [*REFUSED, "pickled weights"]),
        "",
        "## Quantized bases",
        "",
        "A checkpoint with quantized weights, as a base or for itself, is dequantized once into the cache,",
        "tensor by tensor (`tests/models/test_four_bit_bases.py`). bitsandbytes is compared with itself, the",
        "others with packers written from their descriptions. Once, by hand, AutoGPTQ 0.7.1, AutoAWQ 0.2.9",
        "and compressed-tensors 0.20.1 unpacked random matrices to the same values, bit by bit.",
        "",
        "| | |",
        "|---|---|",
        _row("bitsandbytes", BITSANDBYTES),
        _row("others", PACKED),
        _row("refused with the reason", REFUSED_BASES),
        "",
        "## Families",
        "",
        "Each is a tiny model of random weights, whose logits llama.cpp and torch must agree on within 1e-3",
        "(`tests/export`).",
        "",
        "| GGUF by | families |",
        "|---|---|",
        _row("our own writer", families),
        _row("llama.cpp's script, fetched once (`--converter auto`)", ONLY_BY_SCRIPT),
        _row("tokenizers of our own writer", KINDS),
        "",
        "Any other that the script knows is converted and compared with torch in the same way.",
        "",
        "| ONNX (`onnx-int4`) by ONNX Runtime GenAI's builder | families |",
        "|---|---|",
        _row("made and verified", ["llama", *BY_BUILDER]),
        _row("refused by the builder; the message names other artifacts", REFUSED_BY_BUILDER),
        "",
        "| LiteRT-LM (`litertlm-int8`) by litert-torch 0.9.4 | families |",
        "|---|---|",
        _row("made and verified", [*CONVERTED, *BY_HAND]),
        _row("in fp32 only", FP32_ONLY),
        _row("converted wrongly by litert-torch; the verification refuses it", WRONG),
        _row(
            "refused by litert-torch; the message names other artifacts",
            [*REFUSED_BY_LITERT, *REFUSED_BY_HAND],
        ),
        "",
        "## Built-in templates",
        "",
        "Each is compared with what the family documents, and with llama.cpp where it knows the format",
        "(`tests/formats/test_built_in_templates.py`). How they are chosen: [Templates](#templates).",
        "",
        "| `--template` | models | special tokens that the tokenizer must have |",
        "|---|---|---|",
    ]
    for name, template in BUILT_IN.items():
        tokens = " ".join(f"`{token}`" for token in template.tokens)
        lines.append(f"| `{name}` | {template.models} | {tokens.replace('|', PIPE)} |")
    return "\n".join(lines) + "\n"


def _row(name: str, items: Iterable[str]) -> str:
    return f"| {name} | {'; '.join(items)} |"


def page_with_tables() -> str:
    """docs/formats.md with new tables."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + support_markdown() + END + after


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(), encoding="utf-8")
