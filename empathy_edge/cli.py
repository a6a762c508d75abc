"""The program: runs a command, and turns every error into a line for people and an exit code."""

from __future__ import annotations

import os
import sys

import click

from empathy_edge.commands import cli

EVERYWHERE = ("--debug", "--verify-inputs")
"""Options that every command takes: show tracebacks; hash every input again, trusting no cache."""

BUG = 70
"""The exit code of an error of ours (EX_SOFTWARE of sysexits.h)."""


def main() -> None:
    """The entry point: runs the command and turns every error into a message for people and an exit code."""
    _end_on_sigterm_as_on_ctrl_c()
    sys.exit(run_cli(sys.argv[1:]))


def _end_on_sigterm_as_on_ctrl_c() -> None:
    """SIGTERM, as of a pod that is evicted, waits for what is under way and keeps it, as Ctrl-C does."""
    import signal

    def end(number: int, _frame: object) -> None:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a job in the background of a shell
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, end)


def run_cli(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code: 0 done, 1 FAIL, 2 usage or input, 3 a prerequisite is missing, 4 undecided or not
        complete, 70 a bug of ours, 130 interrupted.
    """
    debug = "--debug" in arguments
    if "--verify-inputs" in arguments:
        from empathy_edge.system.hash_cache import read_every_file_again

        read_every_file_again()
    from empathy_edge.errors import EmpathyEdgeError, VerdictFailed

    try:
        result = cli.main(
            [item for item in arguments if item not in EVERYWHERE], "empathy-edge", standalone_mode=False
        )
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        if debug:
            raise
        _remove_bars()
        _begin_line()
        _complain("Interrupted. What is done is kept; run the same command again to go on.")
        return 130
    except EmpathyEdgeError as error:
        if debug:
            raise
        _complain(str(error), is_error=error.is_error)
        if isinstance(error, VerdictFailed):
            from empathy_edge.console import next_step

            next_step(error.next_step)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    import errno

    from empathy_edge.doctor import extra_with
    from empathy_edge.errors import did_you_mean_path

    chain: BaseException | None = error
    while chain is not None:  # a library may have wrapped what the system said
        text = str(chain)
        if (isinstance(chain, OSError) and chain.errno == errno.ENOSPC) or "No space left on device" in text:
            where = getattr(chain, "filename", None)
            _complain(
                f"The disk is full{f' ({where})' if where else ''}. What is done is kept.\n"
                "  Free some space and run the same command again to go on."
            )
            return 3
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, ModuleNotFoundError) and error.name and (extra := extra_with(error.name)):
        _complain(
            f"This needs the package '{error.name.partition('.')[0]}', which is not installed.\n"
            f"  Install it with: pip install 'empathy-edge[{extra}]'"
        )
        return 3
    if "trust_remote_code" in str(error):
        _complain(
            "The model brings Python code of its own (auto_map in its config.json), which is not run here.\n"
            "  Take a checkpoint that transformers knows by itself."
        )
        return 2
    if isinstance(error, OSError) and error.filename:
        missing = isinstance(error, FileNotFoundError)
        near = did_you_mean_path(str(error.filename)) if missing else ""
        _complain(f"{error.filename}: {error.strerror}.{near}")
        return 2
    _complain(
        f"Something went wrong inside ({type(error).__name__}: {str(error)[:300]}).\n"
        "  This is a fault of empathy-edge or of a library; run again with --debug for the traceback."
    )
    return BUG


def _begin_line() -> None:
    """On a terminal, end the line on which it shows `^C`."""
    if sys.stderr.isatty():
        click.echo(err=True)


def _remove_bars() -> None:
    if "empathy_edge.console" in sys.modules:  # else nothing was shown yet, and rich need not be imported
        from empathy_edge.console import remove_bars

        remove_bars()


def _complain(message: str, *, is_error: bool = True) -> None:
    from empathy_edge.errors import as_given

    _remove_bars()
    kind = click.style("Error: ", fg="red", bold=True) if is_error else ""
    click.echo(kind + as_given(message), err=True)
