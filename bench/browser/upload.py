"""What a phone sends, and its checks: whoever has the address can send anything."""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from empathy_edge.bench.browser.plan import REPLY_TOKENS, PhonePlan
from empathy_edge.bench.phones.phone_results import MAX_TPS

BYTES_BESIDE_TIMES = 262_144
BYTES_OF_TIME = 16
"""One time in the JSON, as `86400.123456,`: the page rounds them to microseconds."""
MAX_S = 86_400
NEAR_TIE_NATS = 0.5
"""Where two tokens are nearer than this on the host, the phone's arithmetic may take the other one.

At four bits the choices of other processors part at 0.02 to 0.18 nats (docs/results/predictions.md).
"""
CLOCK_SLACK_S = 2.0
"""How much longer a phone may say that it measured than passed here: clocks and networks differ."""


class Refused(Exception):
    """A result that cannot be: the message says why, without repeating what was sent."""


def _one_line(text: str) -> str:
    """Text without control characters: it is printed on a terminal."""
    return "".join(mark if unicodedata.category(mark)[0] != "C" else " " for mark in text).strip()


Line = Annotated[str, AfterValidator(_one_line)]
Seconds = Annotated[float, Field(ge=0, le=MAX_S, allow_inf_nan=False)]


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PhoneDevice(_Sent):
    """What the browser tells of its phone; `memory_gb` is rounded by the browser, and not told by all.

    Attributes:
        name: as the person calls it; may be empty.
        user_agent: the browser's own description.
        cores: logical ones.
        memory_gb: GiB.
        isolated: whether the page may use threads.
        simd: whether the processor's vector instructions can be used.
        wake_lock: whether the screen was kept on.
    """

    name: Line = Field(max_length=60)
    user_agent: Line = Field(max_length=400)
    cores: int = Field(ge=1, le=1024)
    memory_gb: float | None = Field(default=None, gt=0, le=4096, allow_inf_nan=False)
    isolated: bool
    simd: bool
    wake_lock: bool


class PhoneLoad(_Sent):
    """How the model came: bytes fetched (0: it was in the browser's cache), and seconds."""

    fetched_bytes: int = Field(ge=0, le=2**40)
    fetch_s: Seconds
    load_s: Seconds


class PhoneAnswer(_Sent):
    """One comparison: the prompt's tokens as the phone made them, and its likeliest next tokens."""

    prompt_ids: list[int] = Field(max_length=8192)
    reply_ids: list[int] = Field(max_length=64)


class PhoneSample(_Sent):
    """One round of the bench: seconds from the call to each new token."""

    token_times_s: list[Seconds] = Field(min_length=2, max_length=1024)


class PhoneWindow(_Sent):
    """Tokens in about ten seconds of decoding without a pause, and when they ended.

    On a slow phone it is as long as `--decode-tokens` take.
    """

    end_s: Seconds
    seconds: float = Field(gt=0, le=MAX_S, allow_inf_nan=False)
    tokens: int = Field(ge=0, le=1_000_000)


class PhoneUpload(_Sent):
    """The whole JSON of one result.

    Attributes:
        run: given out by the server when the bench began.
        plan: the hash of the plan that the page followed.
        device: what it ran on.
        load: how the model came.
        threads: of the phone's CPU.
        answers: one for each comparison of the plan.
        samples: one for each round.
        windows: of the test of heat; empty where it was not run.
        hidden: how often the page was hidden while it measured; those rounds were repeated.
    """

    run: str = Field(max_length=64)
    plan: str = Field(max_length=64)
    device: PhoneDevice
    load: PhoneLoad
    threads: int = Field(ge=1, le=64)
    answers: list[PhoneAnswer] = Field(max_length=16)
    samples: list[PhoneSample] = Field(max_length=64)
    windows: list[PhoneWindow] = Field(max_length=400)
    hidden: int = Field(ge=0, le=10_000)


def max_upload_bytes(plan: PhonePlan) -> int:
    """How large a result may be: as large as one of this plan can become."""
    return BYTES_BESIDE_TIMES + BYTES_OF_TIME * plan.rounds * plan.decode_tokens


def parse_upload(body: bytes) -> PhoneUpload:
    """Read what was sent.

    Raises:
        Refused: it is no JSON, or a field is missing, unknown or out of its range.
    """
    try:
        return PhoneUpload.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])[:80]
        raise Refused(f"{_one_line(place) or 'the JSON'}: {fault['type']}") from None


def check_upload(upload: PhoneUpload, plan: PhonePlan, elapsed_s: float) -> None:
    """Refuse figures that cannot be.

    Args:
        upload: as the phone sent it.
        plan: what it should have followed.
        elapsed_s: how long the phone had for it, by this machine's clock.

    Raises:
        Refused: another plan, missing rounds, times that run backwards, speeds that no phone has, or more
            time measured than passed.
    """
    if upload.plan != plan.sha256:
        raise Refused("it belongs to another model or other settings; load the page again")
    if len(upload.answers) != len(plan.comparisons) or len(upload.samples) != plan.rounds:
        raise Refused("it has not as many answers and rounds as were asked for")
    if any(len(answer.reply_ids) != REPLY_TOKENS for answer in upload.answers):
        raise Refused("an answer has not as many tokens as were asked for")
    for sample in upload.samples:
        _check_times(sample.token_times_s, plan)
    for window in upload.windows:
        if window.tokens / window.seconds > MAX_TPS:
            raise Refused("no phone is that fast")
    if claimed_s(upload) > elapsed_s + CLOCK_SLACK_S:
        raise Refused("it tells of more time than has passed")


def _check_times(times_s: list[float], plan: PhonePlan) -> None:
    if len(times_s) != plan.decode_tokens:
        raise Refused("a round has not as many tokens as were asked for")
    if times_s[0] <= 0 or any(later < earlier for earlier, later in pairwise(times_s)):
        raise Refused("times run backwards")
    if times_s[-1] == times_s[0] or (len(times_s) - 1) / (times_s[-1] - times_s[0]) > MAX_TPS:
        raise Refused("no phone is that fast")
    if len(plan.bench_ids) / times_s[0] > MAX_TPS:
        raise Refused("no phone is that fast")


def claimed_s(upload: PhoneUpload) -> float:
    """The seconds that the phone says it measured."""
    windows_s = sum(window.seconds for window in upload.windows)
    return windows_s + sum(sample.token_times_s[-1] for sample in upload.samples)


def largest_parting_gap(upload: PhoneUpload, plan: PhonePlan) -> float | None:
    """Where a reply first has another token than the host's: how much likelier the host's was, nats.

    Of all replies the largest; None where all tokens are the same; infinity where a prompt's tokens differ.
    """
    gaps = []
    for answer, expected in zip(upload.answers, plan.comparisons, strict=True):
        if answer.prompt_ids != expected.prompt_ids:
            return math.inf
        pairs = zip(answer.reply_ids, expected.reply_ids, strict=True)
        parted = next((place for place, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
        if parted is not None:
            gaps.append(expected.gaps[parted])
    return max(gaps, default=None)


def tokens_agree(gap: float | None) -> Literal["same", "near tie", "differ"]:
    """In words; a near tie: every reply parts where the second choice was within NEAR_TIE_NATS."""
    if gap is None:
        return "same"
    return "near tie" if gap <= NEAR_TIE_NATS else "differ"
