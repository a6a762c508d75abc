"""How far an artifact may be from its checkpoint: by what its type promises."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from empathy_edge.export.record import ArtifactRecord


class Bounds(BaseModel):
    """How far an artifact may be from its checkpoint.

    Attributes:
        mean_kl: the largest mean KL divergence, in nats a token.
        top1_agreement: the smallest share of response tokens at which the likeliest token is the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean_kl: float
    top1_agreement: float


BOUNDS = {
    "f16": Bounds(mean_kl=0.001, top1_agreement=0.99),
    "f32": Bounds(mean_kl=0.001, top1_agreement=0.99),
    "fp32": Bounds(mean_kl=0.001, top1_agreement=0.99),
    "bf16": Bounds(mean_kl=0.02, top1_agreement=0.95),
    "q8_0": Bounds(mean_kl=0.03, top1_agreement=0.93),
    "lora": Bounds(mean_kl=0.03, top1_agreement=0.93),
}
"""The quantization, or `lora` → its bounds."""

EIGHT_BITS = Bounds(mean_kl=0.3, top1_agreement=0.75)
"""Of int8, whose activations are rounded, too."""

SIX_BITS = Bounds(mean_kl=0.1, top1_agreement=0.85)
FIVE_BITS = Bounds(mean_kl=0.6, top1_agreement=0.6)
FOUR_BITS_OR_LESS = Bounds(mean_kl=1.5, top1_agreement=0.4)
"""These only show that the conversion is not broken; whether the responses are still empathetic is
`check`'s question. docs/results/four-bits.md has what each type loses."""


def bounds_of(record: ArtifactRecord) -> Bounds:
    """The bounds that its type promises."""
    kind = "lora" if record.method == "lora" else record.quantization
    if kind in BOUNDS:
        return BOUNDS[kind]
    if kind == "int8" and record.format == "onnx-genai":  # weights alone
        return BOUNDS["q8_0"]
    for beginning, bounds in (("int8", EIGHT_BITS), ("q6", SIX_BITS), ("q5", FIVE_BITS)):
        if kind.startswith(beginning):
            return bounds
    return FOUR_BITS_OR_LESS


NOTABLE_MEAN_KL = 0.05
"""Nats a token; of an artifact above it, `export` names one that loses less."""
