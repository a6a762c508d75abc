"""Names of artifacts, as `gguf-q4_0-gptq`: the format, the quantization, and how it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from empathy_edge.errors import EmpathyEdgeError, did_you_mean

FLOAT_TYPES = ("f32", "f16", "bf16")
GGUF_TYPES = (
    "q8_0", "q6_k", "q5_0", "q5_1", "q5_k_s", "q5_k_m",
    "q4_0", "q4_1", "q4_k_s", "q4_k_m", "iq4_nl", "iq4_xs",
    "q3_k_s", "q3_k_m", "q3_k_l", "iq3_m", "iq3_s", "iq3_xs", "iq3_xxs", "q2_k", "q2_k_s",
    "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "tq1_0", "tq2_0",
)  # fmt: skip
"""llama.cpp's quantization types, in lower case."""

NEEDS_IMATRIX = ("iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "q2_k_s")
"""Types that llama.cpp makes with an importance matrix only."""

COMPENSATED = ("q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1", "q8_0")
"""Types that the error-compensating rounding (GPTQ) can make."""

Method = Literal["plain", "imatrix", "gptq", "lora", "budget"]


@dataclass(frozen=True)
class ArtifactName:
    """A parsed name.

    Attributes:
        text: the name itself, which is also the folder's.
        format: the format, and with it the runtime.
        quantization: the type, as `q4_0` or `int4`; for `lora` the adapter's type.
        method: `plain` rounds to the nearest value; `imatrix` weights errors by an importance matrix; `gptq`
            compensates each error in the weights that are not rounded yet; `lora` leaves the base as it is
            and ships the adapter beside it; `budget` mixes types to stay below a file size.
        budget_mb: for `budget`, the largest size in MB (10^6 bytes).
    """

    text: str
    format: Literal["gguf", "onnx-genai", "onnx-portable", "executorch", "litertlm"]
    quantization: str
    method: Method = "plain"
    budget_mb: int | None = None


_FIXED_NAMES = (
    ArtifactName("gguf-lora-f16", "gguf", "f16", "lora"),
    ArtifactName("gguf-lora-q8_0", "gguf", "q8_0", "lora"),
    ArtifactName("onnx-int4", "onnx-genai", "int4"),
    ArtifactName("onnx-int4-gptq", "onnx-genai", "int4", "gptq"),
    ArtifactName("onnx-lora-int4", "onnx-genai", "int4", "lora"),
    ArtifactName("onnx-int8", "onnx-genai", "int8"),
    ArtifactName("onnx-fp32", "onnx-genai", "fp32"),
    ArtifactName("onnx-portable-fp32", "onnx-portable", "fp32"),
    ArtifactName("onnx-portable-int8", "onnx-portable", "int8"),
    ArtifactName("executorch-fp32", "executorch", "fp32"),
    ArtifactName("litertlm-fp32", "litertlm", "fp32"),
    ArtifactName("litertlm-int8", "litertlm", "int8"),
    ArtifactName("litertlm-int4", "litertlm", "int4"),
    ArtifactName("litertlm-int4-gptq", "litertlm", "int4", "gptq"),
    ArtifactName("executorch-int8", "executorch", "int8"),
    ArtifactName("executorch-8da4w", "executorch", "8da4w"),
)
"""The names without a variable part."""


def artifact_names() -> list[str]:
    """Every name but those of a budget, as gguf-95mb."""
    plain = [kind for kind in (*FLOAT_TYPES, *GGUF_TYPES) if kind not in NEEDS_IMATRIX]
    return [
        *(f"gguf-{kind}" for kind in plain),
        *(f"gguf-{kind}-imatrix" for kind in GGUF_TYPES),
        *(f"gguf-{kind}-gptq" for kind in COMPENSATED),
        *(fixed.text for fixed in _FIXED_NAMES),
    ]


def is_artifact(name: str) -> bool:
    """Whether there is an artifact of this name."""
    try:
        parse_artifact(name)
    except EmpathyEdgeError:
        return False
    return True


def parse_artifact(name: str) -> ArtifactName:
    """Read a name such as gguf-q4_0, gguf-q4_0-gptq, gguf-iq2_xs-imatrix, gguf-95mb, onnx-int4.

    Raises:
        EmpathyEdgeError: there is no such artifact; names the nearest, and where all are listed.
    """
    for fixed in _FIXED_NAMES:
        if fixed.text == name:
            return fixed
    parsed = _parse_gguf(name)
    if parsed is not None:
        return parsed
    raise EmpathyEdgeError(
        f"no such artifact: {name}.{did_you_mean(name, artifact_names())}\n"
        "  Names are as gguf-q8_0, gguf-q4_k_m-imatrix, onnx-int4; docs/export.md has them all."
    )


def _parse_gguf(name: str) -> ArtifactName | None:
    match = re.fullmatch(r"gguf-(\w+?)(?:-(imatrix|gptq))?", name)
    if match is None:
        return None
    kind, suffix = match[1], match[2]
    if suffix == "imatrix":
        return ArtifactName(name, "gguf", kind, "imatrix") if kind in GGUF_TYPES else None
    if suffix == "gptq":
        return ArtifactName(name, "gguf", kind, "gptq") if kind in COMPENSATED else None
    if budget := re.fullmatch(r"(\d{1,6})mb", kind):
        return ArtifactName(name, "gguf", "mixed", "budget", int(budget[1]))
    if kind in NEEDS_IMATRIX:
        raise EmpathyEdgeError(f"{name}: llama.cpp needs an importance matrix for it; say {name}-imatrix.")
    return ArtifactName(name, "gguf", kind) if kind in (*FLOAT_TYPES, *GGUF_TYPES) else None
