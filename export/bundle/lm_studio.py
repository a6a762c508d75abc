"""A preset of LM Studio: the system prompt and the settings of a reply.

LM Studio reads the chat template out of the GGUF file, and presets from `~/.lmstudio/config-presets`. The
names of the settings are those of its open SDK (lmstudio-ai/lmstudio-js, packages/lms-kv-config).
"""

from __future__ import annotations

from typing import Any

from empathy_edge.export.bundle.app_settings import AppSettings


def preset_name(settings: AppSettings) -> str:
    """The name of the preset's file."""
    return f"{settings.name}.preset.json"


def preset(settings: AppSettings) -> dict[str, Any]:
    """The content of the preset's file."""
    prediction = {
        "llm.prediction.systemPrompt": settings.system,
        "llm.prediction.temperature": int(settings.temperature),
        "llm.prediction.maxPredictedTokens": {"checked": True, "value": settings.max_new_tokens},
        "llm.prediction.repeatPenalty": {"checked": False, "value": 1},
        "llm.prediction.stopStrings": list(settings.stop),
    }
    load = {"llm.load.contextLength": settings.context}
    return {
        "identifier": f"@local:{settings.name}",
        "name": settings.name,
        "changed": False,
        "operation": {"fields": _fields(prediction)},
        "load": {"fields": _fields(load)},
    }


def _fields(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]
