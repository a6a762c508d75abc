"""Which parameters of `chat/completions` a model takes. What it refuses with HTTP 400 is learned and kept.

Models that reason refuse `temperature` and `seed`, and want `max_completion_tokens` for `max_tokens`; older
servers know no structured output.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from empathy_edge.llm.ledger import KnownEndpoint, Ledger
from empathy_edge.llm.records import Request

REASONING_TOKENS = 4096
"""What a model that reasons may use beyond the answer itself, per call."""

CAN_BE_LEFT_OUT = ("max_completion_tokens", "max_tokens", "temperature", "seed", "response_format")
"""Parameters without which a request still makes sense; where a message names several, the first counts."""

REFUSAL = re.compile(
    r"unsupported|not support|unrecogni|unknown|not known|not allowed|not permitted|extra", re.I
)
"""What a message says of a parameter that a model does not take; "max_tokens is too large" is no refusal."""

FOR_MANY_SERVERS, FOR_REASONING = "max_tokens", "max_completion_tokens"


class ChatParameters:
    """The parameters for one model of one endpoint; the ledger remembers what was refused."""

    def __init__(self, ledger: Ledger, endpoint: str, model: str) -> None:
        self.model = model
        self._ledger, self._endpoint = ledger, endpoint
        self.known = ledger.endpoint(endpoint, model)
        if not self.known.was_asked and ledger.has_answers_of(model):  # older versions kept less
            self.known = KnownEndpoint()

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens a call may use beyond the request's `max_tokens`."""
        return REASONING_TOKENS if FOR_MANY_SERVERS in self.known.refused else 0

    def body(self, request: Request, known: KnownEndpoint | None = None) -> dict[str, Any]:
        """The parameters of a request, without what the model refuses (as of `known`, if that is given)."""
        refused = (known or self.known).refused
        limit = FOR_REASONING if FOR_MANY_SERVERS in refused else FOR_MANY_SERVERS
        parameters: dict[str, Any] = {
            "temperature": request.temperature,
            "seed": request.sample,
            limit: request.max_tokens + self.reasoning_tokens,
            **request.structured_output,
        }
        return {name: value for name, value in parameters.items() if name not in refused}

    def learn(self, error: Mapping[str, object], sent: Mapping[str, object]) -> str | None:
        """Learn from the error of HTTP 400 which parameter is refused.

        Args:
            error: the error's `message`, and `param` where the endpoint names it.
            sent: the parameters that were sent; only one of these can be refused.

        Returns:
            The parameter's name; None if the error is about something else.
        """
        refused = self._refused_in(error, sent)
        if refused is not None:
            self._remember(KnownEndpoint(self.known.reported, self.known.refused | {refused}))
        return refused

    def is_known_refusal(self, error: Mapping[str, object]) -> bool:
        """Whether the error of HTTP 400 is about a parameter of which it is known that it is refused."""
        return self._refused_in(error, self.known.refused) is not None

    def remember_reported(self, reported: str) -> None:
        """Keep how the endpoint describes the model; an empty text where it was asked and does not say."""
        if reported != self.known.reported or not self.known.was_asked:
            self._remember(KnownEndpoint(reported or self.known.reported, self.known.refused))

    def _refused_in(self, error: Mapping[str, object], sent: Collection[str]) -> str | None:
        parameter, message = str(error.get("param") or ""), str(error.get("message") or "")
        if not REFUSAL.search(message):
            return None
        candidates = [name for name in CAN_BE_LEFT_OUT if name in sent]
        if parameter:
            return next((name for name in candidates if parameter.split(".")[0] == name), None)
        named = [name for name in candidates if re.search(rf"\b{name}\b", message)]
        return named[0] if named else None

    def _remember(self, known: KnownEndpoint) -> None:
        self.known = known
        self._ledger.record_endpoint(self._endpoint, self.model, known)
