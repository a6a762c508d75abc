"""The student's own answers to training prompts, sampled; an interrupted run goes on where it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.console import progress, quiet_libraries, say
from empathy_edge.distill.rated_rows import SAFETY
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message, fit_to_template, template_of, turn_end_id
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.json_lines import read_unfinished_jsonl
from empathy_edge.formats.row_fields import printable, shown
from empathy_edge.formats.training_rows import TrainingRow, load_rows, templated
from empathy_edge.models.find import ModelRef
from empathy_edge.runs.settings import OwnPairSettings
from empathy_edge.system.files import sha256_json
from empathy_edge.text.near_duplicates import KeptForTests, of_safety_prompts

PROMPTS_PER_BATCH = 16


@dataclass(frozen=True)
class Prompt:
    """A training prompt and the good responses to it, if any; `safety` marks the shipped safety prompts."""

    id: str
    messages: list[Message]
    references: list[str]
    safety: bool = False

    @property
    def utterance(self) -> str:
        """What the person says."""
        return self.messages[-1]["content"]

    @property
    def compared_with(self) -> list[str]:
        """What answers are compared with in meaning: the good responses, or else what the person says."""
        return self.references or [self.utterance]

    @property
    def characters(self) -> int:
        """The length of all messages."""
        return sum(len(message["content"]) for message in self.messages)


@dataclass(frozen=True)
class Sample:
    """One answer; `stopped` says that the model ended its turn by itself."""

    text: str
    stopped: bool


Samples = dict[str, list[Sample]]
"""The samples of each prompt, by the prompt's id."""


def read_prompts(rows: Path) -> list[Prompt]:
    """Every prompt in the training files of the folder `rows`, or in a file of dialogues.

    Rows with the same id and messages are one prompt with several good responses; so are rows without an id
    whose messages are the same. Of a file of dialogues those of the training split are taken; a response that
    nobody rated counts as good. What is nearly in the test split or among the safety prompts is left out.

    Raises:
        EmpathyEdgeError: a file is missing or a row is wrong, or an id has two prompts; names file and row.
    """
    if rows.is_file():
        return _prompts_of_dialogues(rows)
    files = {"sft.jsonl": "completion", "preference.jsonl": "chosen"}
    empty = [name for name in files if not (rows / name).is_file() or not (rows / name).stat().st_size]
    found: dict[str, Prompt] = {}
    for file, field in files.items():
        if file in empty and len(empty) == 1:  # one step of training is possible without the other
            continue
        for number, row in enumerate(load_rows(rows / file, ("prompt", field), keep=("id", "source")), 1):
            where = f"{rows / file}: row {number}"
            prompt_id = _id_of(row, where)
            new = Prompt(prompt_id, row["prompt"], references=[], safety=row["source"] == SAFETY)
            prompt = found.setdefault(prompt_id, new)
            if prompt.messages != new.messages:
                raise EmpathyEdgeError(
                    printable(
                        f"{where}: the id '{prompt_id}' is already used by another prompt. "
                        "Give every prompt its own id, or leave the ids out."
                    )
                )
            text = row[field][0]["content"]
            if text not in prompt.references:
                prompt.references.append(text)
    return list(found.values())


def _id_of(row: TrainingRow, where: str) -> str:
    """The row's id; one made from the prompt's messages where it has none."""
    value = row["id"]
    if value is None or value == "":
        return f"prompt-{sha256_json(row['prompt'])[:16]}"
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise EmpathyEdgeError(printable(f"{where}: 'id' is {shown(value)}; it must be a text."))
    return str(value)


def _prompts_of_dialogues(data: Path) -> list[Prompt]:
    dialogues = read_dialogues(data)
    test = KeptForTests((item.id, item.utterance) for item in dialogues if item.split == "test")
    safety_prompts = of_safety_prompts()
    prompts, left_out = [], 0
    for item in dialogues:
        if item.split == "test":
            continue
        if test.has(item.id, item.utterance) or safety_prompts.has(item.utterance):
            left_out += 1
            continue
        good = [response.text for response in item.responses if response.rating in (3, None)]
        prompts.append(Prompt(item.id, item.prompt(), good))
    if left_out:
        say(f"  {left_out} dialogues are left out: nearly in the test split, or among the safety prompts")
    if not prompts:
        raise EmpathyEdgeError(f"{data}: no dialogue of the training split; there is nothing to answer.")
    return prompts


def draw_samples(
    prompts: list[Prompt], base: ModelRef, adapters: list[Path], file: Path, settings: OwnPairSettings
) -> Samples:
    """Sample `settings.samples` answers to each prompt.

    Args:
        prompts: what is answered.
        base: the student's checkpoint.
        adapters: PEFT folders to add to it.
        file: JSON lines, one for each sample. Prompts that an interrupted run has finished are kept.
        settings: number of samples, length and temperature.
    """
    samples = _read_samples(file, settings.samples)
    missing = [prompt for prompt in prompts if prompt.id not in samples]
    if not missing:
        return samples
    missing.sort(key=lambda prompt: prompt.characters)  # a batch is padded to its longest prompt
    say(
        f"  {len(missing)} prompts, {settings.samples} answers to each, {PROMPTS_PER_BATCH} prompts at a time"
    )
    student = _Student(base, adapters, file.parent, settings)
    with progress() as bar, open(file, "w", encoding="utf-8") as handle:
        for prompt_id, known in samples.items():
            handle.writelines(_line(prompt_id, sample) for sample in known)
        task = bar.add_task("prompts answered", total=len(prompts), completed=len(samples), note="")
        for start in range(0, len(missing), PROMPTS_PER_BATCH):
            batch = missing[start : start + PROMPTS_PER_BATCH]
            for prompt, new in zip(batch, student.answer(batch), strict=True):
                samples[prompt.id] = new
                handle.writelines(_line(prompt.id, sample) for sample in new)
            handle.flush()
            bar.advance(task, len(batch))
    return samples


def _read_samples(file: Path, count: int) -> Samples:
    """The samples of the prompts that have all of them."""
    samples: Samples = {}
    for row in read_unfinished_jsonl(file):
        samples.setdefault(str(row["id"]), []).append(Sample(row["text"], row["stopped"]))
    return {prompt_id: known for prompt_id, known in samples.items() if len(known) == count}


def _line(prompt_id: str, sample: Sample) -> str:
    row = {"id": prompt_id, "text": sample.text, "stopped": sample.stopped}
    return json.dumps(row, ensure_ascii=False) + "\n"


class _Student:
    """The student, loaded for sampling; torch's random state is set at the beginning."""

    def __init__(self, base: ModelRef, adapters: list[Path], folder: Path, settings: OwnPairSettings) -> None:
        quiet_libraries()
        import torch

        from empathy_edge.runtimes.torch_loading import SCRATCH, load_base
        from empathy_edge.system.memory import keep_freed_memory

        keep_freed_memory()
        model, tokenizer, _ = load_base(base.path, settings.weights, adapters, folder / SCRATCH)
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._settings = settings
        self._stop = turn_end_id(tokenizer)
        torch.manual_seed(settings.seed)

    def answer(self, prompts: list[Prompt]) -> list[list[Sample]]:
        """Each prompt's samples."""
        from empathy_edge.runtimes.torch_batch import generate

        encoded = [self._encoded(prompt) for prompt in prompts]
        count = self._settings.samples
        replies = generate(
            self._model,
            encoded,
            stop_ids={self._stop},
            pad_id=self._tokenizer.pad_token_id,
            max_new_tokens=self._settings.max_new_tokens,
            temperature=self._settings.temperature,
            samples=count,
        )
        samples = []
        for ids, stopped in replies:
            text = self._tokenizer.decode(ids, skip_special_tokens=True).strip()
            samples.append(Sample(text, stopped))
        return [samples[start : start + count] for start in range(0, len(samples), count)]

    def _encoded(self, prompt: Prompt) -> list[int]:
        messages = fit_to_template(template_of(self._tokenizer), prompt.messages)
        text = templated(f"prompt '{prompt.id}'", messages, self._tokenizer, generate=True)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
