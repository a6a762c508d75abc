"""GPTQ (Frantar et al., arXiv 2210.17323): rounding with error compensation, onto the block formats of GGUF.

Rounding to the nearest treats each weight alone. GPTQ rounds the columns of a matrix one after the other, and
changes the columns that are still to come so that they compensate each column's error, for the inputs that
the matrix really gets. Layers are rounded in their order. Each is calibrated on what the rounded layers
before it give, and its target is what the unrounded model gives there, so that errors of earlier layers are
compensated as well (GPTAQ, Li et al., arXiv 2504.02692).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from empathy_edge.console import progress, say
from empathy_edge.export.calibration import Calibration
from empathy_edge.export.gguf.families import Family, family_of, read_config, tensor_names
from empathy_edge.export.gguf.grids import BLOCK, GRIDS, Grid
from empathy_edge.export.gguf.quantize import PackedTensor
from empathy_edge.export.gguf.writer import Transform, transform_of
from empathy_edge.runtimes.held_weights import load_whole_in_fp32
from empathy_edge.system.device import chosen_device

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Added to the diagonal of the Hessian, as a share of its mean (GPTQ's `percdamp`)."""

SAME_INPUT_ROWS = 8
"""How many tokens are compared to tell whether two matrices have the same input."""

Arguments = list[dict[str, Any]]
"""The keyword arguments of a layer (rope, mask), one dict for each calibration text."""


@dataclass(frozen=True)
class _Matrix:
    """One linear layer that can be rounded.

    Attributes:
        name: of its weight in the GGUF, as `blk.0.attn_q.weight`.
        key: of its weight in the checkpoint.
        module: the torch module.
    """

    name: str
    key: str
    module: Any


@dataclass(frozen=True)
class Hessian:
    """What the rounding of a matrix needs to know about its inputs X [tokens, columns].

    Attributes:
        inverse_factor: the upper Cholesky factor of H⁻¹, where H = XᵀX plus damping; [columns, columns].
        correction: with X̃ the inputs in the unrounded model, (X̃ − X)ᵀ X H⁻¹, [columns, columns]: the weights
            W + W · correction give for X what W gives for X̃. None leaves W as it is.
    """

    inverse_factor: torch.Tensor
    correction: torch.Tensor | None


class Rounded(NamedTuple):
    """A rounded matrix: codes float32 [rows, columns], scales and offsets float32 [rows, blocks]."""

    codes: torch.Tensor
    scales: torch.Tensor
    offsets: torch.Tensor


def round_layers(
    checkpoint: Path,
    texts: Calibration,
    types: Mapping[str, str],
    *,
    correction: float = 1.0,
    grids: Mapping[str, Grid] = GRIDS,
) -> dict[str, PackedTensor]:
    """Round the matrices of all layers; returns them by their GGUF names, as a GGUF file holds them.

    Args:
        checkpoint: a folder in full precision.
        texts: what the layers are calibrated on.
        types: GGUF name of each matrix → its type; a type that `grids` does not have leaves it as it is.
        correction: the share of the earlier layers' errors that is compensated, 0 to 1.
        grids: the type → its grid.
    """
    import torch

    config = read_config(checkpoint)
    family = family_of(checkpoint, config)
    names = tensor_names(family, config)
    grid_of = {name: grids[kind] for name, kind in types.items() if kind in grids}
    work, advice = "rounding with compensation", "take a type without -gptq"
    model = load_whole_in_fp32(checkpoint, chosen_device(), work, advice)
    packed: dict[str, PackedTensor] = {}
    layers = _layers_of(model)
    say(f"  rounding with compensation: {len(layers)} layers one by one, minutes on a processor")
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task("rounding with compensation", total=len(layers))
        unrounded, arguments = _inputs_of_first_layer(model, texts)
        rounded = list(unrounded)
        for number, layer in enumerate(layers):
            matrices = _matrices_of(layer, f"model.layers.{number}", names)
            targets, next_unrounded = _run_layer(layer, unrounded, arguments[number], matrices)
            for group in _groups_with_one_input(matrices, targets):
                first = group[0]
                inputs, _ = _run_layer(layer, rounded, arguments[number], [first])
                hessian = hessian_of(inputs[first.name], targets[first.name], correction)
                packed |= _round_group(group, hessian, grid_of, config, family)
            unrounded = next_unrounded
            _, rounded = _run_layer(layer, rounded, arguments[number], [])
            bar.advance(task)
    return packed


def _layers_of(model: Any) -> Any:
    """The layers of a causal model; of one that also sees, those of its language model."""
    return getattr(model.model, "language_model", model.model).layers


def _inputs_of_first_layer(model: Any, texts: Calibration) -> tuple[list[torch.Tensor], list[Arguments]]:
    """For each text the hidden states that go into the first layer; for each layer its other arguments."""
    import torch

    inputs: list[torch.Tensor] = []
    layers = _layers_of(model)
    arguments: list[Arguments] = [[] for _ in layers]

    def take_input(_: Any, positional: tuple[Any, ...]) -> None:
        inputs.append(positional[0])

    def taker_of_arguments(into: Arguments) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
        def take(_: Any, __: tuple[Any, ...], named: dict[str, Any]) -> None:
            into.append({key: value for key, value in named.items() if key != "past_key_values"})

        return take

    hooks = [layers[0].register_forward_pre_hook(take_input)]
    for layer, into in zip(layers, arguments, strict=True):
        hooks.append(layer.register_forward_pre_hook(taker_of_arguments(into), with_kwargs=True))
    for ids in texts.ids:
        model.model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    for hook in hooks:
        hook.remove()
    return inputs, arguments


def _matrices_of(layer: Any, prefix: str, names: Any) -> list[_Matrix]:
    """The linear layers of a layer, in the order in which the model defines them."""
    import torch

    matrices = []
    for path, module in layer.named_modules():
        if isinstance(module, torch.nn.Linear):
            name = names.get_name(f"{prefix}.{path}")
            matrices.append(_Matrix(f"{name}.weight", f"{prefix}.{path}.weight", module))
    return matrices


def _run_layer(
    layer: Any, hidden_states: Sequence[torch.Tensor], arguments: Arguments, watched: Sequence[_Matrix]
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Run a layer over all texts.

    Returns:
        The inputs of each watched matrix, [tokens, columns] by its name; and the layer's outputs.
    """
    import torch

    parts: dict[str, list[torch.Tensor]] = {matrix.name: [] for matrix in watched}

    def taker_of_inputs(into: list[torch.Tensor]) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
        def take(_: Any, positional: tuple[torch.Tensor, ...]) -> None:
            into.append(positional[0].reshape(-1, positional[0].shape[-1]))

        return take

    hooks = []
    for matrix in watched:
        hooks.append(matrix.module.register_forward_pre_hook(taker_of_inputs(parts[matrix.name])))
    outputs = []
    for hidden, named in zip(hidden_states, arguments, strict=True):
        output = layer(hidden, **named)
        outputs.append(output[0] if isinstance(output, tuple) else output)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(tensors) for name, tensors in parts.items()}, outputs


def _groups_with_one_input(
    matrices: Sequence[_Matrix], inputs: Mapping[str, torch.Tensor]
) -> list[list[_Matrix]]:
    """Matrices that share their input, as query, key and value do, in the order in which they are used."""
    groups: list[list[_Matrix]] = []
    for matrix in matrices:
        for group in groups:
            if _same_input(inputs[group[0].name], inputs[matrix.name]):
                group.append(matrix)
                break
        else:
            groups.append([matrix])
    return groups


def _same_input(first: torch.Tensor, second: torch.Tensor) -> bool:
    import torch

    if first.shape != second.shape:
        return False
    return bool(torch.equal(first[:SAME_INPUT_ROWS], second[:SAME_INPUT_ROWS]))


def hessian_of(inputs: torch.Tensor, unrounded_inputs: torch.Tensor, correction: float) -> Hessian:
    """The Hessian of a matrix that gets `inputs`, and got `unrounded_inputs` in the unrounded model.

    Args:
        inputs: float32 [tokens, columns].
        unrounded_inputs: float32 [tokens, columns].
        correction: the share of their difference that the weights compensate, 0 to 1.
    """
    import torch

    hessian = inputs.T @ inputs
    damping = DAMPING * hessian.diagonal().mean()
    hessian.diagonal().add_(damping + 1e-8)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    inverse_factor = torch.linalg.cholesky(inverse, upper=True)
    if not correction:
        return Hessian(inverse_factor, None)
    difference = (unrounded_inputs - inputs).T @ inputs
    return Hessian(inverse_factor, difference @ inverse * correction)


def _round_group(
    group: Sequence[_Matrix],
    hessian: Hessian,
    grid_of: Mapping[str, Grid],
    config: dict[str, Any],
    family: Family,
) -> dict[str, PackedTensor]:
    """Round the matrices that have a grid, and put the rounded weights into the model."""
    packed = {}
    for matrix in group:
        grid = grid_of.get(matrix.name)
        if grid is not None:
            rounded = round_matrix(matrix.module.weight.data, hessian, grid)
            matrix.module.weight.data = weights_of(rounded, grid)
            data = _pack(rounded, grid, transform_of(matrix.key, config, family))
            packed[matrix.name] = PackedTensor(grid.name, data)
    return packed


def round_matrix(weight: torch.Tensor, hessian: Hessian, grid: Grid) -> Rounded:
    """Round a matrix column by column, with the errors compensated in the columns still to come.

    Args:
        weight: float32 [rows, columns]; a multiple of 32 columns.
        hessian: of its inputs.
        grid: the block format.
    """
    import torch

    factor = hessian.inverse_factor
    remaining = weight.clone()
    if hessian.correction is not None:
        remaining += weight @ hessian.correction
    rows, columns = remaining.shape
    codes = torch.empty_like(remaining)
    scales = remaining.new_empty(rows, columns // BLOCK)
    offsets = remaining.new_empty(rows, columns // BLOCK)
    for number, start in enumerate(range(0, columns, BLOCK)):
        end = start + BLOCK
        block = remaining[:, start:end].clone()
        block_factor = factor[start:end, start:end]
        scale, offset = grid.fit(block, block_factor.diagonal().square().reciprocal())
        errors = remaining.new_empty(rows, BLOCK)
        for column in range(BLOCK):
            weights = block[:, column : column + 1]
            code = grid.encode(weights, scale, offset)
            error = (weights - grid.decode(code, scale, offset)) / block_factor[column, column]
            block[:, column + 1 :] -= error * block_factor[column, column + 1 :]
            codes[:, start + column : start + column + 1] = code
            errors[:, column : column + 1] = error
        remaining[:, end:] -= errors @ factor[start:end, end:]
        scales[:, number : number + 1] = scale
        offsets[:, number : number + 1] = offset
    return Rounded(codes, scales, offsets)


def weights_of(rounded: Rounded, grid: Grid) -> torch.Tensor:
    """The weights that a rounded matrix stands for, float32 [rows, columns]."""
    blocks = rounded.codes.view(len(rounded.codes), -1, BLOCK)
    weights = grid.decode(blocks, rounded.scales[..., None], rounded.offsets[..., None])
    return weights.view_as(rounded.codes)


def _pack(rounded: Rounded, grid: Grid, transform: Transform | None) -> np.ndarray:
    """The matrix's bytes, uint8 [rows, bytes], its rows in the order of the GGUF."""
    codes = rounded.codes.view(len(rounded.codes), -1, BLOCK).cpu().numpy().astype(np.uint8)
    scales = rounded.scales.cpu().numpy().astype(np.float16)
    offsets = rounded.offsets.cpu().numpy().astype(np.float16)
    data = grid.pack(codes, scales, offsets)
    return data if transform is None else transform(data)
