"""The block formats on which rounding errors can be compensated: 32 weights with a scale, and with or without an offset.

The byte layouts are those of llama.cpp's `ggml-common.h` (block_q4_0 and its neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

BLOCK = 32


@dataclass(frozen=True)
class Grid:
    """w = scale · (code − zero) + offset, or scale · levels[code].

    Attributes:
        bits: of a code.
        zero: the code that means 0; None where an offset does it; where there are levels, the largest of them, unsigned.
        levels: what codes stand for where they do not stand at even distances, in rising order.
    """

    name: str
    bits: int
    zero: int | None
    levels: tuple[int, ...] = ()

    @property
    def most(self) -> int:
        """The largest code."""
        return 2**self.bits - 1 if self.bits < 8 else 255

    def fit(self, weights: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and offset of each row of a block, the best of some, by the weighed squared error.

        Args:
            weights: float32 [rows, 32].
            importance: float32 [32].

        Returns:
            Two float32 [rows, 1], already rounded to half precision as the file holds them.
        """
        import torch

        if self.zero is None:
            low, high = weights.amin(1, keepdim=True), weights.amax(1, keepdim=True)
            options = [((high - low) * share / self.most, low + (high - low) * (1 - share) * at)
                       for share in torch.linspace(0.7, 1.0, 7).tolist() for at in (0.0, 0.5, 1.0)]  # fmt: skip
        else:
            place = weights.abs().argmax(1, keepdim=True)
            extreme = weights.gather(1, place)
            none = torch.zeros_like(extreme)
            # The extreme weight goes to code 0, the grid's longer side, or a little beyond or within.
            shares = torch.linspace(0.72, 1.08, 19).tolist()
            sides = (-1, 1) if self.bits < 8 else (-1,)
            options = [(side * extreme * share / self.zero, none) for share in shares for side in sides]
        best = torch.full((len(weights), 1), torch.inf)
        scale, offset = options[0]
        for candidate, shift in options:
            candidate, shift = candidate.half().float(), shift.half().float()
            error = (self.decode(self.encode(weights, candidate, shift), candidate, shift) - weights).square()
            error = (error * importance).sum(1, keepdim=True)
            better = error < best
            best = torch.where(better, error, best)
            scale, offset = torch.where(better, candidate, scale), torch.where(better, shift, offset)
        return scale.half().float(), offset.half().float()

    def encode(self, weights: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """The nearest codes, as float32."""
        import torch

        inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
        if self.levels:
            levels = torch.tensor(self.levels, dtype=torch.float32)
            return torch.bucketize(weights * inverse, (levels[1:] + levels[:-1]) / 2).float()
        return (
            ((weights - offset) * inverse)
            .add_(self.zero or 0)
            .round_()
            .clamp_(1 if self.bits == 8 else 0, self.most)
        )

    def decode(self, codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """The weights that codes stand for."""
        import torch

        if self.levels:
            return torch.tensor(self.levels, dtype=torch.float32)[codes.long()] * scale
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
            if self.bits == 5:  # the fifth bits of all, then the nibbles
                parts.append(np.packbits(codes >> 4, axis=-1, bitorder="little"))
            low = codes & np.uint8(15)
            parts.append(low[..., :16] | low[..., 16:] << np.uint8(4))
        return np.ascontiguousarray(np.concatenate(parts, axis=-1).reshape(len(codes), -1))


GRIDS = {
    grid.name: grid
    for grid in (
        Grid("q4_0", 4, 8),
        Grid("q4_1", 4, None),
        Grid("q5_0", 5, 16),
        Grid("q5_1", 5, None),
        Grid("q8_0", 8, 128),
        Grid("iq4_nl", 4, 127, (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)),
    )
}
