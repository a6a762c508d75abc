"""A baseline: what the reference replied, and how likely it was, in one file for `check`."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from empathy_edge.errors import EmpathyEdgeError, no_such_file
from empathy_edge.runs.settings import ReplySettings
from empathy_edge.system.files import sha256_json, write_atomically

FORMAT: Literal["empathy-edge baseline 1"] = "empathy-edge baseline 1"
MOST_BYTES = 64_000_000
"""Of an unpacked baseline; a larger file is refused before it is read into memory."""


OPTIONAL = ("q2_k_text", "q2_k_rating")
"""Fields of a prompt that earlier versions do not know; they are written only where there is something."""

TokenId = Annotated[int, Field(ge=0)]
Agreement = Annotated[float, Field(ge=0, le=1)]
LogProb = Annotated[FiniteFloat, Field(le=1e-3)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReferenceReply(_Record):
    """A reply of the reference.

    Attributes:
        token_ids: with the stop token, where the model ended its turn by itself.
        log_probs: of each token given those before it, nats, at the baseline's temperature; a greedy
            reply's at temperature 1.
        text: without the stop token.
        stopped: False where it was cut off at `max_new_tokens`.
        rating: the judge's; larger is better. 0 where the judge is not certified: then it is not asked.
    """

    token_ids: tuple[TokenId, ...] = Field(min_length=1)
    log_probs: tuple[LogProb, ...] = Field(min_length=1)
    text: str
    stopped: bool
    rating: FiniteFloat

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.token_ids) != len(self.log_probs):
            raise ValueError("a reply has not one log-probability for each token")
        return self


class PromptRecord(_Record):
    """A prompt and the reference's replies to it.

    Attributes:
        id: the prompt's.
        messages: of the conversation, the system prompt included.
        token_ids: of the rendered prompt.
        replies: drawn independently of each other.
        greedy: a reply of the likeliest token each time.
        misplaced_text: a reply of the reference to another prompt.
        misplaced_rating: the judge's rating of it as an answer to this prompt: the control of mild damage.
        q2_k_text: a reply of the reference's own Q2_K form; None where none was drawn.
        q2_k_rating: the judge's rating of it; None where there is none.
    """

    id: str
    messages: tuple[dict[str, str], ...] = Field(min_length=1)
    token_ids: tuple[TokenId, ...] = Field(min_length=1)
    replies: tuple[ReferenceReply, ...] = Field(min_length=2)
    greedy: ReferenceReply
    misplaced_text: str
    misplaced_rating: FiniteFloat
    q2_k_text: str | None = None
    q2_k_rating: FiniteFloat | None = None

    @model_validator(mode="after")
    def _roles_and_contents(self) -> Self:
        if any(set(message) != {"role", "content"} for message in self.messages):
            raise ValueError("a message has not just a role and a content")
        return self


class ReferenceRecord(_Record):
    """The model that the baseline is of.

    Attributes:
        name: as the user gave it.
        identity: the hash of all its files.
        quantized: whether its own weights are quantized ones; then the verdict says so.
        stop_ids: the tokens at which a reply ends.
        golden_ids: the token ids of a fixed conversation with accents, emoji and several turns.
    """

    name: str
    identity: str
    quantized: bool
    stop_ids: tuple[int, ...]
    golden_ids: tuple[int, ...]


class JudgeRecord(_Record):
    """The judge that rated the replies.

    Attributes:
        name: as the user would give it.
        identity: the hash of all that decides its ratings.
        agreement: the share of unequal pairs on which it agrees with blind readers; None: not measured.
        agreement_low: its one-sided 99 % lower bound, by prompts.
        agreement_high: its one-sided 99 % upper bound.
        pairs: how many unequal pairs that is of.
        doubts: why it is not certified; none where it is.
    """

    name: str
    identity: str
    agreement: float | None
    agreement_low: Agreement
    agreement_high: Agreement
    pairs: int
    doubts: tuple[str, ...]

    @property
    def certified(self) -> bool:
        """Whether its ratings may decide."""
        return not self.doubts


class Baseline(_Record):
    """The content of a baseline file, which is gzipped JSON.

    Attributes:
        format: the layout and its version.
        version: of empathy-edge.
        settings: how the replies were made.
        reference: the model.
        judge: who rated the replies.
        prompts_sha256: of the prompts, in their order.
        prompts: in the order in which a check uses them.
    """

    format: Literal["empathy-edge baseline 1"]
    version: str
    settings: ReplySettings
    reference: ReferenceRecord
    judge: JudgeRecord
    prompts_sha256: str
    prompts: tuple[PromptRecord, ...] = Field(min_length=1)


def write_baseline(file: Path, baseline: Baseline) -> None:
    """Write it with a hash of its content; the file is replaced as a whole."""
    content = baseline.model_dump(mode="json")
    for prompt in content["prompts"]:
        for name in OPTIONAL:
            if prompt[name] is None:  # so that earlier versions read it
                del prompt[name]
    document = {"sha256": sha256_json(content), "baseline": content}
    text = json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8")
    if len(text) > MOST_BYTES:
        raise EmpathyEdgeError(
            f"{file}: the baseline would have {len(text) / 1e6:.0f} MB unpacked, more than "
            f"{MOST_BYTES / 1e6:.0f}. Use fewer prompts, samples or tokens."
        )
    write_atomically(file, gzip.compress(text, mtime=0))


def read_baseline(file: Path) -> Baseline:
    """Read and check a baseline.

    Raises:
        EmpathyEdgeError: it is no baseline, of another version, damaged or changed by hand.
    """
    document = _unpacked(file)
    if not isinstance(document, dict) or not isinstance(document.get("baseline"), dict):
        raise EmpathyEdgeError(f"{file}: is no baseline of `empathy-edge baseline`.")
    content = document["baseline"]
    if content.get("format") != FORMAT:
        raise EmpathyEdgeError(
            f"{file}: has the format {content.get('format')!r}, and this version reads {FORMAT!r}. "
            "Make it again with `empathy-edge baseline`."
        )
    if not _hash_fits(content, document.get("sha256")):
        raise EmpathyEdgeError(
            f"{file}: was changed after it was written (its hash does not fit). "
            "Make it again with `empathy-edge baseline`."
        )
    try:
        return Baseline.model_validate(content)
    except ValidationError as error:
        raise EmpathyEdgeError(f"{file}: {str(error).splitlines()[0]}. Make it again.") from None


def _hash_fits(content: object, sha256: object) -> bool:
    try:
        return sha256_json(content) == sha256
    except (ValueError, RecursionError):  # text that no encoding has
        return False


def _unpacked(file: Path) -> object:
    if not file.is_file():
        raise no_such_file(file, f"Make it: empathy-edge baseline MODEL --out {file}")
    try:
        with gzip.open(file) as handle:
            text = handle.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise EmpathyEdgeError(f"{file}: holds more than {MOST_BYTES // 10**6} MB; it is no baseline.")
        return json.loads(text)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise EmpathyEdgeError(f"{file}: cannot be read as a baseline ({error}).") from None
