"""Each step shows what the model replies without its adapter and with it."""

from pathlib import Path

import pytest

from empathy_edge.finetune import sft
from empathy_edge.finetune.before_and_after import MAX_NEW_TOKENS
from empathy_edge.finetune.training_results import DpoResults, SftResults
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.models.find import find_model
from empathy_edge.models.templates import checkpoint_with_template
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.runs.stage import results_of
from empathy_edge.runtimes import open_runtime
from tests.conftest import run_command

pytestmark = pytest.mark.slow

NO_SYSTEM = """{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ raise_exception('no system role') }}{%- endif -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""


def test_replies_are_those_of_the_model_before_and_after(
    rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "tuned", tmp_path / "exact.yaml"  # in bf16 merging rounds
    steps = "sft: {weights: fp32, epochs: 1}\ndpo: {weights: fp32, epochs: 1}\n"
    recipe.write_text(f"name: exact\nbase: {tiny_model}\ndata: sample\n{steps}")
    result = run_command("finetune", rows, "--base", tiny_model, "--recipe", recipe, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "rows are few: look at these replies" in result.stderr
    assert "Before and after SFT" in result.stderr and "Before and after DPO" in result.stderr
    first = results_of(out / "sft", SftResults).examples
    second = results_of(out / "dpo", DpoResults).examples
    assert [item.prompt for item in first] == [item.prompt for item in second] and len(first) == 3
    assert [item.before for item in second] == [item.after for item in first]
    adapters = [out / step / "adapter" for step in ("sft", "dpo")]
    shown = [
        [item.before for item in first],
        [item.after for item in first],
        [item.after for item in second],
    ]
    for count, texts in enumerate(shown):
        runtime = open_runtime(find_model(str(tiny_model)).path, context=512, adapters=adapters[:count])
        for item, text in zip(first, texts, strict=True):
            reply = runtime.reply(messages_for(item.prompt), max_new_tokens=MAX_NEW_TOKENS)
            wanted = reply.text.strip()
            assert text == (wanted if reply.finish_reason == "stop" else f"{wanted} …")
        runtime.close()


def test_a_template_without_system_turns_is_no_fault(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Training ended in an error of Jinja after its last step, and its result could not be used."""
    out = tmp_path / "tuned"
    settings = TrainSettings(epochs=1, batch_size=4, micro_batch_size=2)
    template = tmp_path / "no-system.jinja"
    template.write_text(NO_SYSTEM)
    base = checkpoint_with_template(str(tiny_model), str(template))
    examples = sft.run(rows=rows / "sft.jsonl", base=base, out=out, settings=settings).examples
    assert len(examples) == 3 and (out / "manifest.json").is_file()
