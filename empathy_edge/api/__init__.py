"""The Python API: what the commands do, as functions with typed arguments and results.

The functions are named as the commands. They print messages and progress on stderr (in a notebook: below the
cell), nothing on stdout, and return what a command would print there. Names are imported from `empathy_edge`.
"""

from empathy_edge.api.artifacts import BenchResult, ExportedArtifact, ExportResult, bench, export
from empathy_edge.api.conversations import Chat, ChatReply, chat
from empathy_edge.api.rows import DistillResult, distill
from empathy_edge.api.training import FinetuneResult, finetune
from empathy_edge.api.verdicts import CheckResult, check
from empathy_edge.chat.chat_settings import ChatSettings
from empathy_edge.console import set_quiet
from empathy_edge.distill.teacher_settings import TeacherSettings
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, VerdictFailed
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.runs.settings import (
    BenchSettings,
    CheckSettings,
    DistillSettings,
    DpoSettings,
    ExportSettings,
    ReplySettings,
    TrainSettings,
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
