"""`check`: did artifacts keep the empathy of their full-precision model?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from empathy_edge.api.calls import AnyPath, Device, called, listed, model_of, path_of
from empathy_edge.api.shown import Shown, Table

if TYPE_CHECKING:
    from empathy_edge.bench.check.baseline.record import Baseline
    from empathy_edge.bench.check.report import CheckedArtifact, CheckReport
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.runs.settings import CheckSettings, ReplySettings


@dataclass(frozen=True, repr=False)
class CheckResult(Shown):
    """The verdicts of `check`, in the order of the artifacts.

    Attributes:
        report: all of the check: conditions, judge, controls; `check --json` writes the same.
    """

    report: CheckReport

    @property
    def artifacts(self) -> tuple[CheckedArtifact, ...]:
        """Of each artifact: `verdict` (PASS, FAIL or UNDECIDED), `sentence`, `win_rate_low` and
        `win_rate_high` (95 %), `decided_by`, `to_decide` and more."""
        return self.report.artifacts

    @property
    def ok(self) -> bool:
        """Whether every artifact has the verdict PASS."""
        return all(item.verdict == "PASS" for item in self.artifacts)

    def __iter__(self) -> Iterator[CheckedArtifact]:
        return iter(self.artifacts)

    def __len__(self) -> int:
        return len(self.artifacts)

    def _table(self) -> Table:
        from empathy_edge.bench.check.output import sentences

        rows = []
        for item in self.artifacts:
            interval = f"{item.win_rate_low:.1%} to {item.win_rate_high:.1%}"
            rows.append([item.artifact, item.verdict, interval, item.decided_by or "–"])
        title = f"Against {self.report.reference}, {self.report.prompts} prompts"
        return Table(title, ("artifact", "verdict", "win rate", "decided by"), rows, sentences(self.report))


def check(  # noqa: PLR0913 - as the command
    artifacts: AnyPath | Iterable[AnyPath],
    *,
    reference: AnyPath | None = None,
    baseline: AnyPath | None = None,
    prompts: AnyPath | None = None,
    columns: Mapping[str, str] | None = None,
    judge: str | None = None,
    replies: ReplySettings | None = None,
    settings: CheckSettings | None = None,
    api: ApiSettings | None = None,
    allow_quantized_reference: bool = False,
    template: str | None = None,
    device: Device | None = None,
) -> CheckResult:
    """Did artifacts keep the empathy of their full-precision model?

    FAIL and UNDECIDED are results, not errors. What is estimated and how: docs/gate.md.

    Args:
        artifacts: one or several: what `export` returned, artifact folders, .gguf or .litertlm files.
        reference: the full-precision model: a folder, a GGUF in F16, BF16 or F32, or a hub id.
        baseline: instead of a reference: the file that `empathy-edge baseline` wrote of it.
        prompts: your own prompts, with a reference; by default 640 shipped ones.
        columns: field → its column, where the prompts call a field otherwise.
        judge: who rates replies: likelihood:MODEL, openai:MODEL, local:MODEL or sheet:FILE.csv; by default
            the likelihood of the shipped model, or the baseline's judge.
        replies: how replies are made, with a reference; by default the defaults.
        settings: the bound, and whether the app decodes greedily; by default the defaults.
        api: endpoint and limits of a judge behind an API.
        allow_quantized_reference: compare with a model whose own weights are quantized.
        template: another chat template than the models' own, of reference and artifacts: a name or a file.
        device: where torch computes; by default what it finds.

    Raises:
        EmpathyEdgeError: an artifact is not there, the reference is quantized, or the judge cannot start.
        PrerequisiteError: a package or an API key is missing.
    """
    from empathy_edge.bench.check.baseline.record import read_baseline
    from empathy_edge.bench.check.beforehand import say_what_can_pass
    from empathy_edge.bench.check.run import check as run
    from empathy_edge.bench.check.run import require_ready
    from empathy_edge.data import DEFAULT_JUDGE
    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.models.templates import names_with_template
    from empathy_edge.runs.settings import CheckSettings, ReplySettings

    if (reference is None) == (baseline is None):
        raise EmpathyEdgeError("check: give either reference or baseline.")
    names = [model_of(item) for item in listed(artifacts)]
    limits = api or ApiSettings()
    with called(device):
        require_ready(names)
        if baseline is not None:
            _refuse_beside_a_baseline(prompts=prompts, columns=columns, replies=replies)
            opened = names_with_template(names, template)
            known = read_baseline(path_of(baseline))
            say_what_can_pass(len(known.prompts), known.judge.name, known.judge.doubts)
        else:
            assert reference is not None
            judge = judge or DEFAULT_JUDGE
            full, *opened = names_with_template([model_of(reference), *names], template)
            known = made_baseline(
                full,
                None if prompts is None else path_of(prompts),
                columns or {},
                judge,
                allow_quantized_reference,
                replies or ReplySettings(),
                limits,
            )
        return CheckResult(run(opened, known, settings or CheckSettings(), judge, limits))


def _refuse_beside_a_baseline(**arguments: object) -> None:
    from empathy_edge.errors import EmpathyEdgeError

    for name, value in arguments.items():
        if value is not None:
            raise EmpathyEdgeError(
                f"check: `{name}` is set by the baseline; leave it out, or make another baseline."
            )


def made_baseline(  # noqa: PLR0913 - what a baseline depends on
    model: str,
    prompts: Path | None,
    columns: Mapping[str, str],
    judge: str,
    allow_quantized: bool,
    settings: ReplySettings,
    api: ApiSettings,
    *,
    command: str = "",
) -> Baseline:
    """The baseline of a full-precision model; `empathy-edge baseline` makes it by this, too.

    `command` is named where its --max-prompts would shorten the work.
    """
    from empathy_edge.bench.check.certificate import open_judge
    from empathy_edge.bench.check.make import make_baseline
    from empathy_edge.bench.check.prompts import read_prompts
    from empathy_edge.export.artifacts import reference_gguf
    from empathy_edge.export.gguf.quantize import write_q2_k
    from empathy_edge.runs.given_data import data_file

    file = None if prompts is None else data_file(prompts, dict(columns))
    read = read_prompts(file, settings.max_prompts, settings.seed)
    rater = open_judge(judge, api)
    try:
        return make_baseline(
            model,
            read,
            rater,
            settings,
            allow_quantized=allow_quantized,
            as_gguf=reference_gguf,
            write_q2_k=write_q2_k,
            command=command,
        )
    finally:
        rater.close()
