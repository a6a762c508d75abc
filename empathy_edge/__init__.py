"""Empathy Edge: empathetic small language models for phones, from distillation to the check.

The Python API: `from empathy_edge import distill, finetune, export, check, chat` (docs/api.md). What a name
needs is imported when it is used; importing this package alone loads no library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from empathy_edge.api import (
        ApiSettings,
        BenchResult,
        BenchSettings,
        Chat,
        ChatReply,
        ChatSettings,
        CheckResult,
        CheckSettings,
        DistillResult,
        DistillSettings,
        DpoSettings,
        EmpathyEdgeError,
        ExportedArtifact,
        ExportResult,
        ExportSettings,
        FinetuneResult,
        PrerequisiteError,
        ReplySettings,
        TeacherSettings,
        TrainSettings,
        VerdictFailed,
        bench,
        chat,
        check,
        distill,
        export,
        finetune,
        set_quiet,
    )

__all__ = [
    "ApiSettings",
    "BenchResult",
    "BenchSettings",
    "Chat",
    "ChatReply",
    "ChatSettings",
    "CheckResult",
    "CheckSettings",
    "DistillResult",
    "DistillSettings",
    "DpoSettings",
    "EmpathyEdgeError",
    "ExportResult",
    "ExportSettings",
    "ExportedArtifact",
    "FinetuneResult",
    "PrerequisiteError",
    "ReplySettings",
    "TeacherSettings",
    "TrainSettings",
    "VerdictFailed",
    "bench",
    "chat",
    "check",
    "distill",
    "export",
    "finetune",
    "set_quiet",
]

__version__ = "0.1.0"

CALLABLE_PACKAGES = ("bench", "chat", "distill", "export", "finetune")
"""Of these names there is a package, which can be called (`callable_package.py`)."""

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in CALLABLE_PACKAGES:
            return import_module(f"empathy_edge.{name}")
        if name in __all__:
            return getattr(import_module("empathy_edge.api"), name)
        raise AttributeError(f"module 'empathy_edge' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
