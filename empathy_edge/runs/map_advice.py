"""Errors about columns that nobody has named, with the whole command that names them."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Columns
from empathy_edge.formats.usual_names import ColumnsNotNamed, NoResponses, map_options
from empathy_edge.runs.given_data import STDIN, first_row


@contextlib.contextmanager
def naming_columns(
    command: Sequence[str | Path], given: Path, columns: Columns, after: Sequence[str | Path] = ()
) -> Iterator[None]:
    """Run what reads the data; an error about its columns ends with the command to try.

    Args:
        command: its words up to where the data are named.
        given: the data, as the user gave them.
        columns: the user's `--map`.
        after: the words that follow `--map`.

    Raises:
        EmpathyEdgeError: what is run raises it.
    """
    mapped = [word for field, column in columns.items() for word in ("--map", f"{field}={column}")]

    def whole(options: Sequence[str]) -> str:
        return shlex.join(map(str, (*command, given.as_posix(), *mapped, *options, *after)))

    try:
        yield
    except ColumnsNotNamed as error:
        raise EmpathyEdgeError(
            f"{error.problem}\n  Say which field holds what the person says, and which the reply, as in:\n"
            f"  {whole(error.options)}\n  All forms: docs/formats.md."
        ) from None
    except NoResponses as error:
        options = unnamed_replies(given, columns)
        if not options:
            raise
        raise EmpathyEdgeError(
            f"{error}\n  If a field holds the replies, name it, as in:\n  {whole(options)}"
        ) from None


def unnamed_replies(given: Path, columns: Columns) -> list[str]:
    """`--map` for a field that may hold the replies of data without responses; none where no field may.

    Stdin was read already, and tells nothing.
    """
    options = [] if given.as_posix() == STDIN else map_options(first_row(given, columns))
    return options if any(option.startswith("response=") for option in options) else []
