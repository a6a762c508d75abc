"""Files that are larger than the memory: what is held does not grow with the number of dialogues."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from empathy_edge.bench.scale import dialogues, make, measure
from empathy_edge.distill import from_ratings
from empathy_edge.distill.from_ratings import run
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import DialogueStream, read_dialogues
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.runs.settings import DistillSettings
from empathy_edge.text.near_duplicates import MIN_JACCARD, NearDuplicates, shingles
from tests.conftest import dialogue_row, write_rows

FEW, MANY = 2000, 20_000


@pytest.mark.parametrize("command", ["inspect", "distill"])
def test_memory_does_not_grow_with_the_file(command: str, tmp_path: Path) -> None:
    peaks = []
    for count in (FEW, MANY):
        file = tmp_path / f"{count}.jsonl"
        make(count, file)
        out = str(tmp_path / f"out-{count}")
        arguments = (
            ["data", "inspect", str(file)]
            if command == "inspect"
            else ["distill", "--data", str(file), "--out", out]
        )
        found = measure(arguments)
        assert found.code == 0
        peaks.append(found.peak_anonymous_mb)
    assert peaks[1] - peaks[0] < 40


def test_gzip_and_plain_text_are_read_alike_row_by_row(tmp_path: Path) -> None:
    make(50, tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    assert read_dialogues(tmp_path / "a.jsonl") == read_dialogues(tmp_path / "a.jsonl.gz")
    stream = DialogueStream(tmp_path / "a.jsonl")
    next(iter(stream))
    assert stream.rows == 1


def test_pairs_of_one_dialogue_are_capped(tmp_path: Path) -> None:
    responses = [
        {"source": f"m{number}", "text": f"reply {number}", "rating": 3 if number % 2 else 1}
        for number in range(20)
    ]
    responses.append({"source": "human", "text": "Hm.", "rating": 3})
    data = write_rows(tmp_path / "rated.jsonl", dialogue_row(responses=responses))
    models = tuple(f"m{number}" for number in range(20))
    for most in (16, 7):
        settings = DistillSettings(models=models, hard_pairs=True, pairs_per_dialogue=most)
        found = run(data=data, out=tmp_path / str(most), settings=settings)
        assert found.preference_pairs == len(read_jsonl(tmp_path / str(most) / "preference.jsonl")) == most


def test_a_folder_of_a_version_that_cut_no_pairs_is_not_taken_for_one_that_did(tmp_path: Path) -> None:
    responses = [{"source": "human", "text": "Hm.", "rating": 3}]
    for number in range(10):
        responses.append({"source": f"m{number}", "text": f"reply {number}", "rating": 3 - number % 2})
    models = tuple(f"m{number}" for number in range(10))
    for count, recorded in ((10, 16), (4, None)):  # 25 pairs, and 4
        data = write_rows(tmp_path / f"{count}.jsonl", dialogue_row(responses=responses[: count + 1]))
        settings = DistillSettings(models=models[:count], hard_pairs=True)
        run(data=data, out=tmp_path / str(count), settings=settings)
        manifest = json.loads((tmp_path / str(count) / "manifest.json").read_text())
        assert manifest["settings"].get("pairs_per_dialogue") == recorded


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "rated.jsonl", tmp_path / "out"
    make(50, data)
    open_stage = from_ratings.open_stage

    def change_and_open(*arguments: Any, **more: Any) -> Any:
        stage = open_stage(*arguments, **more)  # between two times that the file is read
        data.write_text(data.read_text().replace('"test"', '"train"'))
        os.utime(data, ns=(1, 1))
        return stage

    settings = DistillSettings()
    monkeypatch.setattr(from_ratings, "open_stage", change_and_open)
    with pytest.raises(EmpathyEdgeError, match=r"rated\.jsonl: the file changed while it was read"):
        run(data=data, out=out, settings=settings)
    monkeypatch.setattr(from_ratings, "open_stage", open_stage)
    run(data=data, out=out, settings=settings, update=True)


def test_rare_shingles_find_every_near_duplicate() -> None:
    generator = random.Random(0)
    words = ["I", "you", "was", "so", "the", "dog", "home", "rain", "left", "never"]
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 14))) for _ in range(400)]
    asked = []
    for text in texts:
        changed = text.split()
        changed[generator.randrange(len(changed))] = generator.choice(words)
        asked.append(" ".join(changed))
    known = NearDuplicates(texts)
    sets = [shingles(text) for text in texts]
    found = [known.has(text) for text in asked]
    for text, has in zip(asked, found, strict=True):
        own = shingles(text)
        nearest = max(len(own & other) / len(own | other) for other in sets)
        assert has == (nearest >= MIN_JACCARD), text
    assert any(found) and not all(found)


def test_made_up_dialogues_are_the_same_every_time() -> None:
    assert list(dialogues(20)) == list(dialogues(20))
