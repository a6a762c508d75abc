"""The training rows in other trainers' layouts: LLaMA-Factory (ShareGPT-style SFT and DPO) and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.dialogue import read_jsonl
from empathy_edge.system.files import write_json


def convert(rows: Path, layout: str, out: Path) -> list[Path]:
    """Write `sft` and `preference` of the folder `rows` into `out`; returns the files.

    `llama-factory`: `sft.json`, `dpo.json` and the `dataset_info.json` that registers them
    (https://llamafactory.readthedocs.io, data preparation, ShareGPT format). `parquet`: TRL's own columns, as
    `datasets.load_dataset("parquet", …)` reads them.
    """
    sft, pairs = read_jsonl(rows / "sft.jsonl"), read_jsonl(rows / "preference.jsonl")
    if out.exists() and any(out.iterdir()):
        raise EmpathyEdgeError(f"{out}: is not empty; choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    if layout == "llama-factory":
        return _llama_factory(sft, pairs, out)
    require_extra("pyarrow", "train", "Writing Parquet")
    import pyarrow
    from pyarrow import parquet

    files = []
    for name, table in (("sft", sft), ("preference", pairs)):
        files.append(out / f"{name}.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(table), files[-1])
    return files


def _llama_factory(sft: list[dict[str, Any]], pairs: list[dict[str, Any]], out: Path) -> list[Path]:
    tags = {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "system_tag": "system",
    }
    info = {
        "empathy_sft": {
            "file_name": "sft.json",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations"},
            "tags": tags,
        },
        "empathy_dpo": {
            "file_name": "dpo.json",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
            "tags": tags,
        },
    }
    content = {
        "sft.json": [
            {"conversations": [_turn(item) for item in row["prompt"] + row["completion"]]} for row in sft
        ],
        "dpo.json": [
            {
                "conversations": [_turn(item) for item in row["prompt"]],
                "chosen": _turn(row["chosen"][0]),
                "rejected": _turn(row["rejected"][0]),
            }
            for row in pairs
        ],
        "dataset_info.json": info,
    }
    for name, value in content.items():
        write_json(out / name, value)
    return [out / name for name in content]


def _turn(message: dict[str, str]) -> dict[str, str]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"from": names[message["role"]], "value": message["content"]}
