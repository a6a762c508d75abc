"""The training rows in other trainers' layouts: LLaMA-Factory (ShareGPT-style SFT and DPO) and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.system.files import write_json

Layout = Literal["llama-factory", "parquet"]

SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}

SHAREGPT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}

DATASET_INFO = {
    "empathy_sft": {
        "file_name": "sft.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations"},
        "tags": SHAREGPT_TAGS,
    },
    "empathy_dpo": {
        "file_name": "dpo.json",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        "tags": SHAREGPT_TAGS,
    },
}
"""What LLaMA-Factory's `dataset_info.json` says of the two files."""


def convert(rows: Path, layout: Layout, out: Path) -> list[Path]:
    """Write `sft` and `preference` of the folder `rows` into `out`; returns the files.

    `llama-factory`: `sft.json`, `dpo.json` and the `dataset_info.json` that registers them
    (https://llamafactory.readthedocs.io, data preparation, ShareGPT format). `parquet`: TRL's own columns, as
    `datasets.load_dataset("parquet", …)` reads them.

    Raises:
        EmpathyEdgeError: `out` is not empty, or the rows are missing.
    """
    sft = read_jsonl(rows / "sft.jsonl")
    pairs = read_jsonl(rows / "preference.jsonl")
    if out.exists() and any(out.iterdir()):
        raise EmpathyEdgeError(f"{out}: is not empty; choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    if layout == "llama-factory":
        return _write_llama_factory(sft, pairs, out)
    return _write_parquet(sft, pairs, out)


def _write_llama_factory(sft: list[dict[str, Any]], pairs: list[dict[str, Any]], out: Path) -> list[Path]:
    content = {
        "sft.json": [{"conversations": _turns(row["prompt"] + row["completion"])} for row in sft],
        "dpo.json": [
            {
                "conversations": _turns(row["prompt"]),
                "chosen": _turn(row["chosen"][0]),
                "rejected": _turn(row["rejected"][0]),
            }
            for row in pairs
        ],
        "dataset_info.json": DATASET_INFO,
    }
    for name, value in content.items():
        write_json(out / name, value)
    return [out / name for name in content]


def _turns(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return [_turn(message) for message in messages]


def _turn(message: dict[str, str]) -> dict[str, str]:
    return {"from": SHAREGPT_ROLES[message["role"]], "value": message["content"]}


def _write_parquet(sft: list[dict[str, Any]], pairs: list[dict[str, Any]], out: Path) -> list[Path]:
    require_extra("pyarrow", "train", "Writing Parquet")
    import pyarrow
    from pyarrow import parquet

    files = []
    for name, rows in (("sft", sft), ("preference", pairs)):
        file = out / f"{name}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        files.append(file)
    return files
