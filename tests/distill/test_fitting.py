"""Fitting the teacher to the student: selection by likelihood, and pairs from the student's own samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from empathy_edge.bench.release.safety import safety_prompts
from empathy_edge.data import sample_dialogues
from empathy_edge.distill import from_ratings as distill
from empathy_edge.distill import own_pairs, selection
from empathy_edge.distill.filters import RejectedResponses
from empathy_edge.distill.fitting import fit_responses, shorten
from empathy_edge.distill.own_samples import Prompt, Sample, Samples, read_prompts
from empathy_edge.distill.sample_pairs import pair_samples, pair_with_safe_answer
from empathy_edge.distill.sample_scores import ScoredSample, score_samples
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, Response
from empathy_edge.formats.json_lines import read_jsonl, read_unfinished_jsonl, write_jsonl
from empathy_edge.models.find import checkpoint_of, find_model
from empathy_edge.runs.settings import DistillSettings, FitSettings, OwnPairSettings
from empathy_edge.runtimes.likelihood import log_probs_per_character
from empathy_edge.text.tone import clashes
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import dialogue_row, run_command, write_rows


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same dialogues, with the responses as they are, and shouted."""
    root = tmp_path_factory.mktemp("fit")
    settings = DistillSettings(reference="first-draft", models=("editor",), max_sft=8, max_pairs=6)
    distill.run(data=sample_dialogues(), out=root / "plain", settings=settings)
    shouted = root / "shouted"
    shouted.mkdir()
    for file in ("sft.jsonl", "preference.jsonl", "test.jsonl"):
        text = (root / "plain" / file).read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        for row in rows:
            for field in ("completion", "chosen"):
                if field in row:
                    row[field][0]["content"] = row[field][0]["content"].upper()
        (shouted / file).write_text(
            text if file == "test.jsonl" else "".join(json.dumps(row) + "\n" for row in rows)
        )
    return [root / "plain", shouted]


def test_likelihood_is_that_of_the_plain_forward(folders: list[Path], tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = read_jsonl(folders[0] / "sft.jsonl")
    texts = [row["completion"][0]["content"] for row in rows]
    found = log_probs_per_character(
        find_model(str(tiny_model)), [], [row["prompt"] for row in rows], texts, "test"
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for row, text, value in zip(rows, texts, found, strict=True):
        start = len(
            tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        )
        ids = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)
        logs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        wanted = sum(logs[place - 1, ids[place]].item() for place in range(start, len(ids))) / len(text)
        assert value == pytest.approx(wanted, rel=0.02)  # bf16 against fp32


@pytest.mark.slow
def test_the_student_prefers_plain_words_to_shouted_ones(folders: list[Path], tmp_path: Path) -> None:
    results = selection.run(
        folders=folders,
        base=checkpoint_of("smollm2-135m"),
        adapters=[],
        by="likelihood",
        out=tmp_path / "out",
    )
    assert (results.sft_rows, results.preference_pairs) == (8, 6)
    for figures in results.selection.values():
        assert figures.taken_from.get("plain", 0) > figures.taken_from.get("shouted", 0)
        assert figures.likelihood_of_taken is not None and figures.likelihood_of_all is not None
        assert figures.likelihood_of_taken.mean > figures.likelihood_of_all.mean
    ids = [row["id"] for row in read_jsonl(tmp_path / "out" / "sft.jsonl")]
    assert len(set(ids)) == len(ids) == 8


def test_random_selection_is_a_mixture(folders: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    arguments = {"folders": folders, "base": find_model(str(tiny_model)), "adapters": [], "by": "random"}
    results = selection.run(**arguments, out=tmp_path / "out")  # type: ignore[arg-type]
    assert set(results.selection["sft.jsonl"].taken_from) == {"plain", "shouted"}
    options = ("--base", tiny_model, "--by", "random", "--out", tmp_path / "out", "--json", "-")
    again = run_command("select", *folders, *options)
    assert again.returncode == 0, again.stderr
    assert_says_next(again, f"empathy-edge finetune {tmp_path / 'out'} --base {tiny_model} --out tuned")
    found = assert_reported(again.stdout, "select 1")
    assert (found["sft_rows"], found["preference_pairs"]) == (8, 6)
    of_sft = found["selection"]["sft.jsonl"]  # type: ignore[index]
    assert of_sft["candidates"] == 16 and sum(of_sft["taken_from"].values()) == 8
    assert of_sft["taken_from"] == results.selection["sft.jsonl"].taken_from
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(manifest["results"]) == {"sft_rows", "preference_pairs", "selection"}


def test_folders_of_other_dialogues_are_refused(
    folders: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "test.jsonl").write_text("{}\n")
    for others, message in ((tmp_path, "different test splits"), (folders[0], "the same name")):
        with pytest.raises(EmpathyEdgeError, match=message):
            selection.run(
                folders=[folders[0], others],
                base=find_model(str(tiny_model)),
                adapters=[],
                by="random",
                out=tmp_path / "out",
            )


def test_samples_that_a_kill_cut_short_are_read_back(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text('{"id": "a", "text": "whole"}\n{"id": "b", "te')
    assert read_unfinished_jsonl(file) == [{"id": "a", "text": "whole"}]
    assert read_unfinished_jsonl(tmp_path / "none.jsonl") == []


def sample(text: str, score: float, stopped: bool = True) -> ScoredSample:
    return ScoredSample(text, stopped, score)


def test_a_pair_is_the_clearest_of_like_length() -> None:
    pytest.importorskip("py3langid")
    prompt = Prompt("d", [{"role": "user", "content": "My cat died last night."}], ["So sorry about it."])
    good = sample("I am so sorry that you lost your cat, that must hurt so much.", 0.8)
    middle = sample("It is hard to lose a friend like that, and I hope you are well.", 0.6)
    bad = sample("That is great news for you and the cat, I am so happy about it!", 0.2)
    longer = sample(" ".join(["That is great news for you and the cat."] * 4), 0.1)
    endless = sample("That is great news for the cat and you, and the cat, and you", 0.0, stopped=False)
    rejected = RejectedResponses()
    (pair,) = pair_samples(prompt, [middle, longer, good, endless, bad], OwnPairSettings(), rejected)
    assert pair.row() == {
        "id": "d",
        "prompt": prompt.messages,
        "chosen": [{"role": "assistant", "content": good.text}],
        "rejected": [{"role": "assistant", "content": bad.text}],
        "scores": {"chosen": 0.8, "rejected": 0.2},
    }
    assert rejected.report()["did not stop"].count == 1
    assert pair_samples(prompt, [good, longer], OwnPairSettings(), rejected) == []
    assert pair_samples(prompt, [good, middle], OwnPairSettings(margin=0.3), rejected) == []
    assert pair_samples(prompt, [good], OwnPairSettings(margin=0), rejected) == []


def test_on_a_safety_prompt_the_shipped_answer_is_chosen() -> None:
    answer = "I'm worried about you. Please tell someone you trust, or a doctor, today."
    prompt = Prompt("d", [{"role": "user", "content": "I have forty pills here."}], [answer], safety=True)
    best = sample("I'm worried about you. Please call a doctor or a friend right now.", 0.8)
    bad = sample("That sounds like a wonderful plan, and I am glad that you shared it.", 0.1)
    worse = sample("That is great, and I am so happy that you have found so many of them!", 0.0)
    endless = sample(
        "That is great, and I am so happy that you have found so many of them", -0.1, stopped=False
    )
    settings = OwnPairSettings(safety_pairs=2)
    pairs = pair_with_safe_answer(prompt, [best, bad, endless, worse], settings, RejectedResponses())
    assert [pair.rejected for pair in pairs] == [worse.text, bad.text]
    assert {pair.chosen for pair in pairs} == {answer}


def test_a_student_that_repeats_the_safe_answer_is_not_its_own_opposite() -> None:
    answer = "I'm worried about you. Please tell someone you trust, or a doctor, today."
    other = "I'm worried about you. Please call a crisis line, or a doctor, tonight."
    prompt = Prompt("d", [{"role": "user", "content": "I have forty pills here."}], [answer, other], True)
    bad = sample("That sounds like a wonderful plan, and I am glad that you shared it.", 0.1)
    settings, rejected = OwnPairSettings(safety_pairs=4), RejectedResponses()
    samples = [sample(answer, 1.0), bad, sample(other, 0.9), bad, sample(answer, 1.0)]
    (pair,) = pair_with_safe_answer(prompt, samples, settings, rejected)
    assert (pair.chosen, pair.rejected) == (answer, bad.text) and rejected.report() == {}
    assert pair_with_safe_answer(prompt, [sample(answer, 1.0)] * 3, settings, rejected) == []
    assert rejected.report()["no clear pair"].count == 1


def test_a_text_that_was_sampled_twice_is_in_one_pair() -> None:
    pytest.importorskip("py3langid")
    prompt = Prompt("d", [{"role": "user", "content": "My cat died last night."}], ["So sorry about it."])
    good = "I am so sorry that you lost your cat, that must hurt so much."
    bad = "That is great news for you and the cat, I am so happy about it!"
    samples = [sample(good, 0.8), sample(bad, 0.2), sample(good, 0.8), sample(bad, 0.2)]
    (pair,) = pair_samples(prompt, samples, OwnPairSettings(), RejectedResponses())
    assert (pair.chosen, pair.rejected) == (good, bad)
    unequal = [sample(good, 0.8), sample(good, 0.7999)]  # a batch is padded to its longest text
    assert pair_samples(prompt, unequal, OwnPairSettings(margin=0), RejectedResponses()) == []


@pytest.mark.slow
def test_own_samples_become_pairs_and_are_not_sampled_twice(folders: list[Path], tmp_path: Path) -> None:
    settings = OwnPairSettings(prompts=10, samples=3, margin=0.02, length_ratio=4, max_new_tokens=60)
    arguments = {
        "rows": folders[0],
        "base": checkpoint_of("smollm2-135m"),
        "adapters": [],
        "out": tmp_path / "own",
        "settings": settings,
    }
    results = own_pairs.run(**arguments)  # type: ignore[arg-type]
    assert results.samples == 30 and results.pairs >= 1
    assert results.mean_score["chosen"] > results.mean_score["rejected"]
    again = run_command(
        "own-pairs", folders[0], "--base", "smollm2-135m", "--prompts", "10", "--samples", "3", "--margin",
        "0.02", "--length-ratio", "4", "--max-new-tokens", "60", "--out", tmp_path / "own", "--json", "-",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert_says_next(again, f"empathy-edge finetune {folders[0]} --base smollm2-135m --pairs ")
    found = assert_reported(again.stdout, "own-pairs 1")
    assert (found["prompts"], found["samples"], found["pairs"]) == (10, 30, results.pairs)
    assert found["mean_score"] == results.mean_score
    assert set(found["median_words"]) == {"chosen", "rejected"}  # type: ignore[call-overload]


def test_own_pairs_take_prompts_without_responses(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello, you."}]
    last = {"role": "user", "content": "My cat died last night."}
    data = write_rows(tmp_path / "talks.jsonl", {"messages": [*said, last]})
    (prompt,) = read_prompts(data)
    assert prompt.messages[1:] == [*said, last] and prompt.references == []
    samples: Samples = {
        prompt.id: [Sample("I am sorry about your cat.", True), Sample("The bus is late.", True)]
    }
    ((near, far),) = score_samples([prompt], samples, OwnPairSettings(samples=2), tmp_path / "none")
    assert near.score > far.score, "without good responses, nearness to what was said counts"


def test_own_pairs_of_a_file_leave_out_what_is_kept_for_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(
        tmp_path / "d.jsonl",
        dialogue_row(id="ours", utterance="My boat sank on the day I bought it."),
        dialogue_row(id="near", utterance="MY CAT DIED LAST NIGHT!"),
        dialogue_row(id="kept", utterance="My cat died last night.", split="test"),
        dialogue_row(id="safety", utterance=safety_prompts()[0].utterance),
    )
    assert [prompt.id for prompt in read_prompts(data)] == ["ours"]
    assert "2 dialogues are left out" in capsys.readouterr().err


def test_own_pairs_take_a_folder_with_one_kind_of_rows(tmp_path: Path) -> None:
    prompt_of_row = [{"role": "user", "content": "Hi."}]
    completion = [{"role": "assistant", "content": "Yo."}]
    write_rows(tmp_path / "sft.jsonl", {"id": "a", "prompt": prompt_of_row, "completion": completion})
    (tmp_path / "preference.jsonl").write_text("")
    (prompt,) = read_prompts(tmp_path)
    assert prompt.references == ["Yo."]
    (tmp_path / "sft.jsonl").write_text("")
    with pytest.raises(EmpathyEdgeError, match="the file is empty"):
        read_prompts(tmp_path)


def training_row(said: str, answer: str, **fields: object) -> dict[str, object]:
    prompt = [{"role": "user", "content": said}]
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}], **fields}


def test_rows_of_one_id_and_prompt_are_merged(tmp_path: Path) -> None:
    rows = [training_row("Hi.", "Yo.", id="a"), training_row("Hi.", "Hey.", id="a")]
    write_rows(tmp_path / "sft.jsonl", *rows, training_row("Hi.", "Hello.", id=7))
    first, second = read_prompts(tmp_path)
    assert (first.id, first.references) == ("a", ["Yo.", "Hey."])
    assert (second.id, second.references) == ("7", ["Hello."])


def test_rows_without_an_id_are_prompts_by_their_messages(tmp_path: Path) -> None:
    rows = [training_row("My cat died.", "Oh no."), training_row("I won!", "Great!", id="")]
    write_rows(tmp_path / "sft.jsonl", *rows, training_row("My cat died.", "So sorry.", id=None))
    cat, won = read_prompts(tmp_path)
    assert cat.utterance == "My cat died." and cat.references == ["Oh no.", "So sorry."]
    assert won.utterance == "I won!" and won.references == ["Great!"]
    assert cat.id and won.id and cat.id != won.id
    assert [prompt.id for prompt in read_prompts(tmp_path)] == [cat.id, won.id], "samples are kept by it"


@pytest.mark.parametrize(
    ("prompt_id", "message"), [("a", r"sft\.jsonl: row 2: the id 'a' is already used"), (["a"], "'id' is")]
)
def test_an_id_of_two_prompts_is_refused(prompt_id: object, message: str, tmp_path: Path) -> None:
    rows = [training_row("My cat died.", "Oh no.", id="a"), training_row("I won!", "Great!", id=prompt_id)]
    write_rows(tmp_path / "sft.jsonl", *rows)
    with pytest.raises(EmpathyEdgeError, match=message):
        read_prompts(tmp_path)


def test_an_id_of_two_files_is_one_prompt(tmp_path: Path) -> None:
    write_rows(tmp_path / "sft.jsonl", training_row("My cat died.", "Oh no.", id="a"))
    pair = {"id": "a", "chosen": [{"role": "assistant", "content": "Great!"}]}
    write_rows(tmp_path / "preference.jsonl", {**training_row("I won!", ""), **pair})
    with pytest.raises(EmpathyEdgeError, match=r"preference\.jsonl: row 1: the id 'a'"):
        read_prompts(tmp_path)


def test_a_larger_models_likelihood_counts(exported: Path, tmp_path: Path) -> None:
    """The ranker's log-probabilities change the scores by their weight, and are kept in a file."""
    ranker = str(exported / "gguf-f16")
    prompts = [
        Prompt(f"d{n}", [{"role": "user", "content": f"My cat {n} died."}], ["So sorry about your cat."])
        for n in range(2)
    ]
    texts = ["So sorry about the cat.", "What weather we have.", "I do not know."]
    samples: Samples = {item.id: [Sample(text, stopped=True) for text in texts] for item in prompts}

    def scores(weight: float, file: str) -> list[list[ScoredSample]]:
        settings = OwnPairSettings(samples=3, ranker=ranker, likelihood_weight=weight)
        return score_samples(prompts, samples, settings, tmp_path / file)

    plain = score_samples(prompts, samples, OwnPairSettings(samples=3), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert plain[0][0].nats is None and "nats" not in plain[0][0].row("d0")
    light, heavy = scores(0.0, "light"), scores(10.0, "heavy")
    for rows, known, weighed in zip(light, plain, heavy, strict=True):
        assert [row.score for row in rows] == [row.score for row in known]
        nats = nats_of(rows)
        mean = sum(nats) / 3
        expected = [row.score + 10 * (value - mean) for row, value in zip(rows, nats, strict=True)]
        assert [row.score for row in weighed] == pytest.approx(expected, abs=2e-3)
    kept = (tmp_path / "heavy").read_text().splitlines()
    (tmp_path / "heavy").write_text(
        "\n".join([*kept[:3], kept[3][:20]]).replace(kept[0], kept[0].replace("-", "-9", 1))
    )
    again = scores(10.0, "heavy")
    assert nats_of(again[0])[0] < nats_of(heavy[0])[0] - 1, "what is in the file is not asked for again"
    assert nats_of(again[1]) == nats_of(heavy[1])


def nats_of(samples: list[ScoredSample]) -> list[float]:
    return [item.nats for item in samples if item.nats is not None]


FIT = FitSettings(most_words=12, least_words=4, per_dialogue=1, least_similarity=0.3)


def test_a_response_is_shortened_to_whole_sentences_without_stock_phrases() -> None:
    text = (
        "I'm sorry to hear that you're going through this. Losing a cat hurts. Remember, it's okay to cry. "
        "He was lucky to have you near him all those years."
    )
    assert shorten(text, FIT) == "Losing a cat hurts."
    assert (
        shorten("Losing a cat hurts. He was lucky. Truly.", FIT) == "Losing a cat hurts. He was lucky. Truly."
    )
    assert shorten("Remember, you're not alone.", FIT) == shorten("You’re not alone.", FIT) == ""


def test_the_nearest_good_responses_are_kept_and_the_rest_is_counted() -> None:
    near, far = "Losing your cat like that must hurt so much.", "The weather in Spain is mild in the spring."
    weak, human = "Cats are animals that many people like.", "Remember, you're not alone."
    responses = (
        Response("llm", near, 3),
        Response("other", far, 3),
        Response("third", "You're not alone.", 3),
        Response("weak", weak, 1),
        Response("human", human, 3),
    )
    dialogue = Dialogue("d", "sad", "s", "My cat died last night.", responses, "train")
    rejected = RejectedResponses()
    (fitted,) = fit_responses([dialogue], ("llm", "other", "third", "weak"), FIT, rejected)
    assert [response.text for response in fitted.responses] == [
        near,
        weak,
        human,
    ]  # human ones are kept as is
    assert {name: item.count for name, item in rejected.report().items()} == {
        "stock phrases and little else": 1,
        "far from what was said": 1,
    }


def test_a_beginning_that_is_too_common_is_reported_with_its_dialogue() -> None:
    """The report had the two words as the id."""
    text = "Losing your cat like that must hurt so much."
    dialogues = [
        Dialogue(f"d{number}", "sad", "s", "My cat died last night.", (Response("llm", text, 3),), "train")
        for number in range(2)
    ]
    rejected = RejectedResponses()
    fit_responses(dialogues, ("llm",), FIT, rejected)
    found = rejected.report()["begins like too many others"]
    assert found.count == 1 and found.examples[0].id in ("d0", "d1")


def test_condolence_for_good_news_is_a_clash() -> None:
    good_news = ["Congratulations on the lamp!", "How lovely, what a great gift."]
    assert clashes("I'm really sorry to hear that you got a lamp. How wonderful.", good_news)
    assert not clashes("What a wonderful lamp! I'm sorry I have none.", good_news)
    assert not clashes("Tell me about the lamp.", good_news)
    assert clashes("That's wonderful!", ["I'm so sorry about your cat."])
    assert not clashes(
        "That's wonderful!", ["I'm so sorry.", "Great that you are safe."]
    )  # the known ones disagree


def test_nearness_takes_what_is_about_what_was_said(
    folders: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out, about = tmp_path / "out", tmp_path / "about it"
    shutil.copytree(folders[0], about)
    for file, field in selection.FILES.items():
        rows = read_jsonl(about / file)
        for row in rows:
            row[field][0]["content"] = f"So: {row['prompt'][-1]['content']}"
        write_jsonl(about / file, rows)
    results = selection.run(
        folders=[folders[0], about], base=find_model(str(tiny_model)), adapters=[], by="nearness", out=out
    )
    assert set(results.selection["sft.jsonl"].taken_from) == {"about it"}
    ids = [row["id"] for row in read_jsonl(out / "sft.jsonl")]
    assert len(set(ids)) == len(ids) == 8
