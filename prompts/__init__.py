"""All text that is sent to models: one YAML file per prompt set, each with a version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from empathy_edge.errors import EmpathyEdgeError


@dataclass(frozen=True)
class PromptSet:
    """One YAML file of prompts.

    Attributes:
        name: the file's name, without `.yaml`.
        version: as the file states it.
        texts: each prompt by its key, on one line.
        sha256: the first 12 hex digits of the file's hash.
    """

    name: str
    version: int
    texts: dict[str, str]
    sha256: str

    def text(self, key: str, **slots: str) -> str:
        """The prompt `key` with its `{slots}` filled."""
        if key not in self.texts:
            raise EmpathyEdgeError(f"prompts/{self.name}.yaml has no prompt '{key}'.")
        return self.texts[key].format(**slots) if slots else self.texts[key]


@lru_cache(maxsize=16)
def load_prompts(name: str) -> PromptSet:
    """Load prompts/NAME.yaml."""
    file = resources.files("empathy_edge.prompts") / f"{name}.yaml"
    if not file.is_file():
        raise EmpathyEdgeError(f"There is no prompt set '{name}'.")
    raw = file.read_bytes()
    content = yaml.safe_load(raw)
    texts = {key: " ".join(text.split()) for key, text in content["prompts"].items()}
    return PromptSet(name, int(content["version"]), texts, hashlib.sha256(raw).hexdigest()[:12])
