"""Test a judge on pairs of responses that people rated, and write its certificate.

What a certificate says and when a judge passes is in `certificate`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.judging import self_preference as own_family
from empathy_edge.judging.certificate import (
    FILE,
    MIN_PAIRS,
    THRESHOLDS,
    Certificate,
    JudgeErrors,
    QuestionCertificate,
    doubts,
)
from empathy_edge.judging.compare import ask, make_folder
from empathy_edge.judging.comparison_figures import ComparisonFigures, PromptVerdicts, comparison_figures
from empathy_edge.judging.experts import DIMENSIONS, experts_agreement, pairs_of, read_experts
from empathy_edge.judging.judge_settings import CertifySettings
from empathy_edge.judging.length_adjusted import ShareInterval
from empathy_edge.judging.pairwise_judges import Judge, Spent
from empathy_edge.judging.response_pairs import ResponsePairs
from empathy_edge.judging.self_preference import SelfPreference, family_of, self_preference
from empathy_edge.system.files import sha256_json, write_json
from empathy_edge.system.hash_cache import sha256_file


def certify(judge: Judge, data: Path, settings: CertifySettings, out: Path) -> Certificate:
    """Test a judge on dialogues with rated responses; writes `certificate.json` and every verdict into `out`.

    Args:
        judge: who is tested; dialogues that it was trained on are left out.
        data: the paper's CSV, or our JSONL; of each dialogue one pair is drawn, rated 3 and 1. The ratings
            are of empathy as a whole, whatever the question.
        settings: what is asked, and how many pairs are drawn.
        out: the folder; verdicts that are there already are not asked for again.
    """
    dialogues = [item for item in read_dialogues(data) if not judge.has_seen(item.id)]
    pairs = _draw_pairs(dialogues, settings)
    if judge.dialogue_ids is not None:
        pairs = pairs.only(judge.dialogue_ids)
    if len(pairs) < MIN_PAIRS:
        raise EmpathyEdgeError(
            f"{data}: {len(pairs)} dialogues that the judge has not seen have a response rated 3 and one "
            f"rated 1; needed: {MIN_PAIRS}. A scorer is tested on data that it was not trained on."
        )
    make_folder(out)
    family = family_of(judge.identity())
    found: dict[str, QuestionCertificate] = {}
    for question in settings.questions:
        tested = _ask_timed(judge, question, pairs, out)
        own = self_preference(tested.rows, pairs, family)
        found[question] = _question_certificate(tested, own=own, longer_is_better=_longer_is_better(pairs))
    return _write(judge, _data_record(data, sha256_file(data)), pairs, settings, found, out)


def certify_beside_experts(judge: Judge, folder: Path, settings: CertifySettings, out: Path) -> Certificate:
    """Test a judge on exchanges that experts rated; their own agreement is in the certificate too.

    Args:
        judge: who is tested.
        folder: the experts' annotations (`experts.read_experts`).
        settings: what is asked; only questions that the experts rated.
        out: as for `certify`.

    Raises:
        EmpathyEdgeError: a question that the experts were not asked, or too few pairs whose ratings differ.
    """
    exchanges = read_experts(folder)
    unknown = [question for question in settings.questions if question not in DIMENSIONS]
    if unknown:
        raise EmpathyEdgeError(
            f"the experts were asked about {', '.join(DIMENSIONS)}, not about {', '.join(unknown)}."
        )
    make_folder(out)
    found: dict[str, QuestionCertificate] = {}
    for question in settings.questions:
        pairs = pairs_of(exchanges, question, settings.max_pairs, settings.seed)
        if judge.dialogue_ids is not None:
            pairs = pairs.only(judge.dialogue_ids)
        replies = {reply for name in (pairs.members or {}) for reply in (pairs.members or {})[name]}
        if len(pairs) < MIN_PAIRS or len(replies) < MIN_PAIRS:
            raise EmpathyEdgeError(
                f"{folder}: {len(pairs)} pairs of {len(replies)} replies that the experts rated differently "
                f"on {question} and that the judge can judge; needed: {MIN_PAIRS} of each."
            )
        tested = _ask_timed(judge, question, pairs, out)
        # The texts quote what was said, so their length is not a reply's.
        no_length: ShareInterval = {**tested.figures["longer_wins"], "share": None}
        tested = replace(tested, figures={**tested.figures, "longer_wins": no_length})
        found[question] = _question_certificate(tested, experts=experts_agreement(exchanges, question))
    digest = sha256_json([[item.id, item.said, item.reply, item.levels] for item in exchanges])
    return _write(judge, _data_record(folder, digest), pairs, settings, found, out)


def pairs_for_sheet(data: Path | None, experts: Path | None, settings: CertifySettings) -> ResponsePairs:
    """For a rating sheet: the pairs that `certify` or `certify_beside_experts` asks (first question)."""
    if experts is not None:
        return pairs_of(read_experts(experts), settings.questions[0], settings.max_pairs, settings.seed)
    if data is None:
        raise EmpathyEdgeError("Give rated data, or experts' annotations.")
    return _draw_pairs(read_dialogues(data), settings)


def _draw_pairs(dialogues: list[Dialogue], settings: CertifySettings) -> ResponsePairs:
    """By dialogue a response rated 3 (first) and one rated 1 (second), each with its source."""
    generator = random.Random(settings.seed)
    better: dict[str, dict[str, Any]] = {}
    worse: dict[str, dict[str, Any]] = {}
    for item in generator.sample(dialogues, len(dialogues)):
        good = [response for response in item.responses if response.rating == 3]
        bad = [response for response in item.responses if response.rating == 1]
        if good and bad and len(better) < settings.max_pairs:
            chosen, rejected = generator.choice(good), generator.choice(bad)
            better[item.id] = {"text": chosen.text, "source": chosen.source}
            worse[item.id] = {"text": rejected.text, "source": rejected.source}
    return ResponsePairs([item for item in dialogues if item.id in better], better, worse)


@dataclass(frozen=True)
class _Tested:
    """A judge's verdicts on one question, their figures, and what they took."""

    rows: list[PromptVerdicts]
    figures: ComparisonFigures
    seconds_per_verdict: float | None
    usd_per_1000_calls: float | None


def _ask_timed(judge: Judge, question: str, pairs: ResponsePairs, out: Path) -> _Tested:
    start, before = time.perf_counter(), judge.spent()
    rows, asked = ask(judge, question, pairs, out)
    seconds, after = time.perf_counter() - start, judge.spent()
    return _Tested(
        rows,
        comparison_figures(rows, pairs),
        round(seconds / asked, 3) if asked else None,
        _usd_per_1000_calls(before, after),
    )


def _usd_per_1000_calls(before: Spent, after: Spent) -> float | None:
    """None where no call was made, or the model's price is not known."""
    calls = after.calls - before.calls
    if before.usd is None or after.usd is None or calls <= 0:
        return None
    return round(1000 * (after.usd - before.usd) / calls, 4)


def _question_certificate(
    tested: _Tested,
    *,
    own: SelfPreference | None = None,
    experts: dict[str, float] | None = None,
    longer_is_better: float | None = None,
) -> QuestionCertificate:
    """The certificate of one question, with the judge's self-preference or the experts' agreement."""
    reasons = doubts(_errors(tested.figures, own, longer_is_better))
    found: QuestionCertificate = {
        **tested.figures,
        "seconds_per_verdict": tested.seconds_per_verdict,
        "usd_per_1000_calls": tested.usd_per_1000_calls,
        "self_preference": own or {},
        "experts_own": experts or {},
        "doubts": reasons,
        "certified": not reasons,
    }
    if own is None:
        del found["self_preference"]
    if experts is None:
        del found["experts_own"]
    return found


def _errors(
    figures: ComparisonFigures, own: SelfPreference | None, longer_is_better: float | None
) -> JudgeErrors:
    return JudgeErrors(
        agreement_low=figures["win_rate"]["low"],
        order_flips=figures["order_flips"],
        first_position_wins=figures["first_position_wins"]["share"],
        longer_wins=figures["longer_wins"]["share"],
        longer_is_better=longer_is_better,
        unparsed=figures["unparsed"],
        self_preference=own,
    )


def _data_record(path: Path, digest: str) -> dict[str, str]:
    return {"file": path.name, "sha256": digest}


def _write(
    judge: Judge,
    data: dict[str, str],
    pairs: ResponsePairs,
    settings: CertifySettings,
    questions: dict[str, QuestionCertificate],
    out: Path,
) -> Certificate:
    """Write and show the certificate; `pairs` are those of the last question."""
    certificate: Certificate = {
        "judge": judge.identity(),
        "data": data,
        "pairs": len(pairs),
        "seed": settings.seed,
        "thresholds": THRESHOLDS,
        "longer_is_better_by_people": _longer_is_better(pairs),
        "questions": questions,
    }
    write_json(out / FILE, certificate)
    show(certificate)
    return certificate


def _longer_is_better(pairs: ResponsePairs) -> float:
    """How often the response that people rated better is the longer one, of pairs of two lengths."""
    leads = pairs.words_ahead()
    longer, different = int((leads > 0).sum()), int((leads != 0).sum())
    return round(longer / max(1, different), 4)


COLUMNS = (
    "question",
    "agrees with people",
    "flips",
    "shown first wins",
    "longer wins",
    "unparsed",
    "s/verdict",
    "USD/1000 calls",
    "certified",
)


def show(certificate: Certificate) -> None:
    """Print a certificate."""
    rows = [_table_row(question, item) for question, item in certificate["questions"].items()]
    stdout.print(table(f"{certificate['judge']}, {certificate['pairs']} pairs", COLUMNS, rows))
    for question, item in certificate["questions"].items():
        if experts := item.get("experts_own"):
            words = ", ".join(f"{name} {share:.0%}" for name, share in experts.items())
            tell(f"  {question}: each expert agrees with the others' mean in: {words}.")
        if own := item.get("self_preference"):
            tell(f"  {question}, self-preference: {own_family.describe(own)}.")
        for doubt in item["doubts"]:
            tell(f"  {question}: {doubt}.")
    longer = certificate["longer_is_better_by_people"]
    tell(f"  By people the longer one was better in {longer:.0%} of these pairs.")


def _table_row(question: str, item: QuestionCertificate) -> list[str]:
    rate = item["win_rate"]
    return [
        question,
        f"{rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]",
        _percent(item["order_flips"]),
        _percent(item["first_position_wins"]["share"]),
        _percent(item["longer_wins"]["share"]),
        _percent(item["unparsed"]),
        _two_decimals(item["seconds_per_verdict"]),
        _two_decimals(item["usd_per_1000_calls"]),
        "yes" if item["certified"] else "no",
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _two_decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
