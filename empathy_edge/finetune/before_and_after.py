"""What the model replies before and after a training step, so that a user sees whether it helped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from empathy_edge.console import say
from empathy_edge.data import check_prompts
from empathy_edge.finetune.training_results import Example
from empathy_edge.formats.chat_format import fit_to_template, messages_for, template_of, turn_end_id
from empathy_edge.formats.json_lines import iterate_jsonl
from empathy_edge.formats.row_fields import printable

PROMPTS = ("sad-16", "proud-15", "lonely-15")
"""Short ones of `check`: no model is trained on them, since `finetune` refuses rows that hold one."""

MAX_NEW_TOKENS = 48
FEW_ROWS = 100


def before_and_after(model: Any, tokenizer: Any) -> tuple[Example, ...]:
    """Greedy replies to `PROMPTS`, without the adapter of a PEFT model and with it."""
    texts = {row["id"]: row["messages"][-1]["content"] for row in iterate_jsonl(check_prompts())}
    prompts = [texts[name] for name in PROMPTS]
    was_training = model.training
    model.eval()
    with model.disable_adapter():
        before = _replies(model, tokenizer, prompts)
    after = _replies(model, tokenizer, prompts)
    model.train(was_training)
    return tuple(
        Example(prompt=prompt, before=one, after=other)
        for prompt, one, other in zip(prompts, before, after, strict=True)
    )


def _replies(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    from empathy_edge.runtimes.torch_batch import generate

    template = template_of(tokenizer)
    token_ids = [
        tokenizer.apply_chat_template(
            fit_to_template(template, messages_for(prompt)), add_generation_prompt=True, return_dict=False
        )
        for prompt in prompts
    ]
    replies = generate(
        model,
        token_ids,
        stop_ids={turn_end_id(tokenizer)},
        pad_id=tokenizer.pad_token_id,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    texts = []
    for reply in replies:
        text = tokenizer.decode(reply.token_ids, skip_special_tokens=True).strip()
        texts.append(text if reply.stopped else f"{text} …")
    return texts


def show(step: str, examples: Sequence[Example], rows: int | None = None) -> None:
    """Say what changed.

    Args:
        step: its name.
        examples: of the step.
        rows: of SFT; few ones are worth a word.
    """
    if not examples:
        return
    if rows is not None and rows < FEW_ROWS:
        say(f"  {rows} rows are few: look at these replies before you go on.")
    say(f"  Before and after {step}, on prompts that are in no training data:")
    for example in examples:
        say(f"    [bold]{escape(example.prompt)}[/]")
        for when, reply in (("before:", example.before), ("after: ", example.after)):
            say(f"      {when} {escape(printable(' '.join(reply.split())))}")
