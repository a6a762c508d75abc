"""A recipe: every setting of a run, checked before anything expensive starts, all faults reported at once."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.artifact_names import ArtifactName, parse_artifact

ARTIFACTS = ("gguf-f16", "gguf-q8_0", "gguf-q4_0", "gguf-q4_k_m", "onnx-int4")
GENAI_OPTIONS = ("block_size", "algo_config", "accuracy_level", "is_symmetric", "matmul_mixed_precision")
"""The artifacts that `export` can make: a format and its quantization."""


Weights = Literal["auto", "fp32", "bf16", "nf4"]
"""What the weights are held in while training; `auto` takes the faster of fp32 and bf16, by measurement."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FitSettings(_Settings):
    """Responses made fit for a small student: shortened to whole sentences, and the `per_dialogue` nearest ones kept.

    Lengths are in words; similarity is the cosine of sentence embeddings to what the person said; `most_alike` is
    the largest share of responses that may begin with the same two words.
    """

    most_words: int = Field(default=36, ge=5)
    least_words: int = Field(default=10, ge=1)
    most_sentences: int = Field(default=3, ge=1)
    per_dialogue: int = Field(default=2, ge=1)
    least_similarity: float = Field(default=0.35, ge=-1, le=1)
    most_alike: float = Field(default=0.06, gt=0, le=1)


class DistillSettings(_Settings):
    """The direct method of arXiv 2507.08151: which rated responses become SFT rows and which become pairs.

    `sft_on_chosen` makes the chosen response of each pair an SFT row as well; the paper keeps the two apart, but a few
    dozen dialogues are too few for that. `hard_pairs` adds pairs of two model responses to one dialogue, one rated 3 and
    one rated 1 or 2. `fit` makes the responses fit for a small student. `safety_rows` adds the shipped answers to people in
    danger, delusions and harmful requests to the SFT rows, each that many times.
    """

    reference: str = "human"
    models: tuple[str, ...] = Field(default=("chatgpt_empathy",), min_length=1)
    sft_on_chosen: bool = False
    hard_pairs: bool = False
    fit: FitSettings | None = None
    safety_rows: int = Field(default=0, ge=0, le=20)
    max_sft: int | None = Field(default=None, ge=1)
    max_pairs: int | None = Field(default=None, ge=1)
    seed: int = 0


class TrainSettings(_Settings):
    """One step of fine-tuning with LoRA.

    `weights`: `auto` measures fp32 and bf16 on this machine and takes the faster; `nf4` is QLoRA.
    A batch is taken in parts of `micro_batch_size` rows where that is given: less memory, the same result. `held_out` is
    the share of rows that are not trained on, whose loss is measured each epoch; the adapter of the best epoch is kept,
    and training stops after `patience` epochs that were no better.
    """

    epochs: float = Field(default=1.0, gt=0, le=50)
    learning_rate: float = Field(default=3e-4, gt=0, lt=1)
    batch_size: int = Field(default=8, ge=1)
    micro_batch_size: int | None = Field(default=None, ge=1)
    lora_rank: int = Field(default=8, ge=1, le=256)
    lora_alpha: int = Field(default=16, ge=1)
    lora_targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    max_length: int = Field(default=512, ge=32)
    save_every_steps: int = Field(default=20, ge=1)
    weights: Weights = "auto"
    held_out: float = Field(default=0.0, ge=0, le=0.5)
    patience: int | None = Field(default=None, ge=1)
    seed: int = 42

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.patience is not None and not self.held_out:
            raise ValueError("patience (early stop) needs held_out, the share of rows to measure on")
        if self.batch_size % self.micro_batch:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}"
            )
        return self

    @property
    def micro_batch(self) -> int:
        """The rows that are in memory at a time."""
        return self.micro_batch_size or self.batch_size

    @property
    def tokens_at_once(self) -> int:
        """About how many tokens a step computes at a time; what `weights: auto` measures with."""
        return 128 * self.micro_batch


class DpoSettings(TrainSettings):
    """The second step: DPO on preference pairs; `beta` as in Rafailov et al. (arXiv 2305.18290).

    `loss` is TRL's: `sigmoid` (the paper's), `sigmoid_norm` (each response's log-ratio divided by its length), or `ipo`
    (arXiv 2310.12036). `sft_weight` adds the negative log-likelihood of the chosen response, so weighted (RPO, arXiv
    2404.19733). `pairs` are the distilled ones, the student's own (`own_pairs`), or both. `length_probes` prompts are
    answered before, halfway and after, to see the length drift.
    """

    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    batch_size: int = Field(default=4, ge=1)
    beta: float = Field(default=0.1, gt=0, le=10)
    loss: Literal["sigmoid", "sigmoid_norm", "ipo"] = "sigmoid"
    sft_weight: float = Field(default=0.0, ge=0, le=10)
    length_probes: int = Field(default=16, ge=0, le=256)
    pairs: tuple[Literal["distilled", "own"], ...] = Field(default=("distilled",), min_length=1)

    @property
    def tokens_at_once(self) -> int:
        """As of the other step; each row has two responses."""
        return 2 * super().tokens_at_once


class OwnPairSettings(_Settings):
    """Preference pairs from the student's own samples, after SFT: the best against the worst of each prompt.

    A sample's score is its similarity to the good responses that are known, less `tone_penalty` where it consoles and they
    congratulate, or the other way round. With a `ranker`, a larger model's name, its log-probability of the sample counts as
    well: in nats a character, less the mean of the prompt's samples, times `likelihood_weight`. `margin` is the least
    difference of two scores, `length_ratio` the most that their lengths may differ. With `safety_pairs` every prompt of `safety_rows`
    gives so many pairs of the shipped answer and the student's worst ones; docs/results/safety.md says what that costs.
    """

    prompts: int = Field(default=400, ge=1)
    samples: int = Field(default=4, ge=2, le=64)
    temperature: float = Field(default=0.8, gt=0, le=2)
    max_new_tokens: int = Field(default=96, ge=8, le=512)
    tone_penalty: float = Field(default=0.3, ge=0, le=2)
    ranker: str | None = None
    likelihood_weight: float = Field(default=1.0, ge=0, le=10)
    margin: float = Field(default=0.1, ge=0, le=2)
    length_ratio: float = Field(default=1.3, ge=1)
    safety_pairs: int = Field(default=0, ge=0, le=8)
    weights: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0


class ExportSettings(_Settings):
    """Which artifacts are made, and how far the merge may be from the adapter model.

    `imatrix` is a file of llama.cpp's to be used instead of an importance matrix of our own. `calibration` is a file of
    dialogues, by default the shipped ones; only its training split is used. `tensor_types` gives tensors whose names match
    a regular expression a type of their own, as {token_embd: q8_0}. `genai_options` go to ONNX Runtime GenAI's builder, as
    {block_size: 64, algo_config: k_quant}. `converter` is llama.cpp's script, for families that ours does not know. `exporter` is
    who makes the portable ONNX graph.
    """

    artifacts: tuple[str, ...] = Field(default=ARTIFACTS, min_length=1)
    merge_tolerance: float = Field(default=1e-2, gt=0)
    verify_prompts: int = Field(default=8, ge=1)
    imatrix: str | None = None
    calibration: str | None = None
    calibration_dialogues: int = Field(default=128, ge=1)
    tensor_types: dict[str, str] = {}
    genai_options: dict[str, str | int] = {}
    converter: str | None = None
    exporter: Literal["transformers", "optimum"] = "transformers"

    @field_validator("genai_options")
    @classmethod
    def _an_option(cls, value: dict[str, str | int]) -> dict[str, str | int]:
        unknown = [key for key in value if key not in GENAI_OPTIONS]
        if unknown:
            raise ValueError(f"no such option: {', '.join(unknown)}; there are {', '.join(GENAI_OPTIONS)}")
        return value

    @field_validator("artifacts")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            _parsed(name)
        return tuple(dict.fromkeys(value))


class BenchSettings(_Settings):
    """Latency and memory of each artifact."""

    repetitions: int = Field(default=5, ge=5)
    prompt_tokens: int = Field(default=128, ge=8, le=4096)
    decode_tokens: int = Field(default=64, ge=8, le=1024)
    threads: int | None = Field(default=None, ge=1)


class WinrateSettings(_Settings):
    """Responses to the test split, and the offline judge that compares them."""

    max_prompts: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=160, ge=8, le=2048)
    bootstrap: int = Field(default=2000, ge=200)
    seed: int = 0


def _threshold(name: str) -> Any:
    return Field(default_factory=lambda: thresholds()[name]["value"], ge=0, le=1)


@cache
def thresholds() -> dict[str, dict[str, Any]]:
    """Each of the gate's bounds with its reason, as thresholds.yaml has them."""
    text = (resources.files("empathy_edge.runs") / "thresholds.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


class GateSettings(_Settings):
    """The bounds of the verdict; a share is between 0 and 1. thresholds.yaml says why each is what it is."""

    min_win_rate: float = _threshold("min_win_rate")
    min_gain_retained: float = _threshold("min_gain_retained")
    min_format_ok: float = _threshold("min_format_ok")
    min_judge_accuracy: float = _threshold("min_judge_accuracy")
    max_severe_flips: float = _threshold("max_severe_flips")
    max_mean_kl: float = _threshold("max_mean_kl")


class Recipe(_Settings):
    """Everything that decides what a run makes.

    `base` may be a checkpoint or a GGUF. `as_deployed` names a GGUF artifact: the base is quantized to it first and
    trained on as it will ship (a base that is a GGUF already is always trained on as it is, dequantized exactly).
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    base: str = "smollm2-135m"
    as_deployed: str | None = None
    data: str = "sample"
    steps: tuple[Literal["sft", "dpo"], ...] = Field(default=("sft", "dpo"), min_length=1)
    distill: DistillSettings = DistillSettings()
    sft: TrainSettings = TrainSettings()
    own_pairs: OwnPairSettings = OwnPairSettings()
    dpo: DpoSettings = DpoSettings()
    export: ExportSettings = ExportSettings()
    bench: BenchSettings = BenchSettings()
    winrate: WinrateSettings = WinrateSettings()
    gate: GateSettings = GateSettings()

    @field_validator("as_deployed")
    @classmethod
    def _a_gguf(cls, value: str | None) -> str | None:
        if (
            value is not None
            and (parsed := _parsed(value))
            and (parsed.format != "gguf" or parsed.method == "lora")
        ):
            raise ValueError("the base can be quantized to a GGUF before it is trained on, as gguf-q4_0")
        return value

    @field_validator("steps")
    @classmethod
    def _in_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value not in (("sft", "dpo"), ("sft",), ("dpo",)):
            raise ValueError("the steps are [sft, dpo], or one of them alone for an ablation")
        return value


def _parsed(name: str) -> ArtifactName:
    try:
        return parse_artifact(name)
    except EmpathyEdgeError as error:
        raise ValueError(str(error)) from None


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    files = resources.files("empathy_edge.runs.recipes").iterdir()
    return sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))


def load_recipe(name_or_path: str) -> Recipe:
    """Load a shipped recipe by name, or a YAML file by path.

    Raises:
        EmpathyEdgeError: it is not there, or has faults; all of them are listed.
    """
    if name_or_path in recipe_names():
        text = (resources.files("empathy_edge.runs.recipes") / f"{name_or_path}.yaml").read_text(
            encoding="utf-8"
        )
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise EmpathyEdgeError(
                f"{name_or_path}: no such recipe. Give a YAML file, or one of: {', '.join(recipe_names())}."
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise EmpathyEdgeError(f"{path}: not UTF-8 (byte {error.start}).") from None
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise EmpathyEdgeError(f"{name_or_path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise EmpathyEdgeError(f"{name_or_path}: a recipe is a mapping of settings; this is not one.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise EmpathyEdgeError(f"{name_or_path}: {_faults(error, 'recipe')}") from None


def export_settings(**values: Any) -> ExportSettings:
    """Settings that came from a command line.

    Raises:
        EmpathyEdgeError: they have faults; all of them are listed.
    """
    try:
        return ExportSettings.model_validate(values)
    except ValidationError as error:
        raise EmpathyEdgeError(_faults(error, "options")) from None


def _faults(error: ValidationError, where: str) -> str:
    faults = [f"  {_field(fault['loc'])}: {_message(fault)}" for fault in error.errors()]
    return f"{len(faults)} fault{'s' * (len(faults) > 1)} in the {where}:\n" + "\n".join(faults)


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "recipe"


def _message(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "no such setting"
    if fault["type"] == "missing":
        return "is missing"
    text = fault["msg"].removeprefix("Value error, ")
    return f"{text[0].lower()}{text[1:]} (found {fault['input']!r})"
