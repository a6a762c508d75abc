"""The judge that is trained on ratings: a tiny real model learns a rule, and rates on llama.cpp."""

from pathlib import Path

import gguf
import pytest

from empathy_edge.bench.check.certificate import open_judge, read_pairs
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.judging.raters.rater import ToRate
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.runs.trained_judge.ratings import read_ratings, split
from empathy_edge.system.files import read_json, write_json
from tests.conftest import assert_one_clear_error, run_module

TRAINING = "empathy_edge.runs.trained_judge"
SAID = ("My dog died.", "I passed the exam!", "The bus was late again.", "Nobody called me back.")
WARM, COLD = "I am so sorry for you.", "Buy a new one then."


def rows(count: int) -> list[dict[str, object]]:
    """Ratings by a rule: the warm reply is the better one."""
    return [
        {
            "messages": [{"role": "user", "content": f"{SAID[number % len(SAID)]} ({number})"}],
            "replies": [WARM, COLD] if number % 2 else [COLD, WARM],
            "readings": [[90, 10] if number % 2 else [10, 90]],
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def judge(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    write_jsonl(folder / "ratings.jsonl", rows(104))
    base = exported / "gguf-f16"
    result = run_module(
        TRAINING,
        folder / "ratings.jsonl",
        "--base",
        base,
        "--layers",
        "1",
        "--epochs",
        "4",
        "--out",
        folder / "out",
    )
    assert result.returncode == 0, result.stderr
    assert "56 rows to train on, 48 of other conversations held out" in result.stderr
    assert "100.0% of 48 pairs are ordered as the reader did" in result.stdout
    return folder / "out"


def test_the_trained_judge_rates_by_what_it_learned(judge: Path) -> None:
    rater = open_judge(f"trained:{judge}", ApiSettings())
    items = [
        ToRate([{"role": "user", "content": said}], [COLD, WARM, WARM])
        for said in ("I fell.", "My cat is ill.")
    ]
    for cold, warm, again in rater.rate_many(items):
        assert warm > cold + 1 and warm == again
    alone = rater.rate_many([ToRate(items[0].conversation, [WARM])])
    assert alone[0][0] == pytest.approx(rater.rate_many(items[:1])[0][1], abs=0.05)
    rater.close()


def test_only_ratings_of_one_reading_are_compared(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "I fell."}], "replies": ["a", "b", "c"]}
    write_jsonl(tmp_path / "r.jsonl", [row | {"readings": [[1, 2, None], [None, 4, 3]]}])
    (rated,) = read_ratings([tmp_path / "r.jsonl"])
    assert list(rated.compared()) == [([0, 1], [1, 2]), ([1, 2], [4, 3])]
    write_jsonl(tmp_path / "r.jsonl", [row | {"readings": [[1, 2]]}])
    with pytest.raises(EmpathyEdgeError, match=r"r\.jsonl, row 1: .*2 ratings for 3 replies"):
        read_ratings([tmp_path / "r.jsonl"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"readings": []}, "readings"),
        ({"readings": [[101, 2]]}, "less than or equal to 100"),
        ({"messages": []}, "messages"),
        ({"messages": read_pairs()[0].messages}, "judges are certified on this conversation"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    write_jsonl(tmp_path / "r.jsonl", [*rows(1), rows(2)[1] | change])
    with pytest.raises(EmpathyEdgeError, match=rf"r\.jsonl, row 2: .*{said}"):
        read_ratings([tmp_path / "r.jsonl"])


def test_the_rows_of_one_conversation_are_held_out_together(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "r.jsonl", [*rows(8), *rows(8)])
    trained, held_out = split(read_ratings([tmp_path / "r.jsonl"]), 3, 0)
    inside, outside = ({row.messages[0]["content"] for row in part} for part in (trained, held_out))
    assert len(held_out) == 6 and len(trained) == 10 and not inside & outside


def test_a_folder_that_is_no_judge_is_refused(judge: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "judge.json", read_json(judge / "judge.json") | {"format": "x"})
    with pytest.raises(EmpathyEdgeError, match="no judge of this version"):
        open_judge(f"trained:{tmp_path}", ApiSettings())
    write_json(tmp_path / "judge.json", read_json(judge / "judge.json"))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(EmpathyEdgeError, match=r"model\.gguf"):
        open_judge(f"trained:{tmp_path}", ApiSettings())


def test_only_the_first_layers_are_kept(judge: Path) -> None:
    fields = gguf.GGUFReader(judge / "model.gguf").fields
    assert fields["llama.block_count"].contents() == 1


def test_an_existing_judge_is_not_replaced(judge: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "ratings.jsonl", rows(60))
    result = run_module(TRAINING, tmp_path / "ratings.jsonl", "--out", judge)
    assert_one_clear_error(result, 2, str(judge), "--out")


def test_too_few_conversations_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "ratings.jsonl", rows(60))
    result = run_module(TRAINING, tmp_path / "ratings.jsonl", "--out", tmp_path / "out")
    assert_one_clear_error(result, 2, "60 conversations", "96")


@pytest.mark.parametrize(("options", "said"), [(("--layers", "0"), "--layers 0"), ((), "GPT2LMHeadModel")])
def test_a_base_that_cannot_be_a_judge_is_refused_before_training(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    pytest.importorskip("torch")
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=64)).save_pretrained(tmp_path / "b")
    write_jsonl(tmp_path / "ratings.jsonl", rows(104))
    result = run_module(
        TRAINING, tmp_path / "ratings.jsonl", "--base", tmp_path / "b", *options, "--out", tmp_path / "out"
    )
    assert_one_clear_error(result, 2, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "ratings.jsonl"]
