"""Whose fault an error is."""

import pytest

from empathy_edge.bench.check.steps.faults import JudgeError, is_out_of_memory, reason_of
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError

TOO_LITTLE_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 51200000000 bytes. Error code 12 (Cannot allocate memory)",
    "[Errno 12] Cannot allocate memory",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes.",
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 99",
    "std::bad_alloc",
    "bad allocation",
    "unable to allocate CPU buffer",
    "Failed to create llama_context",
    "model-q4_0: llama.cpp could not decode (code -2).",
    "llama.cpp could not decode 64 tokens (code -2).",
)
OTHERS = (
    "the GGUF file is truncated: 100 bytes, its tensors need 200; download or export it again.",
    "Failed to allocate tensors.",
    "AllocateTensors() failed",
    "llama.cpp could not decode 64 tokens (code -3).",
    "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.",
    "a token is out of the vocabulary",
)


@pytest.mark.parametrize("text", TOO_LITTLE_MEMORY)
def test_too_little_memory_is_no_fault_of_the_artifact(text: str) -> None:
    for error in (RuntimeError(text), EmpathyEdgeError(f"model: ONNX Runtime cannot load it: {text}")):
        with pytest.raises(PrerequisiteError, match="model-q4_0: this machine has too little memory"):
            reason_of("model-q4_0", error)


@pytest.mark.parametrize("text", OTHERS)
def test_other_errors_of_a_runtime_are(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))
    assert reason_of("model", EmpathyEdgeError(text)) == reason_of("model", RuntimeError(text)) == text


def test_memory_is_seen_behind_another_error() -> None:
    try:
        try:
            raise MemoryError
        except MemoryError:
            raise EmpathyEdgeError("model: the runtime cannot load it: ?") from None
    except EmpathyEdgeError as error:
        assert is_out_of_memory(error)
    assert is_out_of_memory(MemoryError())


def test_errors_of_the_judge_and_of_ours_are_raised_again() -> None:
    of_the_judge = JudgeError("likelihood:m", MemoryError(), cannot_start=True)
    for error in (of_the_judge, KeyError("x"), PrerequisiteError("No package.", "Install it.")):
        with pytest.raises(type(error)) as found:
            reason_of("model", error)
        assert found.value is error


class _Reached(EmpathyEdgeError):
    exit_code = 4


@pytest.mark.parametrize(
    ("error", "exit_code", "cannot_start"),
    [
        (_Reached("--max-calls 4 is reached."), 4, False),
        (EmpathyEdgeError("no lists of ratings"), 2, False),
        (RuntimeError("std::bad_alloc"), 3, False),
        (PrerequisiteError("There is no key.", "Set one."), 3, True),
    ],
)
def test_a_judge_that_fails_keeps_its_exit_code(error: Exception, exit_code: int, cannot_start: bool) -> None:
    failed = JudgeError("openai:m", error, cannot_start=False)
    assert failed.shown().exit_code == exit_code and failed.cannot_start is cannot_start
    assert str(failed.shown()).startswith("The judge openai:m cannot rate: ")
    assert str(error).splitlines()[0] in str(failed.shown())
