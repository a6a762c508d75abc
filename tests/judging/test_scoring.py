"""Absolute scores: the paper's figures are reproduced, folds do not leak, scorers give reasons."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging import evaluation, scorer, study, tagger
from empathy_edge.judging.base_scorer import expected_rating
from empathy_edge.judging.classifiers import Ordinal, classifiers, with_selection
from empathy_edge.judging.features import Miti
from empathy_edge.judging.open_scorer import open_scorer
from empathy_edge.judging.rated import PAPER_SHA256, balanced, codes_of, faults, is_the_papers, read_rated
from empathy_edge.text.embeddings import embed
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import SHARED_DATA, assert_one_clear_error, dialogue_row, run_command, write_rows

EMBEDDING = "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def papers() -> Path:
    file = SHARED_DATA / "rated_responses_miti.csv"
    if not file.is_file():
        pytest.skip("rated_responses_miti.csv is not here (EMPATHY_EDGE_DATA says where)")
    return file


def test_the_papers_set_and_figures_come_out_again(papers: Path) -> None:
    rated = read_rated(papers)
    chosen = balanced(rated)
    assert len(chosen) == 1920 and is_the_papers(chosen) and len(PAPER_SHA256) == 12
    features = Miti().transform(chosen)
    train, test = evaluation.paper_split(chosen)
    ratings = chosen["rating"].to_numpy()
    for name, accuracy in (("lr", 44.01), ("svc", 44.79), ("dt", 40.89)):
        model = classifiers(evaluation.SEED)[name]().fit(features[train], ratings[train])
        assert round(100 * model.score(features[test], ratings[test]), 2) == accuracy
    (copied,) = faults(rated)
    wanted = "miti_chatgpt and miti_chatgpt_empathy are identical in all 2000 rows, though only 11 texts are"
    assert wanted in copied
    assert study._shared_dialogues(chosen).startswith("167 of 384 test rows")


def test_no_dialogue_is_in_training_and_test(rated_csv: Path) -> None:
    chosen = balanced(read_rated(rated_csv))
    assert set(chosen["rating"].value_counts()) == {int(chosen["rating"].value_counts().min())}
    seen = []
    for train, test in evaluation.grouped_folds(chosen, seed=0):
        assert not set(chosen["dialog_id"].iloc[train]) & set(chosen["dialog_id"].iloc[test])
        seen += test.tolist()
    assert sorted(seen) == list(range(len(chosen)))


def test_order_within_a_dialogue(rated_csv: Path) -> None:
    rows = read_rated(rated_csv).reset_index(drop=True)
    ratings = rows["rating"].to_numpy()
    points, dialogues = evaluation.order_in_dialogue(rows, ratings.astype(float))
    assert points.all() and len(points) == len(dialogues) > 20
    assert not evaluation.order_in_dialogue(rows, -ratings.astype(float))[0].any()
    assert set(evaluation.order_in_dialogue(rows, np.zeros(len(rows)))[0]) == {0.5}
    wanted = sum(
        int((part["rating"] == 3).sum() * (part["rating"] == 1).sum())
        for _, part in rows.groupby("dialog_id")
    )
    assert len(points) == wanted


def test_calibration_error_by_hand() -> None:
    chances = np.array([[0.9, 0.1, 0.0]] * 10 + [[0.0, 0.4, 0.6]] * 10)
    ratings = np.array([1] * 9 + [2] + [3] * 3 + [2] * 7)  # 0.9 is right in 90 %, 0.6 in 30 %
    assert evaluation.calibration_error(chances, ratings) == pytest.approx(0.15)


def test_the_ordinal_classifier_knows_the_order() -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(size=(600, 3))
    ratings = 1 + (features[:, 0] > -0.5).astype(int) + (features[:, 0] > 0.5)
    model = Ordinal().fit(features[:400], ratings[:400])
    chances = model.predict_proba(features[400:])
    np.testing.assert_allclose(chances.sum(1), 1)
    assert (chances >= 0).all() and (model.predict(features[400:]) == ratings[400:]).mean() > 0.9


@pytest.mark.parametrize("by", ["kbest", "rfe"])
def test_features_are_selected_inside_the_training_rows(by: str) -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(size=(240, 40))
    ratings = 1 + (features[:, 7] > -0.5).astype(int) + (features[:, 7] > 0.5)
    model = with_selection(classifiers(0)["lr"], by, 40, 0)().fit(features, ratings)
    assert model.best_estimator_[0].get_support()[7] and model.best_estimator_[0].get_support().sum() < 40


@pytest.mark.slow
def test_a_scorer_is_the_same_after_its_file(rated_csv: Path, tmp_path: Path) -> None:
    file = tmp_path / "scorer.json"
    made = scorer.train(data=rated_csv, file=file, embedding=EMBEDDING)
    assert made.figures["grouped"]["mean"] > 70 and made.figures["order"]["mean"] > 90
    rows = read_rated(rated_csv).iloc[:12]
    chances, reasons = made.score(rows)
    again, same = open_scorer(file).score(rows)
    np.testing.assert_array_equal(chances, again)
    assert reasons == same and len(reasons[0]) == 6
    cold = rows.iloc[:1].assign(response="whatever calm down")
    warm = rows.iloc[:1].assign(response="that must be so hard and I understand how you feel")
    values = [expected_rating(made.probabilities(row))[0] for row in (cold, warm)]
    assert values[0] < 1.6 < 2.4 < values[1]
    with pytest.raises(EmpathyEdgeError, match="exists already"):
        scorer.train(data=rated_csv, file=file, embedding=EMBEDDING)
    content = json.loads(file.read_text())
    for change, message in (
        ({"format": "x"}, "no scorer of this version"),
        ({"average": [0.0]}, "is damaged"),
        ({"probe": [-value for value in content["probe"]]}, "was trained with another 'all-MiniLM-L6-v2'"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(content | change))
        with pytest.raises(EmpathyEdgeError, match=message):
            open_scorer(tmp_path / "bad.json")
    responses, dialogues = tmp_path / "arm.jsonl", tmp_path / "d.jsonl"
    dialogue = {"id": "d0", "emotion": "sad", "situation": "s", "utterance": "I lost it."}
    dialogue["responses"] = [{"source": "human", "text": "Oh no."}]
    dialogues.write_text(json.dumps(dialogue | {"split": "test"}) + "\n")
    responses.write_text(json.dumps({"id": "d0", "text": "that must be so hard"}) + "\n")
    arguments = ("score", "rate", responses, "--dialogues", dialogues, "--scorer", file)
    result = run_command(*arguments, "--out", tmp_path / "s.jsonl", "--json", tmp_path / "s.json")
    (rated,) = assert_reported(tmp_path / "s.json", "score rate 1")["arms"]  # type: ignore[misc]
    assert rated["arm"] == "arm" and rated["low"] is None
    assert_says_next(result, f"empathy-edge judge certify scorer:{file}")
    assert result.returncode == 0 and "arm" in result.stdout and "3 above a 1" in result.stdout
    row = json.loads((tmp_path / "s.jsonl").read_text())
    assert row["score"] > 2 and sum(row["probabilities"]) == pytest.approx(1, abs=1e-3)
    responses.write_text(json.dumps({"id": "d9", "text": "x"}) + "\n")
    assert_one_clear_error(run_command(*arguments), 2, "row 1: no dialogue 'd9'")


def test_bad_data_is_one_error(rated_csv: Path, tmp_path: Path) -> None:
    text = rated_csv.read_text()
    (tmp_path / "a.csv").write_text(text.replace("situation", "scene"))
    with pytest.raises(EmpathyEdgeError, match=r"a\.csv: has no column situation"):
        read_rated(tmp_path / "a.csv")
    lines = text.splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + ",5"
    (tmp_path / "b.csv").write_text("\n".join(lines))
    with pytest.raises(EmpathyEdgeError, match=r"b\.csv: row 4: rating_c and response_c must be 1, 2 or 3"):
        read_rated(tmp_path / "b.csv")
    result = run_command("score", "study", tmp_path / "none.csv", "--out", tmp_path / "out")
    assert_one_clear_error(result, 2, "none.csv: no such file")
    with pytest.raises(EmpathyEdgeError, match="have no MITI codes"):
        codes_of(balanced(read_rated(rated_csv)))


@pytest.mark.slow
def test_the_tagger_finds_the_copy_and_measures_itself(papers: Path, tmp_path: Path) -> None:
    lines = [
        {"id": "q", "text": "What happened then? How did you feel?"},
        {"id": "s", "text": "I'm so sorry to hear that."},
    ]
    file = write_rows(tmp_path / "arm.jsonl", *lines)
    given = ("--out", tmp_path / "tagged.jsonl", "--json", tmp_path / "tag.json")
    result = run_command("score", "tag", file, "--data", papers, *given)
    assert result.returncode == 0, result.stderr
    assert len(assert_reported(tmp_path / "tag.json", "score tag 1")["tagged"]) == 2  # type: ignore[arg-type]
    assert_says_next(result, "empathy-edge score study")
    assert "the codes of chatgpt_empathy are the copy" in " ".join(result.stdout.split())
    rows = {row["id"]: row for row in read_jsonl(tmp_path / "tagged.jsonl")}
    assert "Open Question" in rows["q"]["codes"] and "Open Question" not in rows["s"]["codes"]
    quality = tagger.measure(tagger._without_copies(read_rated(papers)))
    assert tagger.mean_auc(quality) > 0.8 and quality["Open Question"]["auc"] > 0.9
    assert all(item["f1"] > item["f1_of_always"] for item in quality.values())


class _Embeddings(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint: vectors that depend on the text's length, in reverse order."""

    short = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = [
            {"object": "embedding", "index": place, "embedding": [len(text), 1.0, 0.0]}
            for place, text in enumerate(body["input"])
        ][::-1]
        if type(self).short:
            data = data[1:]
        answer = json.dumps(
            {
                "object": "list",
                "model": body["model"],
                "data": data,
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        )
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_embeddings_of_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Embeddings)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    try:
        texts = ["x" * (length % 7 + 1) for length in range(300)]
        found = embed(texts, "openai:small")
        assert found.shape == (300, 3)
        assert np.allclose(np.linalg.norm(found, axis=1), 1)
        assert np.allclose(found[:, 0] / found[:, 1], [len(text) for text in texts], rtol=1e-5)
        monkeypatch.setattr(_Embeddings, "short", True)
        with pytest.raises(EmpathyEdgeError, match="127 embeddings for 128"):
            embed(texts, "openai:small")
        monkeypatch.delenv("OPENAI_API_KEY")
        with pytest.raises(EmpathyEdgeError, match="key"):
            embed(texts, "openai:small")
    finally:
        server.shutdown()


@pytest.mark.slow
def test_a_scorer_leaves_out_a_runs_test_split(rated_csv: Path, tmp_path: Path) -> None:
    def train(name: str, *test: dict[str, str]) -> scorer.Scorer:
        left = write_rows(tmp_path / f"{name}.jsonl", *test)
        return scorer.train(
            data=rated_csv, file=tmp_path / f"{name}-scorer.json", embedding=EMBEDDING, unseen=left
        )

    otherwise = "Xylophones quarrel at noon in the old harbour."
    made = train("one", dialogue_row(id="d1", utterance=otherwise))
    assert not made.seen("d1") and made.seen("d2")
    with pytest.raises(EmpathyEdgeError, match=r"nobody.jsonl: none of the rated responses"):
        train("nobody", dialogue_row(id="nobody", utterance=otherwise))
    with pytest.raises(EmpathyEdgeError, match="none is left to train on"):
        train("same-words", dialogue_row(id="nobody", utterance="I lost it."))


@pytest.mark.slow
def test_a_certifiable_scorer_leaves_out_a_fifth_of_the_dialogues(rated_csv: Path, tmp_path: Path) -> None:
    made = scorer.train(data=rated_csv, file=tmp_path / "scorer.json", embedding=EMBEDDING, certifiable=True)
    names = set(balanced(read_rated(rated_csv))["dialog_id"])
    unseen = [name for name in names if not made.seen(name)]
    assert 0.15 < len(unseen) / len(names) < 0.25
    assert made.content["data"]["responses"] < len(balanced(read_rated(rated_csv)))
