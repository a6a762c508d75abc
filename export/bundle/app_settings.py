"""What an app must know of an artifact: its files, its prompt, where a reply ends, how long it may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.export.record import ArtifactRecord
from empathy_edge.formats.chat_format import eos_of, read_template, takes_system, turn_end
from empathy_edge.formats.gguf_header import metadata_of
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.settings import ReleaseSettings

MAX_CONTEXT = 4096
"""Tokens in the context window that apps are told to open: more takes memory that phones lack."""


@dataclass(frozen=True)
class AppSettings:
    """How an app runs an artifact as it was trained and measured.

    Attributes:
        name: the artifact's.
        model_file: the name of the file that an app opens.
        adapter: the name of the LoRA beside it; empty without one.
        template: the chat template, Jinja.
        system: the system prompt of training; empty where the template takes none.
        stop: the texts of tokens that end a reply.
        context: tokens in the context window.
        max_new_tokens: of a reply.
        temperature: 0, greedy decoding, as the figures of the model card were taken.
    """

    name: str
    model_file: str
    adapter: str
    template: str
    system: str
    stop: tuple[str, ...]
    context: int
    max_new_tokens: int
    temperature: float = 0

    def generation(self) -> dict[str, Any]:
        """The content of generation.json."""
        return {
            "system_prompt": self.system,
            "stop": list(self.stop),
            "temperature": int(self.temperature),
            "max_new_tokens": self.max_new_tokens,
        }

    def filled(self, text: str) -> str:
        """Instructions with the settings in place of their names in braces."""
        values = {
            "adapter": self.adapter,
            "context": str(self.context),
            "file": self.model_file,
            "lora": f" --lora {self.adapter}" if self.adapter else "",
            "max_new_tokens": str(self.max_new_tokens),
            "name": self.name,
            "stop": ", ".join(f"`{stop}`" for stop in self.stop),
        }
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text


def settings_of(artifact: Path, record: ArtifactRecord) -> AppSettings:
    """The settings of an artifact's folder."""
    template = read_template(artifact)
    return AppSettings(
        name=record.name,
        model_file=record.file,
        adapter=record.adapter or "",
        template=template,
        system=load_prompts("chat").text("system") if takes_system(template) else "",
        stop=(turn_end(template, eos_of(artifact)),),
        context=min(MAX_CONTEXT, _trained_context(artifact / record.file)),
        max_new_tokens=ReleaseSettings().max_new_tokens,
    )


def _trained_context(file: Path) -> int:
    """Tokens in the context window that a GGUF file says; other formats: as many as apps are told to open."""
    if file.suffix != ".gguf":
        return MAX_CONTEXT
    architecture = metadata_of(file, ["general.architecture"]).get("general.architecture")
    key = f"{architecture}.context_length"
    found = metadata_of(file, [key]).get(key)
    return found if isinstance(found, int) and found > 0 else MAX_CONTEXT
