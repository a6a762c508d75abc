"""Rows that are refused: test dialogues of any folder, and texts that the model is never asked with."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from empathy_edge.bench.release.safety import safety_prompts
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune import dpo, sft
from empathy_edge.finetune.given_rows import steps_to_train
from empathy_edge.formats.built_in_templates import BUILT_IN, built_in_template
from empathy_edge.formats.chat_format import fit_to_template, messages_for, render, turn_end
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.formats.training_rows import _require_continuation, check_lengths, is_response
from empathy_edge.models.templates import checkpoint_with_template
from empathy_edge.runs.settings import DpoSettings, TrainSettings
from tests.conftest import assert_one_clear_error, run_command

FAST = {"batch_size": 4, "learning_rate": 0.01, "weights": "fp32"}

TURNS = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor -%}"
)
OPENED = "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
THINKING = TURNS + OPENED.replace("assistant\n", "assistant\n<think>\n")
"""As that of DeepSeek-R1's students: only the prompt begins with thoughts."""

THOUGHTFUL = TURNS.replace("m.content", "('<think></think>' if m.role == 'assistant' else '') + m.content")
"""As Qwen3's own: only the answer begins with thoughts."""

SYSTEM_WITH_THE_LAST = (
    "{%- for m in messages if m.role != 'system' -%}{{ '<|im_start|>' + m.role + '\n' }}"
    "{{ messages[0].content if loop.last and messages[0].role == 'system' }}{{ m.content + '<|im_end|>\n' }}"
    "{%- endfor -%}" + OPENED
)
"""As Mistral's own: the system prompt is gone when the answer is known."""

ALTERNATING = (
    "{%- for m in messages -%}{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate') }}{%- endif -%}{%- endfor -%}" + TURNS + OPENED
)

PHI_3_OF_MICROSOFT = (
    "{%- for m in messages -%}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor -%}"
    "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}"
)


def _row(*said: str, answer: str = "Oh no.") -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "user", "content": text} for text in said],
        "completion": [{"role": "assistant", "content": answer}],
    }


def _requires(template: str, *, eos: str = "</s>") -> None:
    """The check of one row, without a tokenizer."""
    prompt = fit_to_template(template, messages_for("My cat died."))
    answer = {"role": "assistant", "content": "I'm so sorry."}
    asked = render(template, prompt, eos=eos)
    text = render(template, [*prompt, answer], generate=False, eos=eos)
    _require_continuation("rows: row 1", asked, text, [answer], turn_end(template, eos), eos)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_templates_write_an_answer_as_they_open_it(name: str) -> None:
    _requires(built_in_template(name, begins_with_bos=False))


def test_the_end_of_the_text_may_follow_the_stop_token() -> None:
    _requires(PHI_3_OF_MICROSOFT, eos="<|endoftext|>")
    assert is_response(" Oh. </s>", "Oh.", "</s>", "</s>")  # Llama 2
    assert is_response("Oh.<|im_end|>\n", "Oh. ", "<|im_end|>", "")
    assert not is_response("Hi. Oh.</s>", "Oh.", "</s>", "</s>") and not is_response("Oh.", "Oh.", "</s>", "")


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (THINKING, "ends a prompt with '<think>"),
        (THOUGHTFUL + OPENED, "writes .<think></think>I'm so sorry"),
        (SYSTEM_WITH_THE_LAST, "ends a prompt with 'You"),
    ],
)
def test_a_template_that_writes_an_answer_in_another_way_is_refused(template: str, found: str) -> None:
    """DPO trained on it, and SFT where the loss seemed to be on the response alone."""
    with pytest.raises(
        EmpathyEdgeError, match=f"row 1: the model's chat template ({found})(.|\n)*--template"
    ):
        _requires(template)


def test_both_steps_refuse_such_a_template(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "thinking.jinja").write_text(THINKING)
    base = checkpoint_with_template(str(tiny_model), str(tmp_path / "thinking.jinja"))
    with pytest.raises(EmpathyEdgeError, match=r"sft\.jsonl: row 1: 'completion': the model's chat template"):
        sft.run(
            rows=rows / "sft.jsonl",
            base=base,
            out=tmp_path / "sft",
            settings=TrainSettings(**FAST),
        )
    with pytest.raises(EmpathyEdgeError, match=r"preference\.jsonl: row 1: 'chosen': the model's chat"):
        dpo.run(
            pairs=[rows / "preference.jsonl"],
            base=base,
            sft=None,
            out=tmp_path / "dpo",
            settings=DpoSettings(**FAST),
        )
    assert not (tmp_path / "sft").exists() and not (tmp_path / "dpo").exists()


def test_a_token_across_the_border_is_no_fault(tiny_model: Path) -> None:
    """The line break that opens an answer and those that begin it are one token."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    check_lengths(Path("rows"), [_row("My cat died.", answer="\n\nOh no.")], tokenizer, 512)


def test_a_row_that_the_template_refuses_is_named(tiny_model: Path) -> None:
    """Two user turns in a row ended in an error of Jinja, exit code 70."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = ALTERNATING
    good, bad = _row("My cat died."), _row("My cat died.", "Are you there?")
    check_lengths(Path("rows"), [good], tokenizer, 512)
    with pytest.raises(
        EmpathyEdgeError, match=r"rows: row 2: 'prompt': .* refuses these messages: Conversation"
    ):
        check_lengths(Path("rows"), [good, bad], tokenizer, 512)


def test_test_dialogues_of_every_given_folder_are_refused(rows: Path, tmp_path: Path) -> None:
    """Only the test.jsonl beside a file was looked at."""
    own = tmp_path / "own"
    own.mkdir()
    (victim, *_) = read_jsonl(rows / "test.jsonl")
    (pair, *_) = read_jsonl(rows / "preference.jsonl")
    pair["prompt"][-1]["content"] = victim["utterance"]
    write_jsonl(own / "preference.jsonl", [{**pair, "id": "mine"}])
    with pytest.raises(EmpathyEdgeError, match=r"own/preference\.jsonl: 1 rows are test dialogues of .*rows"):
        steps_to_train(rows, [own], None)
    assert steps_to_train(rows, [own], "sft") == ("sft",)
    arguments = ("finetune", rows, "--pairs", own, "--base", "no-such", "--out", tmp_path / "tuned")
    assert_one_clear_error(run_command(*arguments), 2, "test dialogues")
    (row, *_) = read_jsonl(rows / "sft.jsonl")
    write_jsonl(own / "test.jsonl", [{"id": "else", "utterance": row["prompt"][-1]["content"]}])
    with pytest.raises(EmpathyEdgeError, match=r"sft\.jsonl: 1 rows are test dialogues of .*own"):
        steps_to_train(rows, [own], "sft")


def test_safety_prompts_are_never_trained_on(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    (row, *others) = read_jsonl(rows / "sft.jsonl")
    row["prompt"][-1]["content"] = safety_prompts()[0].utterance.replace("'", "’")
    write_jsonl(tmp_path / "sft.jsonl", [row, *others])
    with pytest.raises(EmpathyEdgeError, match=r"sft\.jsonl: 1 rows are safety prompts"):
        sft.run(
            rows=tmp_path / "sft.jsonl",
            base=checkpoint_with_template(str(tiny_model), None),
            out=tmp_path / "sft",
            settings=TrainSettings(**FAST),
        )
