"""Errors that a user sees: a short message without a traceback, and an exit code."""


class EmpathyEdgeError(Exception):
    """The input or the usage is wrong; the message says what, where, and what to do (exit code 2)."""

    exit_code = 2


class VerdictFailed(EmpathyEdgeError):
    """A check ran to its end and failed (exit code 1)."""

    exit_code = 1


class PrerequisiteError(EmpathyEdgeError):
    """A prerequisite is missing: a package, a model, memory, disk space (exit code 3).

    Args:
        missing: what is missing, in one sentence.
        remedy: the command or step that provides it.
    """

    exit_code = 3

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(f"{missing}\n  {remedy}")
        self.missing = missing
        self.remedy = remedy


def require_extra(module: str, extra: str, purpose: str) -> None:
    """Raise PrerequisiteError if `module` is not installed; the message names the extra to install."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise PrerequisiteError(
            f"{purpose} needs the package '{module}', which is not installed.",
            f"Install it with: pip install 'empathy-edge[{extra}]'",
        )
