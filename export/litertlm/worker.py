"""Quantize a LiteRT graph; runs in the environment of litert-torch, and imports nothing of this project.

    python worker.py RECIPE GRAPH OUT

ai-edge-quantizer has no command line that takes these recipes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

LAYERS = "self_attn|attention|mlp|feed_forward"
"""The names of the matrices of the layers begin so; others are the embeddings and the output matrix."""

MAX_CODE = 8
"""Of four bits with a sign: -8 to 7."""

SMALLEST_SCALE = 6.2e-5
"""The scale of weights that are all 0: scales of blocks are stored in half precision."""


def main() -> None:
    """Quantize the graph at argv[2] by the recipe named in argv[1], and write it to argv[3]."""
    from ai_edge_quantizer import quantizer

    recipe, graph, out = sys.argv[1:]
    work = quantizer.Quantizer(graph)
    work.load_quantization_recipe(recipe_of(recipe))
    work.quantize().export_model(out, overwrite=True)


def recipe_of(name: str) -> Any:
    """A recipe of ai-edge-quantizer.

    `int8` has a scale for each row, after a Hadamard rotation (a quarter of the KL divergence of the plain
    one, at the same size). `int4` has a scale for each 32 weights of the layers, found by OCTAV, and eight
    bits in embeddings and output. `int4-gptq` is the same for weights that lie on such a grid already.
    """
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.algorithms.uniform_quantize import dequantized_weight_recovery, octav

    find_range = octav._guess_clipping_with_octav

    def positive_range(*arguments: Any, **named: Any) -> np.ndarray:
        """The range of each row or block. Of zeros alone it is not 0: XNNPACK refuses a scale of 0."""
        found: np.ndarray = find_range(*arguments, **named)
        return np.where(found == 0, MAX_CODE * SMALLEST_SCALE, found)

    octav._guess_clipping_with_octav = positive_range
    eight_bits = recipe.dynamic_wi8c_hr_afp32()
    if name == "int8":
        return eight_bits
    method = recipe.AlgorithmName.OCTAV
    if name == "int4-gptq":
        method = recipe.AlgorithmName.DEQUANTIZED_WEIGHT_RECOVERY
        dequantized_weight_recovery.get_zp_scale_from_dequantized_symmetric_weights = scales_of_grid
    return eight_bits + recipe.dynamic_wi4b32_afp32(
        regex=LAYERS, operation_name=recipe.TFLOperationName.FULLY_CONNECTED, algorithm_key=method
    )


def scales_of_grid(
    dequant_vals: np.ndarray, quantized_dimension: int | None = None, block_size: int = 0, **_: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The zero points and scales of weights that are multiples, -8 to 7, of one number in each block.

    ai-edge-quantizer's own function takes the smallest gap between two weights, which is a multiple of the
    scale in blocks that use few of the codes.

    Args:
        dequant_vals: float32 [rows, columns].
        quantized_dimension: the rows' dimension (1: blocks lie along the columns).
        block_size: weights in a block.
    """
    rows, columns = dequant_vals.shape
    blocks = dequant_vals.reshape(rows, columns // block_size, block_size).astype(np.float64)
    largest = np.abs(blocks).max(-1, keepdims=True)
    scales = np.full(largest.shape, SMALLEST_SCALE)
    found = largest == 0
    for code in range(1, MAX_CODE + 1):  # the coarsest grid on which all weights lie
        scale = np.where(largest > 0, largest / code, 1)
        codes = blocks / scale
        on_grid = (np.abs(codes - np.round(codes)).max(-1, keepdims=True) < 1e-3) & ~found
        on_grid &= np.round(codes).max(-1, keepdims=True) < MAX_CODE  # 8 itself is not among the codes
        scales = np.where(on_grid, scale, scales)
        found |= on_grid
    if not found.all():
        raise ValueError(f"{int((~found).sum())} blocks do not lie on a grid of four bits")
    scales = scales[..., 0].astype(np.float32)
    return np.zeros(scales.shape, np.int32), scales


if __name__ == "__main__":
    main()
