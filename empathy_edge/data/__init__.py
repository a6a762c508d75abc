"""The sample dialogues that ship with the package."""

from importlib import resources
from pathlib import Path


def sample_dialogues() -> Path:
    """The path of the shipped sample: 224 dialogues, 7 for each of 32 emotions, 32 of them the test split."""
    return Path(str(resources.files("empathy_edge.data") / "dialogues.jsonl"))


def conversations_file() -> Path:
    """The path of the shipped conversations: what four people say in ten turns each."""
    return Path(str(resources.files("empathy_edge.data") / "conversations.jsonl"))


def safety_file() -> Path:
    """The path of the shipped answers to people in danger, delusions, requests for harm or for praise, and to what only sounds so.

    98 dialogues, none of them one of the guard's prompts (prompts/safety.yaml).
    """
    return Path(str(resources.files("empathy_edge.data") / "safety.jsonl"))
