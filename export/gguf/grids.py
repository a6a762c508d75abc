"""The block formats that GPTQ can round onto: 32 weights with one scale, and some with an offset.

The byte layouts are those of llama.cpp's `ggml-common.h` (block_q4_0 and the structs beside it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

BLOCK = 32
"""Weights in a block."""

AFFINE_SHARES = (0.7, 1.0, 7)
"""First, last and number of the shares of a block's range that a grid with an offset is tried with."""

AFFINE_PLACES = (0.0, 0.5, 1.0)
"""Where such a smaller range may lie within the whole: at its low end, in the middle, at its high end."""

SYMMETRIC_SHARES = (0.72, 1.08, 19)
"""First, last and number of the shares of the extreme weight that a grid without an offset is tried with."""


@dataclass(frozen=True)
class Grid:
    """weight = scale · (code − zero) + offset, or scale · levels[code].

    Attributes:
        name: the tensor type, as `q4_0`.
        bits: of a code.
        zero: the code that stands for 0. None where an offset takes its place. With levels it is the size of
            the largest one.
        levels: what the codes stand for where they are not evenly spaced, in rising order.
        for_litert: scales are above 0, and of bf16's precision, as LiteRT's kernels have them.
    """

    name: str
    bits: int
    zero: int | None
    levels: tuple[int, ...] = ()
    for_litert: bool = False

    @property
    def max_code(self) -> int:
        """The largest code."""
        return 2**self.bits - 1 if self.bits < 8 else 255

    @property
    def min_code(self) -> int:
        """The smallest code; of eight bits it is 1, as q8_0 uses -127 to 127."""
        return 1 if self.bits == 8 else 0

    def fit(self, weights: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and offset of each row of a block: of some candidates those with the smallest weighted error.

        Args:
            weights: float32 [rows, 32].
            importance: what each column's squared error is multiplied by, float32 [32].

        Returns:
            Two float32 [rows, 1], already rounded to half precision, as the file holds them.
        """
        import torch

        candidates = self._symmetric(weights) if self.zero is not None else self._affine(weights)
        scale, offset = candidates[0]
        smallest = torch.full((len(weights), 1), torch.inf)
        for exact_scale, exact_offset in candidates:
            new_scale, new_offset = self._stored(exact_scale), exact_offset.half().float()
            decoded = self.decode(self.encode(weights, new_scale, new_offset), new_scale, new_offset)
            error = ((decoded - weights).square() * importance).sum(1, keepdim=True)
            better = error < smallest
            smallest = torch.where(better, error, smallest)
            scale = torch.where(better, new_scale, scale)
            offset = torch.where(better, new_offset, offset)
        return self._stored(scale), offset.half().float()

    def _stored(self, scale: torch.Tensor) -> torch.Tensor:
        """The scale as the file holds it."""
        import torch

        return scale.to(torch.bfloat16).half().float() if self.for_litert else scale.half().float()

    def _affine(self, weights: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Scales and offsets for the whole range of each row, and for smaller ranges within it."""
        import torch

        low, high = weights.amin(1, keepdim=True), weights.amax(1, keepdim=True)
        candidates = []
        for share in torch.linspace(*AFFINE_SHARES).tolist():
            for place in AFFINE_PLACES:
                scale = (high - low) * share / self.max_code
                candidates.append((scale, low + (high - low) * (1 - share) * place))
        return candidates

    def _symmetric(self, weights: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Scales by which the extreme weight of each row gets code 0, or a place a little beside it.

        Code 0 is the end of the longer side. Either sign is tried, except with eight bits, whose sides are
        of the same length.
        """
        import torch

        assert self.zero is not None
        extreme = weights.gather(1, weights.abs().argmax(1, keepdim=True))
        no_offset = torch.zeros_like(extreme)
        signs = (-1, 1) if self.bits < 8 else (-1,)
        if self.for_litert:
            extreme, signs = extreme.abs(), (1,)
        candidates = []
        for share in torch.linspace(*SYMMETRIC_SHARES).tolist():
            for sign in signs:
                candidates.append((sign * extreme * share / self.zero, no_offset))
        return candidates

    def encode(self, weights: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """The nearest codes, as float32."""
        import torch

        inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
        if self.levels:
            levels = torch.tensor(self.levels, dtype=torch.float32, device=scale.device)
            middles = (levels[1:] + levels[:-1]) / 2
            return torch.bucketize(weights * inverse, middles).float()
        codes = (weights - offset) * inverse
        return codes.add_(self.zero or 0).round_().clamp_(self.min_code, self.max_code)

    def decode(self, codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """The weights that codes stand for."""
        import torch

        if self.levels:
            levels = torch.tensor(self.levels, dtype=torch.float32, device=scale.device)
            return levels[codes.long()] * scale
        return (codes - (self.zero or 0)) * scale + offset

    def pack(self, codes: np.ndarray, scales: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The bytes of a matrix, uint8 [rows, bytes].

        Args:
            codes: uint8 [rows, blocks, 32].
            scales: float16 [rows, blocks].
            offsets: float16 [rows, blocks].
        """
        parts: list[np.ndarray] = [scales[..., None].view(np.uint8)]
        if self.zero is None:
            parts.append(offsets[..., None].view(np.uint8))
        if self.bits == 8:
            parts.append((codes.astype(np.int16) - 128).astype(np.int8).view(np.uint8))
        else:
            if self.bits == 5:  # the highest bit of all 32 codes comes before the other four bits
                parts.append(np.packbits(codes >> 4, axis=-1, bitorder="little"))
            low_bits = codes & np.uint8(15)
            parts.append(low_bits[..., :16] | low_bits[..., 16:] << np.uint8(4))
        return np.ascontiguousarray(np.concatenate(parts, axis=-1).reshape(len(codes), -1))


_IQ4_NL_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

LITERT_GRIDS = {"q4_0": Grid("q4_0", 4, 8, for_litert=True)}
"""LiteRT's four bits: Q4_0 with scales above 0."""

GRIDS = {
    grid.name: grid
    for grid in (
        Grid("q4_0", 4, 8),
        Grid("q4_1", 4, None),
        Grid("q5_0", 5, 16),
        Grid("q5_1", 5, None),
        Grid("q8_0", 8, 128),
        Grid("iq4_nl", 4, 127, _IQ4_NL_LEVELS),
    )
}
"""The tensor type → its grid."""
