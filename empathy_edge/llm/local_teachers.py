"""Teachers without a network: a model in this process, and a file of answers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.llm.records import Answer, Request, StepNotKept, TeacherError
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.system.hash_cache import sha256_file


class LocalTeacher:
    """A GGUF, an artifact or a checkpoint in this process: one request at a time, at no cost."""

    parallel = 1
    tries = 1
    reasoning_tokens = 0
    former_identity: str | None = None

    def __init__(self, model: str, *, threads: int | None = None, context: int = 4096) -> None:
        ref = find_model(model)
        self.model = f"local:{ref.path.name}:{ref.identity[:16]}"
        self._name = model
        self._threads = threads
        self._context = context
        self._runtime: Runtime | None = None

    async def answer(self, request: Request, key: str) -> Answer:
        try:
            answer = await asyncio.to_thread(self._generate, request)
        except EmpathyEdgeError as error:
            raise TeacherError(str(error), 0.0) from None
        if not answer.text:
            raise TeacherError("an empty answer", 0.0)
        return answer

    async def identity(self) -> str:
        return self.model

    def interrupt(self) -> None:
        return

    async def close(self) -> None:
        if self._runtime is not None:
            self._runtime.close()

    def _generate(self, request: Request) -> Answer:
        if self._runtime is None:  # loaded at the first call: the ledger may have every answer
            self._runtime = open_runtime(self._name, threads=self._threads, context=self._context)
        reply = self._runtime.reply(
            list(request.messages),
            max_new_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.sample,
            schema=request.schema,
        )
        return Answer(
            reply.text,
            reply.prompt_tokens,
            len(reply.token_ids),
            0.0,
            is_cut_off=reply.finish_reason == "length",
        )


class FileTeacher:
    """A file of answers made elsewhere: JSONL rows with `dialog_id` and one column for each step.

    The steps are `initial` (the teacher's own response), each strategy's name, and `lacking` (the dimension
    that a response lacks). A strategy's name after `llm_` is an improvement of `initial`. `-` and `_` are the
    same.
    """

    parallel = 64
    tries = 1
    reasoning_tokens = 0
    former_identity: str | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, dict[str, object]] = {}
        for number, row in enumerate(read_jsonl(path), 1):
            dialogue_id = row.get("dialog_id", row.get("id")) if isinstance(row, dict) else None
            if isinstance(dialogue_id, int):
                dialogue_id = str(dialogue_id)
            if not isinstance(dialogue_id, str):
                raise EmpathyEdgeError(f"{path}: row {number}: 'dialog_id' is missing.")
            self._rows[dialogue_id] = row
        self.model = f"file:{path.name}:{sha256_file(path)[:16]}"

    @property
    def ids(self) -> set[str]:
        """The dialogues that the file has answers for."""
        return set(self._rows)

    async def answer(self, request: Request, key: str) -> Answer:
        dialogue_id, _, step = request.purpose.rpartition(" ")
        row = self._rows.get(dialogue_id, {})
        text = row.get(step, row.get(step.replace("-", "_")))
        if not isinstance(text, str) or not text.strip():
            if re.fullmatch(r".*sequential-\d", step):
                raise StepNotKept(f"{self._path.name} has only the last step of 'sequential'")
            raise TeacherError(f"{self._path.name} has no '{step}' for the dialogue {dialogue_id}", 0.0)
        return Answer(text, 0, 0, 0.0)

    async def identity(self) -> str:
        return self.model

    def interrupt(self) -> None:
        return

    async def close(self) -> None:
        return
