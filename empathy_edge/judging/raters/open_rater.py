"""Open a judge by its name; each kind is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.raters.likelihood_rater import LIKELIHOOD, LikelihoodRater
from empathy_edge.judging.raters.rater import Rater, ToRate
from empathy_edge.llm.api_settings import ApiSettings


def open_rater(
    spec: str,
    api: ApiSettings,
    run: str,
    certificate: Sequence[ToRate] = (),
    *,
    leave_out: bool = False,
) -> Rater:
    """A judge from its name.

    Args:
        spec: likelihood:MODEL, openai:MODEL, local:MODEL, trained:FOLDER or sheet:FILE.csv.
        api: endpoint and limits, for openai:MODEL.
        run: what the calls are for, as the ledger names it.
        certificate: what people rate for a certificate, beside all other replies.
        leave_out: whether a conversation whose ratings a large model withholds may be left without any.

    Raises:
        EmpathyEdgeError: there is no such judge.
    """
    kind, _, name = spec.partition(":")
    if kind == "likelihood" and name:
        return LikelihoodRater(name)
    if kind == "trained" and name:
        from empathy_edge.judging.raters.trained_rater import TrainedRater

        return TrainedRater(spec, Path(name))
    if kind in ("openai", "local") and name:
        from empathy_edge.judging.raters.model_rater import ModelRater

        return ModelRater(spec, api, run, leave_out=leave_out)
    if kind == "sheet" and name:
        from empathy_edge.judging.raters.sheet_rater import SheetRater

        return SheetRater(Path(name), certificate)
    raise EmpathyEdgeError(
        f"{spec}: no such judge. Give openai:MODEL, local:MODEL, sheet:FILE.csv, trained:FOLDER or "
        f"{LIKELIHOOD}MODEL, as {LIKELIHOOD}smollm2-135m."
    )
