"""A small language model as scorer: it learns, is measured on other dialogues, and its GGUF agrees."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.evaluation import paper_split
from empathy_edge.judging.open_scorer import open_scorer
from empathy_edge.judging.pairwise_judges import open_judge
from empathy_edge.judging.rated import balanced, read_rated
from empathy_edge.judging.verdicts import Pair
from empathy_edge.llm.api_settings import ApiSettings
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import assert_one_clear_error, dialogue_row, made_once, run_command, write_rows

pytestmark = pytest.mark.slow

TINY_TRAINING = ("--folds", "1", "--epochs", "6", "--rate", "0.01", "--paper-split")
OTHERWISE = "Where the rated responses say that it was lost, this says quite another thing."


@pytest.fixture(scope="module")
def folder(rated_csv: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scorer from the tiny model."""
    with made_once(tmp_path_factory, "tuned-scorer") as (out, is_made):
        if not is_made:
            command = ["score", "tune", rated_csv, "--base", tiny_model, *TINY_TRAINING]
            result = run_command(*command, "--out", out, "--json", "-")
            assert result.returncode == 0, result.stderr
            assert assert_reported(result.stdout, "score tune 1")["figures"]
            assert_says_next(result, "empathy-edge score rate")
            assert "On dialogues not seen (1 of 5 folds): accuracy" in result.stderr
    return out


def test_it_learns_and_is_measured_on_others(folder: Path, rated_csv: Path) -> None:
    content = json.loads((folder / "scorer.json").read_text())
    figures = content["figures"]
    assert figures["grouped"]["mean"] > 45 and figures["order"]["mean"] > 60, "chance is 33 and 50"
    chosen = balanced(read_rated(rated_csv))
    inside, outside = paper_split(chosen)
    trained = [row["id"] for row in read_jsonl(folder / "paper-split" / "rows" / "sft.jsonl")]
    assert trained == list(chosen["unified_dialog_id"].iloc[inside])
    held_out = json.loads((folder / "paper-split" / "held-out.json").read_text())["probabilities"]
    assert len(held_out) == len(outside)
    fold = {row["id"].partition("_type:")[0] for row in read_jsonl(folder / "fold-1" / "rows" / "sft.jsonl")}
    unseen = chosen[~chosen["dialog_id"].isin(fold)]
    assert figures["grouped_responses"] == len(unseen), "the fold's dialogues are all on one side"


def test_the_gguf_says_what_the_adapter_model_says(folder: Path, rated_csv: Path, tiny_model: Path) -> None:
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.tuned_scorer import _held_out_chances

    rows = balanced(read_rated(rated_csv)).head(12)
    served = open_scorer(folder / "scorer.json").probabilities(rows)
    adapter = folder / "all" / "sft" / "adapter"
    wanted = _held_out_chances(
        rows, checkpoint_of(str(tiny_model)), adapter, folder / "compare.json", "compare"
    )
    assert np.abs(served - wanted).max() < 0.1 and np.abs(served - wanted).mean() < 0.03


def test_it_rates_with_reasons_and_judges(folder: Path, tmp_path: Path) -> None:
    spoken = write_rows(
        tmp_path / "said.jsonl", dialogue_row(id="a", situation="I lost number 70", utterance="I lost it.")
    )
    good, bad = (
        "That must be so hard and I understand how you feel.",
        "Calm down. It was your fault. Stop it.",
    )
    warm = write_rows(tmp_path / "warm.jsonl", {"id": "a", "text": good, "finish_reason": "stop"})
    cold = write_rows(tmp_path / "cold.jsonl", {"id": "a", "text": bad, "finish_reason": "stop"})
    command = ["score", "rate", warm, cold, "--dialogues", spoken, "--scorer", folder / "scorer.json"]
    result = run_command(*command, "--out", tmp_path / "scores.jsonl")
    assert result.returncode == 0, result.stderr
    first, second = read_jsonl(tmp_path / "scores.jsonl")
    assert first["score"] > second["score"]
    assert first["why"] == [] and len(second["why"]) == 3, "what each of several sentences adds"
    frame = pd.DataFrame(
        {"situation": ["I lost number 70"], "speaker_uttr": ["I lost it."], "response": [bad]}
    )
    model = open_scorer(folder / "scorer.json")
    chances, reasons = model.score(frame)
    without = model.probabilities(frame.assign(response=" ".join(bad.split(". ")[0:1]) + "."))
    assert chances.shape == without.shape == (1, 3) and reasons[0]
    pair = Pair("a", "I lost number 70", "I lost it.", good, bad)
    with open_judge(f"scorer:{folder / 'scorer.json'}", ApiSettings()) as judge:
        assert next(iter(judge.compare([pair], "overall"))).verdict == "first"


def test_a_certifiable_scorer_has_not_seen_a_fifth(
    folder: Path, rated_csv: Path, tiny_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    command = ["score", "tune", rated_csv, "--base", tiny_model, *TINY_TRAINING]
    command += ["--certifiable", "--out", copy]
    before = (copy / "scorer.json").read_text()
    assert_one_clear_error(run_command(*command), 2, "scorer.json: was made with other data", "--update")
    assert (copy / "scorer.json").read_text() == before
    result = run_command(*command, "--update")
    assert result.returncode == 0 and "step" not in result.stderr, "what is done is not trained again"
    assert run_command(*command).returncode == 0, "the same command again needs no --update"
    served = open_scorer(copy / "scorer.json")
    names = set(balanced(read_rated(rated_csv))["dialog_id"])
    unseen = {name for name in names if not served.seen(name)}
    trained = {row["id"].partition("_type:")[0] for row in read_jsonl(copy / "fold-1" / "rows" / "sft.jsonl")}
    assert unseen == names - trained and 0.1 < len(unseen) / len(names) < 0.3
    assert not any(open_scorer(folder / "scorer.json").seen(name) is False for name in names)


def test_what_score_tune_did_not_make_is_not_replaced(
    rated_csv: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A scorer.json of the user's was overwritten after the training."""
    out = tmp_path / "lm"
    out.mkdir()
    command = ["score", "tune", rated_csv, "--base", tiny_model, "--folds", "1", "--epochs", "1"]
    command += ["--out", out]
    mine = write_rows(out / "scorer.json", {"mine": 1})
    for more in ((), ("--update",)):
        result = run_command(*command, *more)
        assert_one_clear_error(result, 2, "scorer.json: is no scorer that `score tune` made")
    mine = mine.rename(out / "notes.json")
    assert_one_clear_error(run_command(*command), 2, f"{out}: holds something", "not touched")
    assert list(out.iterdir()) == [mine] and json.loads(mine.read_text()) == {"mine": 1}


def test_what_is_left_out_is_not_seen_and_measured(rated_csv: Path, tiny_model: Path, tmp_path: Path) -> None:
    chosen = balanced(read_rated(rated_csv))
    names = list(dict.fromkeys(chosen["dialog_id"]))[:20]
    left = write_rows(
        tmp_path / "test.jsonl", *(dialogue_row(id=name, utterance=OTHERWISE) for name in names)
    )
    command = ["score", "tune", rated_csv, "--base", tiny_model, "--epochs", "1", "--leave-out", left]
    result = run_command(*command, "--out", tmp_path / "lm")
    assert result.returncode == 0, result.stderr
    assert "On dialogues not seen (those of test.jsonl): accuracy" in result.stderr
    served = open_scorer(tmp_path / "lm" / "scorer.json")
    assert not any(served.seen(name) for name in names)
    trained = {
        row["id"].partition("_type:")[0]
        for row in read_jsonl(tmp_path / "lm" / "left-out" / "rows" / "sft.jsonl")
    }
    assert all(served.seen(name) for name in trained) and not trained & set(names)
    held = json.loads((tmp_path / "lm" / "left-out" / "held-out.json").read_text())["probabilities"]
    assert served.figures["grouped_responses"] == len(held) >= chosen["dialog_id"].isin(names).sum()
    assert sorted(item.name for item in (tmp_path / "lm").iterdir()) == ["left-out", "scorer.json"], (
        "one training"
    )
    wrong = run_command(*command, "--certifiable", "--out", tmp_path / "two")
    assert_one_clear_error(wrong, 2, "--certifiable", "--leave-out")


def test_another_model_beside_it_is_refused(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    content = json.loads((moved / "scorer.json").read_text())
    model = moved / content["artifact"]["folder"] / content["artifact"]["file"]
    model.write_bytes(model.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(EmpathyEdgeError, match="not the model that"):
        open_scorer(moved / "scorer.json")
    content["artifact"]["folder"] = "../elsewhere"
    (moved / "scorer.json").write_text(json.dumps(content))
    with pytest.raises(EmpathyEdgeError, match="outside"):
        open_scorer(moved / "scorer.json")
    del content["artifact"]
    (moved / "scorer.json").write_text(json.dumps(content))
    said = write_rows(tmp_path / "said.jsonl", dialogue_row(id="a"))
    answers = write_rows(tmp_path / "r.jsonl", {"id": "a", "text": "Oh."})
    result = run_command("score", "rate", answers, "--dialogues", said, "--scorer", moved / "scorer.json")
    assert_one_clear_error(result, 2, "scorer.json", "damaged")
