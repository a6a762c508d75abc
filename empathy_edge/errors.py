"""The errors a person may see; each becomes one or two lines and an exit code."""


class EmpathyEdgeError(Exception):
    """Something in the input or the usage is wrong: says what, where, and what to do (exit code 2)."""

    exit_code = 2


class VerdictFailed(EmpathyEdgeError):
    """A check did its work and the answer is no (exit code 1)."""

    exit_code = 1


class PrerequisiteError(EmpathyEdgeError):
    """Something that must be there first is missing (exit code 3).

    Args:
        missing: what is not there, in one sentence.
        mend: the command or step that mends it.
    """

    exit_code = 3

    def __init__(self, missing: str, mend: str) -> None:
        super().__init__(f"{missing}\n  {mend}")
        self.missing = missing
        self.mend = mend


def require_extra(module: str, extra: str, purpose: str) -> None:
    """Raise PrerequisiteError when `module` is not installed, naming the extra that brings it."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise PrerequisiteError(
            f"{purpose} needs the package '{module}', which is not installed.",
            f"Install it with: pip install 'empathy-edge[{extra}]'",
        )
