"""Options that several commands have, and options made from settings classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click

from empathy_edge.commands import completers

if TYPE_CHECKING:
    from pydantic import BaseModel

Completer = Callable[[click.Context, click.Parameter, str], Any]
"""Gives what a shell completes an unfinished word with."""

Decorator = Callable[[Any], Any]
"""What click's own decorators are: they take a function, or one that has options already."""

EXAMPLES = "\b\nExamples:\n"


def path_type() -> click.Path:
    """A file or folder. Whether it exists is checked where it is used: the message says what it is for."""
    return click.Path(path_type=Path)


def out_option() -> Decorator:
    """--out: where a stage writes."""
    return click.option(
        "--out",
        type=path_type(),
        required=True,
        help="The folder to write into; it must be new, empty, or of the same kind.",
    )


def update_option() -> Decorator:
    """--update: an earlier result may be replaced."""
    return click.option(
        "--update", is_flag=True, help="Make again what was made with other settings or inputs."
    )


def adapter_option(text: str) -> Decorator:
    """--adapter: PEFT folders, or what `finetune` made, which stands for its adapters."""

    def expand(_context: click.Context, _option: click.Parameter, given: Sequence[Path]) -> Sequence[Path]:
        if not given:
            return ()
        from empathy_edge.models.adapter_folder import adapters_of

        return tuple(adapters_of(given))

    return click.option(
        "--adapter",
        "adapters",
        multiple=True,
        type=path_type(),
        callback=expand,
        help=f"{text} A folder that `finetune` made stands for its adapters.",
    )


DATA_FORMS = (
    "JSON Lines, JSON, CSV, Parquet or text in any form that `data inspect` recognises, also gzipped; \
`sample` or `written` (shipped), `-` (stdin), or OWNER/NAME[:SPLIT] of the hub."
)
"""What every option for dialogues takes."""


def map_option() -> Decorator:
    """--map: the columns of the user's data that have names of their own."""
    return click.option(
        "--map",
        "columns",
        type=_KeyValue("FIELD=COLUMN"),
        multiple=True,
        callback=_as_table,
        help="Where the data call a field otherwise, as utterance=text. May be repeated.",
    )


def rated_option() -> Decorator:
    """--data of those who test judges: dialogues with responses that people rated."""
    return click.option(
        "--data", type=path_type(), help=f"Dialogues with responses rated 3 and 1: {DATA_FORMS}"
    )


def experts_option() -> Decorator:
    """--experts: instead, what experts marked."""
    return click.option(
        "--experts",
        type=path_type(),
        help="Instead of --data: a folder of experts' annotations (EPITOME's mechanisms, in the layout of "
        "arXiv 2506.10150).",
    )


def dialogues_option() -> Decorator:
    """--dialogues of those who take responses."""
    return click.option(
        "--dialogues", required=True, type=path_type(), help="What was responded to: the file of `respond`."
    )


def device_option() -> Decorator:
    """--device: where torch computes, as `system.device` reads it."""
    from empathy_edge.system.device import CHOSEN, DEVICES

    def choose(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            os.environ[CHOSEN] = value

    return click.option(
        "--device",
        type=click.Choice(DEVICES),
        expose_value=False,
        callback=choose,
        help="Where torch computes; auto takes a GPU where torch finds one. [default: auto]",
    )


def template_option(of: str = "The chat template") -> Decorator:
    """--template: another chat template than the model's own."""
    return click.option(
        "--template",
        metavar="NAME|FILE",
        shell_complete=completers.templates,
        help=f"{of}: one of the model's own by name, a built-in one (docs/formats.md), or a Jinja file. "
        "[default: the model's own]",
    )


def threads_option() -> Decorator:
    """--threads."""
    return click.option(
        "--threads", type=click.IntRange(1), help="CPU threads. [default: all cores this process may use]"
    )


@dataclass(frozen=True)
class FromSettings:
    """Options that are fields of a settings class: they have its names, defaults, ranges and descriptions.

    Attributes:
        load: imports the class; called when the command is used, since pydantic is slow to import.
        fields: which fields are options.
        names: field → option, where it is not `--the-field`.
        completes: field → what a shell completes its values with.
        partial: the command gets a function instead, which makes the settings from the fields that are no
            options.
    """

    load: Callable[[], type[BaseModel]]
    fields: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)
    completes: Mapping[str, Completer] = field(default_factory=dict)
    partial: bool = False

    def option(self, name: str) -> str:
        """What the option for a field is called, as --to."""
        return self.names.get(name, f"--{name.replace('_', '-')}")


VALUES = "empathy_edge.values"
"""Where a context's `meta` has the value of each option, those of settings too, while the command runs."""


class SettingsCommand(click.Command):
    """A command that takes settings objects, whose fields are its options."""

    settings: Mapping[str, FromSettings] = {}
    """Parameter of the command's function → where its options come from."""

    _are_made = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options, those of the settings last."""
        if not self._are_made:
            self._are_made = True
            made = set()
            for source in self.settings.values():
                kind = source.load()
                for name in source.fields:
                    if name not in made:  # a field of two settings is one option
                        self.params.append(_option(kind, name, source))
                    made.add(name)
        return super().get_params(ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Put the options' values together into settings, check them, and call the function."""
        given = dict(ctx.params)
        ctx.meta[VALUES] = given
        for parameter, source in self.settings.items():
            values = {}
            for name in source.fields:
                values[name] = given[name]
                ctx.params.pop(name, None)
            make = partial(_checked, source, values)
            ctx.params[parameter] = make if source.partial else make()
        return super().invoke(ctx)


def is_given(name: str) -> bool:
    """Whether an option of the command that runs was given, so that its value is no default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def refuse_given(options: Sequence[str], why: str) -> None:
    """Refuse options that would be ignored.

    Args:
        options: as --cold.
        why: the rest of the sentence, after the option.

    Raises:
        UsageError: one of them was given; names it.
    """
    context = click.get_current_context()
    for parameter in context.command.get_params(context):
        if parameter.opts[0] in options and is_given(parameter.name or ""):
            raise click.UsageError(f"{parameter.opts[0]} {why}")


def takes_settings(**settings: FromSettings) -> Callable[[click.Command], click.Command]:
    """Give a SettingsCommand its settings, by parameter of its function."""

    def add(command: click.Command) -> click.Command:
        assert isinstance(command, SettingsCommand), "made with cls=SettingsCommand"
        command.settings = settings
        return command

    return add


def api_settings() -> FromSettings:
    """What a model behind an API may cost, and where it is."""

    def load() -> type[BaseModel]:
        from empathy_edge.llm.api_settings import ApiSettings

        return ApiSettings

    return FromSettings(load, ("base_url", "parallel", "max_calls", "max_cost", "prices"))


def _checked(source: FromSettings, values: dict[str, object], **more: object) -> BaseModel:
    from pydantic import ValidationError

    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.runs.recipe import describe_faults

    try:
        return source.load().model_validate(values | more)
    except ValidationError as error:
        names = {name: source.option(name) for name in source.fields}
        raise EmpathyEdgeError(describe_faults(error, "options", names)) from None


def _option(kind: type[BaseModel], name: str, source: FromSettings) -> click.Option:
    """The option for a field of a settings class."""
    info = kind.model_fields[name]
    inner = _without_none(info.annotation)
    is_table = get_origin(inner) is dict
    is_list = get_origin(inner) is tuple
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    words = source.option(name).removeprefix("--")
    flag = f"--{words}/--no-{words}" if inner is bool and default else f"--{words}"
    return click.Option(
        [flag, name],
        type=_KeyValue() if is_table else _type_of(get_args(inner)[0] if is_list else inner, info.metadata),
        multiple=is_list or is_table,
        is_flag=inner is bool,
        required=info.is_required(),
        default=() if is_table else default,
        show_default=default is not None and default is not False and not is_table,
        help=info.description,
        callback=_as_table if is_table else None,
        shell_complete=source.completes.get(name),
    )


def _without_none(annotation: Any) -> Any:
    """`X` for the annotation `X | None`."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0] if len(kinds) == 1 else str
    return annotation


def _type_of(annotation: Any, metadata: Sequence[Any]) -> click.ParamType[Any]:
    """click's type for an annotation; `metadata` has the bounds."""
    if get_origin(annotation) is Annotated:
        annotation, info = get_args(annotation)
        metadata = info.metadata
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if annotation is Path:
        return path_type()
    bounds: dict[str, float] = {}
    for item in metadata:
        for bound in ("ge", "gt", "le", "lt"):
            if (value := getattr(item, bound, None)) is not None:
                bounds[bound] = value
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if not bounds:
        plain: dict[Any, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, bool: click.BOOL}
        return plain.get(annotation, click.STRING)
    if annotation is int:
        return click.IntRange(None if low is None else int(low), None if high is None else int(high))
    return click.FloatRange(low, high, min_open="gt" in bounds, max_open="lt" in bounds)


class _KeyValue(click.ParamType[tuple[str, str]]):
    """KEY=VALUE, or what its two parts are called."""

    def __init__(self, name: str = "KEY=VALUE") -> None:
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is not {self.name}.", param, ctx)
        return key, text


def _as_table(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    return dict(value)
