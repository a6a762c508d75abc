"""The chat template that the user chose with `--template`, checked and given to a model.

A name is looked up among the model's own templates, then among the built-in ones; then it is a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, did_you_mean, did_you_mean_path
from empathy_edge.formats.built_in_templates import BUILT_IN, built_in_template
from empathy_edge.formats.chat_format import (
    DEFAULT,
    has_template,
    named_templates,
    render,
    template_text,
    turn_end,
)
from empathy_edge.formats.gguf_header import metadata_of
from empathy_edge.formats.vocabulary import Vocabulary, vocabulary_of_folder, vocabulary_of_gguf
from empathy_edge.models.adapter_folder import tokenizer_folder
from empathy_edge.models.find import ModelRef, checkpoint_of, find_model
from empathy_edge.models.templated_folder import is_templated, template_for, templated_folder
from empathy_edge.system.files import MANIFEST, read_json

_GGUF_KEY = "tokenizer.chat_template"
_MARK = re.compile(r"<[|｜][^<>|｜\s]{1,40}[|｜]>|<(?:start|end)_of_turn>|\[\|[^\[\]|\s]{1,40}\|\]")
"""What only a special token looks like; other tags, as `<context>`, may be a template's own text."""


@dataclass(frozen=True)
class ChosenTemplate:
    """A template before it is given to a model.

    Attributes:
        label: how the user named it.
        source: Jinja; None for a built-in one, which depends on the tokenizer.
        is_models_own: whether it is one of the model's named ones.
    """

    label: str
    source: str | None
    is_models_own: bool = False

    def text(self, vocabulary: Vocabulary) -> str:
        """Its Jinja source for a tokenizer."""
        return self.source or built_in_template(self.label, begins_with_bos=vocabulary.adds_bos)


def checkpoint_with_template(
    model: ModelRef | str, template: str | None, adapters: Sequence[Path] = ()
) -> ModelRef:
    """A checkpoint, as `checkpoint_of` finds it, that has the template of the option `--template`.

    Args:
        model: its name, or the checkpoint itself.
        template: a name or a file; None takes the template that comes with the adapters or the model.
        adapters: PEFT folders that are added to it; they may bring a tokenizer and a template.

    Raises:
        EmpathyEdgeError: there is no template, no such one, or it does not fit the tokenizer.
    """
    checkpoint = checkpoint_of(model) if isinstance(model, str) else model
    given = list(adapters)
    if template is None:
        template_for(checkpoint.path, given)
        return checkpoint
    chosen = choose_template(template, [checkpoint, find_model(checkpoint.name)])
    for adapter in given:
        if has_template(adapter):
            say(f"  Chat template: {chosen.label} (--template), not the one beside {adapter}.")
    return with_template(checkpoint, chosen, given)


def name_with_template(model: str, template: str | None) -> str:
    """What to open instead of a model: itself without a `--template`, else a folder with that template."""
    return names_with_template([model], template)[0]


def names_with_template(models: Sequence[str], template: str | None) -> list[str]:
    """As `name_with_template`, for several that are given the same template.

    Raises:
        EmpathyEdgeError: a model is not there, there is no such template, or it does not fit a tokenizer.
    """
    if template is None:
        return list(models)
    found = [find_model(model) for model in models]
    chosen = choose_template(template, found)
    opened = [with_template(model, chosen) for model in found]
    return [
        str(new.path) if new is not old else name
        for name, old, new in zip(models, found, opened, strict=True)
    ]


def tuned_with_template(tuned: str, base: str, template: str | None) -> tuple[str, ModelRef]:
    """A fine-tuned model and its base, for which the user named a template.

    The fine-tuned one keeps the template that it was trained with; it gets the base's where it has none.
    """
    checkpoint = checkpoint_with_template(base, template)
    found = find_model(tuned)
    if template is None or own_templates(found):
        return tuned, checkpoint
    chosen = choose_template(template, [checkpoint, find_model(base)])
    return str(with_template(found, chosen).path), checkpoint


def choose_template(wanted: str, models: Sequence[ModelRef]) -> ChosenTemplate:
    """Find a template by its name or file.

    Args:
        wanted: what the user gave.
        models: whose own templates come first.

    Raises:
        EmpathyEdgeError: there is none; names those that there are, and the nearest.
    """
    own: dict[str, str] = {}
    for model in models:
        own = own_templates(model) | own
    if wanted in own:
        return ChosenTemplate(wanted, own[wanted], is_models_own=True)
    if wanted in BUILT_IN:
        return ChosenTemplate(wanted, None)
    if "{%" in wanted or "{{" in wanted:
        raise EmpathyEdgeError("--template: write the template into a file, and give its name.")
    file = Path(wanted).expanduser()
    if file.is_file():
        return ChosenTemplate(wanted, template_text(file))
    near = did_you_mean(wanted, [*own, *BUILT_IN]) or did_you_mean_path(file)
    raise EmpathyEdgeError(
        f"--template {wanted}: no such template or file.{near}\n"
        f"  Of {models[0].name} itself: {', '.join(own) or 'none'}. Built in: {', '.join(BUILT_IN)}."
    )


def own_templates(model: ModelRef) -> dict[str, str]:
    """A model's own chat templates by name; a single one is called `default`."""
    file = _gguf_file(model)
    if file is None:
        return named_templates(model.path)
    names = metadata_of(file, ["tokenizer.chat_templates"]).get("tokenizer.chat_templates")
    others = {f"{_GGUF_KEY}.{name}": str(name) for name in names} if isinstance(names, list) else {}
    keys = {_GGUF_KEY: DEFAULT} | others
    return {keys[key]: str(text) for key, text in metadata_of(file, keys).items() if text}


def _gguf_file(model: ModelRef) -> Path | None:
    """The GGUF whose header has the template; None for other formats, and where the user chose one."""
    if model.kind == "gguf":
        return model.path
    if model.kind == "artifact":
        artifact = read_json(model.path / MANIFEST)["artifact"]
        if artifact["format"] == "gguf" and not is_templated(model.path):
            return Path(model.path / artifact["file"])
    return None


def with_template(model: ModelRef, chosen: ChosenTemplate, adapters: Sequence[Path] = ()) -> ModelRef:
    """The model with this template; the model itself where it has it already.

    Raises:
        EmpathyEdgeError: the template cannot be used with the model's tokenizer.
    """
    vocabulary = _vocabulary(model, list(adapters))
    template = chosen.text(vocabulary)
    _require_fit(model, chosen, template, vocabulary)
    if not any(map(has_template, adapters)) and own_templates(model).get(DEFAULT) == template:
        return model
    folder = templated_folder(model.path, model.kind, model.name, template, chosen.label)
    return ModelRef(model.name, "checkpoint" if model.kind == "checkpoint" else "artifact", folder)


def _vocabulary(model: ModelRef, adapters: list[Path]) -> Vocabulary:
    if model.kind == "gguf":
        return vocabulary_of_gguf(model.path)
    if model.kind == "artifact":
        artifact = read_json(model.path / MANIFEST)["artifact"]
        if artifact["format"] == "gguf":
            return vocabulary_of_gguf(model.path / artifact["file"])
    return vocabulary_of_folder(tokenizer_folder(model.path, adapters), model.path)


def _require_fit(model: ModelRef, chosen: ChosenTemplate, template: str, vocabulary: Vocabulary) -> None:
    """Refuse a template that the tokenizer cannot read, or after which a model would never stop."""
    where = f"--template {chosen.label}"
    if chosen.source is None:
        missing = [token for token in BUILT_IN[chosen.label].tokens if token not in vocabulary.tokens]
        if missing:
            raise EmpathyEdgeError(
                f"{where}: the tokenizer of {model.name} has no token {missing[0]}; it would read it as "
                f"plain text.\n  {_what_fits(vocabulary)}"
            )
    try:
        end = turn_end(template, vocabulary.eos)
        text = render(template, [{"role": "user", "content": "a"}], bos=vocabulary.bos, eos=vocabulary.eos)
    except EmpathyEdgeError as error:
        raise EmpathyEdgeError(f"{where}: {error}") from None
    if end not in vocabulary.tokens:
        raise EmpathyEdgeError(
            f"{where}: ends a turn with {end}, which is no token of {model.name}: a model would never stop."
            f"\n  {_what_fits(vocabulary)}"
        )
    if not chosen.is_models_own:
        _require_one_beginning(where, text, vocabulary)
    unknown = sorted({mark for mark in _MARK.findall(text) if mark not in vocabulary.tokens})
    if unknown and chosen.source is not None:
        say(f"  [yellow]Warning:[/] {where}: {', '.join(unknown)} is no token of {model.name}, but text.")


def _what_fits(vocabulary: Vocabulary) -> str:
    fitting = [name for name, template in BUILT_IN.items() if template.fits(vocabulary)]
    return (
        f"Its tokens are enough for: {', '.join(fitting)}. "
        "Or add the token to the tokenizer and the embeddings first."
    )


def _require_one_beginning(where: str, text: str, vocabulary: Vocabulary) -> None:
    """Refuse a beginning-of-sequence token that is there twice, or is missing where it belongs."""
    bos = vocabulary.bos
    if bos and text.startswith(bos + bos):
        raise EmpathyEdgeError(
            f"{where}: begins with {bos} twice; write it once, or leave out {{{{ bos_token }}}}."
        )
    if vocabulary.adds_bos and not text.startswith(bos):
        raise EmpathyEdgeError(
            f"{where}: does not begin with {bos}, but the tokenizer begins every text with it.\n"
            "  Write {{ bos_token }} at the template's beginning."
        )
