"""What an artifact can be: its name says the format, the bits, and the way to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from empathy_edge.errors import EmpathyEdgeError

FLOAT_TYPES = ("f32", "f16", "bf16")
GGUF_TYPES = (
    "q8_0", "q6_k", "q5_0", "q5_1", "q5_k_s", "q5_k_m", "q4_0", "q4_1", "q4_k_s", "q4_k_m", "iq4_nl", "iq4_xs",
    "q3_k_s", "q3_k_m", "q3_k_l", "iq3_m", "iq3_s", "iq3_xs", "iq3_xxs", "q2_k", "q2_k_s",
    "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "tq1_0", "tq2_0",
)  # fmt: skip
"""llama.cpp's quantizations, by its own names in lower case."""

NEEDS_IMATRIX = ("iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "q2_k_s")
COMPENSATED = ("q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1", "q8_0")
"""Types that the error-compensating rounding knows."""

Method = Literal["plain", "imatrix", "gptq", "lora", "budget"]


@dataclass(frozen=True)
class ArtifactName:
    """A parsed name.

    Attributes:
        text: the name itself, which is also the folder's.
        format: `gguf`, `onnx-genai`, `onnx-portable` or `executorch`.
        quantization: the type, as `q4_0` or `int4`; of a LoRA that of the adapter.
        method: `plain` rounds to the nearest; `imatrix` weighs by importance; `gptq` compensates each error in the weights
            still to be rounded; `lora` leaves the base as it is and ships the adapter beside it; `budget` mixes types.
        budget_mb: of `budget`, the most megabytes.
    """

    text: str
    format: Literal["gguf", "onnx-genai", "onnx-portable", "executorch"]
    quantization: str
    method: Method = "plain"
    budget_mb: int | None = None


def is_artifact(name: str) -> bool:
    """Whether there is an artifact of this name."""
    try:
        parse_artifact(name)
    except EmpathyEdgeError:
        return False
    return True


def parse_artifact(name: str) -> ArtifactName:
    """Read a name such as gguf-q4_0, gguf-q4_0-gptq, gguf-iq2_xs-imatrix, gguf-lora-f16, gguf-95mb, onnx-int4.

    Raises:
        EmpathyEdgeError: no such artifact; says which there are.
    """
    if match := re.fullmatch(r"gguf-(\w+?)(?:-(imatrix|gptq))?", name):
        kind, method = match[1], match[2] or "plain"
        if method == "plain" and (budget := re.fullmatch(r"(\d{1,6})mb", kind)):
            return ArtifactName(name, "gguf", "mixed", "budget", int(budget[1]))
        if method == "plain" and kind in NEEDS_IMATRIX:
            raise EmpathyEdgeError(
                f"{name}: llama.cpp needs an importance matrix for it; say {name}-imatrix."
            )
        known = {"plain": (*FLOAT_TYPES, *GGUF_TYPES), "imatrix": GGUF_TYPES, "gptq": COMPENSATED}[method]
        if kind in known:
            return ArtifactName(name, "gguf", kind, method)  # type: ignore[arg-type]
    if match := re.fullmatch(r"gguf-lora-(f16|q8_0)", name):
        return ArtifactName(name, "gguf", match[1], "lora")
    if match := re.fullmatch(r"onnx-(int4|int8|fp32)", name):
        return ArtifactName(name, "onnx-genai", match[1])
    if match := re.fullmatch(r"onnx-portable-(int8|fp32)", name):
        return ArtifactName(name, "onnx-portable", match[1])
    if name == "onnx-int4-gptq":
        return ArtifactName(name, "onnx-genai", "int4", "gptq")
    if name == "onnx-lora-int4":
        return ArtifactName(name, "onnx-genai", "int4", "lora")
    if name == "executorch-fp32":
        return ArtifactName(name, "executorch", "fp32")
    raise EmpathyEdgeError(
        f"no such artifact: {name}. There are gguf-TYPE with TYPE one of {', '.join((*FLOAT_TYPES, *GGUF_TYPES))}; "
        f"gguf-TYPE-imatrix; gguf-TYPE-gptq with one of {', '.join(COMPENSATED)}; gguf-lora-f16, gguf-lora-q8_0; "
        "gguf-95mb (any budget); onnx-int4, onnx-int4-gptq, onnx-lora-int4, onnx-int8, onnx-fp32; onnx-portable-fp32, onnx-portable-int8; executorch-fp32."
    )
