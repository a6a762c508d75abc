"""Rounding with error compensation (GPTQ, Frantar et al., arXiv 2210.17323) onto the block formats of GGUF.

Rounding to the nearest treats each weight alone. Here the columns of a matrix are rounded one after the other, and each
column's error is made good by the columns still to come, as far as the inputs that the matrix really sees allow it. The
layers follow each other: a layer is calibrated on what the rounded layers before it give, and aims at what the unrounded
model had there, so that errors of earlier layers are made good as well (Li et al., GPTAQ, arXiv 2504.02692).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import progress
from empathy_edge.export.calibration import Calibration
from empathy_edge.export.gguf.families import family_of, tensor_names
from empathy_edge.export.gguf.grids import BLOCK, GRIDS, Grid
from empathy_edge.export.gguf.writer import change_of
from empathy_edge.system.files import read_json

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Added to the inputs' second moments, as a share of their mean: what was never seen is not trusted."""


def compensate(
    checkpoint: Path, texts: Calibration, types: Mapping[str, str], aim: float = 1.0
) -> dict[str, tuple[str, np.ndarray]]:
    """Round the matrices of the layers; returns GGUF name → its type and its bytes, uint8 [rows, bytes].

    Args:
        checkpoint: full precision.
        texts: what the layers are calibrated on.
        types: GGUF name of each matrix → its type; those of another type than `GRIDS` has stay as they are.
        aim: how much of the earlier layers' errors is made good, 0 to 1.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = read_json(checkpoint / "config.json")
    family = family_of(checkpoint, config)
    names = tensor_names(family, config)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True
    ).eval()
    packed: dict[str, tuple[str, np.ndarray]] = {}
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task("rounding with compensation", total=len(model.model.layers), note="")
        exact, contexts = _inputs_of_layers(model, texts)
        rounded = list(exact)
        for number, layer in enumerate(model.model.layers):
            matrices = {
                f"{names.get_name(f'model.layers.{number}.{name}')}.weight": (
                    f"model.layers.{number}.{name}.weight",
                    module,
                )
                for name, module in layer.named_modules()
                if isinstance(module, torch.nn.Linear)
            }
            wanted, outputs = _run(layer, exact, contexts[number], list(matrices.values()))
            for group in _groups(wanted, matrices):
                seen, _ = _run(layer, rounded, contexts[number], [matrices[group[0]]])
                before, now = wanted[id(matrices[group[0]][1])], seen[id(matrices[group[0]][1])]
                moments = _Moments(now, before, aim)
                for name in group:
                    key, module = matrices[name]
                    if types.get(name) in GRIDS:
                        grid = GRIDS[types[name]]
                        codes, scales, offsets = _round(module.weight.data, moments, grid)
                        module.weight.data = _weights(codes, scales, offsets, grid)
                        packed[name] = (
                            grid.name,
                            _pack(codes, scales, offsets, grid, change_of(key, config, family)),
                        )
            exact = outputs
            _, rounded = _run(layer, rounded, contexts[number], [])
            bar.advance(task)
    return packed


def _inputs_of_layers(
    model: Any, texts: Calibration
) -> tuple[list[torch.Tensor], list[list[dict[str, Any]]]]:
    """What goes into the first layer for each text, and the other arguments (rope, mask) of each layer for each text."""
    import torch

    first: list[torch.Tensor] = []
    contexts: list[list[dict[str, Any]]] = [[] for _ in model.model.layers]

    def note(number: int) -> Any:
        def hook(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            if number == 0:
                first.append(arguments[0])
            contexts[number].append({key: value for key, value in named.items() if key != "past_key_values"})

        return hook

    hooks = [
        layer.register_forward_pre_hook(note(number), with_kwargs=True)
        for number, layer in enumerate(model.model.layers)
    ]
    for ids in texts.ids:
        model.model(input_ids=torch.tensor([ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return first, contexts


def _run(
    layer: Any, inputs: list[torch.Tensor], contexts: list[dict[str, Any]], watched: list[tuple[str, Any]]
) -> tuple[dict[int, torch.Tensor], list[torch.Tensor]]:
    """Run a layer over all texts: what went into each watched matrix, [tokens, columns] by its id, and what came out."""
    import torch

    caught: dict[int, list[torch.Tensor]] = {id(module): [] for _, module in watched}

    def catch(module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        caught[id(module)].append(arguments[0].reshape(-1, arguments[0].shape[-1]))

    hooks = [module.register_forward_pre_hook(catch) for _, module in watched]
    outputs = []
    for hidden, context in zip(inputs, contexts, strict=True):
        output = layer(hidden, **context)
        outputs.append(output[0] if isinstance(output, tuple) else output)
    for hook in hooks:
        hook.remove()
    return {place: torch.cat(parts) for place, parts in caught.items()}, outputs


def _groups(inputs: dict[int, torch.Tensor], matrices: Mapping[str, tuple[str, Any]]) -> list[list[str]]:
    """Matrices that share their input, in the order in which they are used; each group is rounded before the next one."""
    import torch

    groups: list[list[str]] = []
    for name, (_, module) in matrices.items():
        same = next(
            (
                group
                for group in groups
                if inputs[id(matrices[group[0]][1])].shape == inputs[id(module)].shape
                and torch.equal(inputs[id(matrices[group[0]][1])][:8], inputs[id(module)][:8])
            ),
            None,
        )
        if same is None:
            groups.append([name])
        else:
            same.append(name)
    return groups


class _Moments:
    """What the rounding needs to know about the inputs of a matrix.

    Attributes:
        factor: upper Cholesky factor of the inverse second moment of the inputs, [columns, columns].
        shift: what a weight matrix is multiplied by to aim at the unrounded model's outputs, [columns, columns].
    """

    def __init__(self, now: torch.Tensor, before: torch.Tensor, aim: float) -> None:
        import torch

        second = now.T @ now
        damping = DAMPING * second.diagonal().mean()
        second.diagonal().add_(damping + 1e-8)
        lower = torch.linalg.cholesky(second)
        inverse = torch.cholesky_inverse(lower)
        self.factor = torch.linalg.cholesky(inverse, upper=True)
        self.shift = ((before - now).T @ now) @ inverse * aim if aim else None


def _round(
    weight: torch.Tensor, moments: _Moments, grid: Grid
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes float32 [rows, columns], scales and offsets float32 [rows, blocks]."""
    import torch

    factor = moments.factor
    left = weight.clone() if moments.shift is None else weight + weight @ moments.shift
    rows, columns = left.shape
    codes = torch.empty_like(left)
    scales, offsets = torch.empty(rows, columns // BLOCK), torch.empty(rows, columns // BLOCK)
    for number, start in enumerate(range(0, columns, BLOCK)):
        end = start + BLOCK
        block, errors = left[:, start:end].clone(), torch.empty(rows, BLOCK)
        inner = factor[start:end, start:end]
        scale, offset = grid.fit(block, inner.diagonal().square().reciprocal())
        for column in range(BLOCK):
            code = grid.encode(block[:, column : column + 1], scale, offset)
            error = (block[:, column : column + 1] - grid.decode(code, scale, offset)) / inner[column, column]
            block[:, column + 1 :] -= error * inner[column, column + 1 :]
            codes[:, start + column : start + column + 1], errors[:, column : column + 1] = code, error
        left[:, end:] -= errors @ factor[start:end, end:]
        scales[:, number : number + 1], offsets[:, number : number + 1] = scale, offset
    return codes, scales, offsets


def _weights(codes: torch.Tensor, scales: torch.Tensor, offsets: torch.Tensor, grid: Grid) -> torch.Tensor:
    blocks = codes.view(len(codes), -1, BLOCK)
    return grid.decode(blocks, scales[..., None], offsets[..., None]).view_as(codes)


def _pack(
    codes: torch.Tensor, scales: torch.Tensor, offsets: torch.Tensor, grid: Grid, change: Any
) -> np.ndarray:
    """The matrix's bytes, its rows in the order of the GGUF."""
    blocks = codes.view(len(codes), -1, BLOCK).numpy().astype(np.uint8)
    data = grid.pack(blocks, scales.numpy().astype(np.float16), offsets.numpy().astype(np.float16))
    return data if change is None else change(data)
