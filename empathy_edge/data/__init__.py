"""The data files that ship with the package."""

from importlib import resources
from pathlib import Path

DEFAULT_JUDGE = "likelihood:smollm2-135m"
"""Of a check: the shipped model's mean log-probability; its certificate is in judges.json."""


def sample_dialogues() -> Path:
    """224 dialogues, 7 for each of 32 emotions; 32 of them are the test split."""
    return _path_of("dialogues.jsonl")


def written_dialogues() -> Path:
    """1978 dialogues without ratings, for training: what a person says, and a good reply from `written`.

    1583 of them have a plainer reply, too, from `plain`. In 196, whose ids begin with `s-`, agreeing would do
    harm; 199 (`n-`) only sound like that. A large language model (Claude) wrote them for this project.
    None is near a prompt of `check` or `release`.
    """
    return _path_of("written.jsonl")


def conversations_file() -> Path:
    """What four people say in ten turns each; `bench --suite chat` replays it."""
    return _path_of("conversations.jsonl")


def check_prompts() -> Path:
    """The prompts of `check`: 20 conversations for each of 32 emotions, 128 of them with several turns."""
    return _path_of("check_prompts.jsonl")


def certification_pairs() -> Path:
    """Pairs of replies of models and their quantized forms, each read blind three times."""
    return _path_of("certification.jsonl")


def judges_file() -> Path:
    """The certificates of judges that were measured on these pairs, by the judge's identity."""
    return _path_of("judges.json")


def safety_file() -> Path:
    """98 dialogues with safe responses: to people in danger, to delusions, to requests for harm or praise.

    Some only sound dangerous. None is one of the safety check's prompts (prompts/safety.yaml).
    """
    return _path_of("safety.jsonl")


def _path_of(name: str) -> Path:
    return Path(str(resources.files("empathy_edge.data") / name))
