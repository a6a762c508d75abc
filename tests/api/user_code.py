"""Code as a user writes it, for mypy alone (test_names.py): an unused `type: ignore` would be an error."""

from pathlib import Path
from typing import Literal, assert_type

from empathy_edge import (
    ChatReply,
    CheckResult,
    DistillResult,
    ExportedArtifact,
    ExportResult,
    FinetuneResult,
    TrainSettings,
    chat,
    check,
    distill,
    export,
    finetune,
)
from empathy_edge.distill.filters import VERSION


def right() -> None:
    """What the page shows."""
    rows = distill("sample", Path("rows"), models=["editor"])
    assert_type(rows, DistillResult)
    tuned = finetune(rows, "tuned", base="smollm2-135m", sft=TrainSettings(epochs=1))
    assert_type(tuned, FinetuneResult)
    made = export(tuned.base, "exported", adapters=tuned.adapters, to="gguf-f16", verify="full")
    assert_type(made, ExportResult)
    assert_type(made["gguf-f16"], ExportedArtifact)
    found = check(made, reference=made.checkpoint)
    assert_type(found, CheckResult)
    assert_type(found.artifacts[0].verdict, Literal["PASS", "FAIL", "UNDECIDED"])
    with chat(made["gguf-f16"]) as talk:
        assert_type(talk.say("Hello"), ChatReply)
        print(*talk.stream("And now?"), VERSION)


def wrong() -> None:
    """Each line has one fault."""
    distill("sample")  # type: ignore[call-arg]
    finetune("rows", "tuned", epochs=3)  # type: ignore[call-arg]
    export("model", "exported", verify="a bit")  # type: ignore[arg-type]
    check(3, reference="model")  # type: ignore[arg-type]
    chat(modle="smollm2-135m")  # type: ignore[call-arg]
