"""What a LiteRT graph's weights are: whether four bits have a scale for each block, or for a whole row."""

from __future__ import annotations

from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, require_extra
from empathy_edge.formats.litertlm_file import MODEL, LitertLmFile, read_litertlm


def refuse_ruined(artifact: Path) -> None:
    """Refuse a .litertlm, or its folder, whose four-bit matrices have one scale a row (channelwise).

    Such files load, and lose most of what a small model was taught (docs/decisions/010-litert-lm.md). Other
    formats pass, and so do damaged files: what cannot be opened is found by who opens it.

    Raises:
        EmpathyEdgeError: it has such matrices.
    """
    path = artifact / MODEL if artifact.is_dir() else artifact
    if path.suffix != ".litertlm" or not path.is_file():
        return
    try:
        count = _matrices_with_four_bits_by_row(read_litertlm(path))
    except PrerequisiteError:
        raise
    except EmpathyEdgeError:
        return
    if count:
        raise EmpathyEdgeError(
            f"{path}: {count} matrices have four bits with one scale for a whole row (channelwise), "
            "which ruins small models; it is not worth a check. Export it with a scale for each 32 weights: "
            "--to litertlm-int4, or litertlm-int4-gptq, which compensates the errors."
        )


def _matrices_with_four_bits_by_row(file: LitertLmFile) -> int:
    require_extra("ai_edge_litert", "litert", f"Reading {file.path.name}")
    from ai_edge_litert import schema_py_generated as schema

    content = file.graph()
    found = set()
    try:
        model = schema.Model.GetRootAs(content, 0)
        for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
            for tensor in map(graph.Tensors, range(graph.TensorsLength())):
                quantization = tensor.Quantization()
                if tensor.Type() != schema.TensorType.INT4 or quantization is None:
                    continue
                blockwise = quantization.DetailsType() == schema.QuantizationDetails.BlockwiseQuantization
                if not blockwise and tensor.ShapeLength() == 2:
                    found.add(tensor.Buffer())
    except Exception as error:  # flatbuffers reads damaged offsets as they are, and raises whatever follows
        raise EmpathyEdgeError(f"{file.path}: its graph is damaged ({type(error).__name__}).") from None
    return len(found)
