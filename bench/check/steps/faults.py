"""Whose fault an error is: the artifact's, the judge's, or the machine's, which has too little memory."""

from __future__ import annotations

import re

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError

OUT_OF_MEMORY = re.compile(
    r"out of memory"
    r"|bad[ _]alloc"
    r"|not enough memory"
    r"|insufficient memory"
    r"|(?:can't|cannot|could not|couldn't|unable to|failed to|failure to) (?:re)?allocate(?! tensors)"
    r"|failed to create llama_context"
    r"|llama\.cpp could not decode .*\(code -2\)",
    re.IGNORECASE,
)
"""What runtimes say when there is too little memory; they have no exception in common for it.

"allocate tensors" is left out: LiteRT says that of a damaged graph. Code -2 is llama_decode's for memory.
"""


def is_of_a_runtime(error: BaseException) -> bool:
    """Whether an error is about a model: an EmpathyEdgeError, or one of the runtimes' own bindings.

    ONNX Runtime's exceptions have no common parent, and other bindings raise plain RuntimeError.
    """
    if isinstance(error, EmpathyEdgeError):
        return True
    return type(error).__module__.startswith("onnxruntime") or type(error) is RuntimeError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, also where another error was raised because of that."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError) or OUT_OF_MEMORY.search(str(found)):
            return True
        found = found.__cause__ or found.__context__
    return False


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its type where there is no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class JudgeError(Exception):
    """The judge cannot rate: that says nothing of the artifact.

    Attributes:
        reason: what its error says; how to go on, too, where that is known.
        cannot_start: whether it could not be opened, or lacks a prerequisite, such as a valid key: then it
            rates no artifact. Else it stopped on its way: a limit of cost, the network, an answer.
    """

    def __init__(self, spec: str, error: Exception, *, cannot_start: bool) -> None:
        self.reason = str(error) if isinstance(error, EmpathyEdgeError) else first_line(error)
        self.cannot_start = cannot_start or isinstance(error, PrerequisiteError)
        super().__init__(f"The judge {spec} cannot rate: {self.reason}")
        self._spec = spec
        self._error = error

    def shown(self) -> EmpathyEdgeError:
        """The error that ends a command, with the exit code of what happened."""
        if isinstance(self._error, PrerequisiteError):
            missing = f"The judge {self._spec} cannot rate: {self._error.missing}"
            return PrerequisiteError(missing, self._error.remedy)
        if is_out_of_memory(self._error):
            return PrerequisiteError(str(self), "Close other programs, or take a smaller judge.")
        shown = EmpathyEdgeError(str(self))
        if isinstance(self._error, EmpathyEdgeError):
            shown.exit_code = self._error.exit_code
        return shown


def reason_of(name: str, error: Exception) -> str:
    """What is wrong with an artifact, by what was raised; an error that says nothing of it is raised again.

    Raises:
        PrerequisiteError: a package or memory is missing.
    """
    if isinstance(error, PrerequisiteError | JudgeError):
        raise error
    if is_out_of_memory(error):
        raise PrerequisiteError(
            f"{name}: this machine has too little memory for it ({first_line(error)}).",
            "Close other programs, or check it on a machine with more memory.",
        ) from error
    if not is_of_a_runtime(error):
        raise error
    return str(error) if isinstance(error, EmpathyEdgeError) else first_line(error)
