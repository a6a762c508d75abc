"""The folder of a run, and where its stages lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. Each stage has a folder in it, and each artifact one that is named after it."""

    root: Path

    @property
    def record(self) -> Path:
        """The file with the recipe, and seconds and peak memory of each stage."""
        return self.root / "run.json"

    @property
    def distill(self) -> Path:
        """SFT rows, preference pairs and test dialogues."""
        return self.root / "distill"

    @property
    def quantized_base(self) -> Path:
        """The base as it is deployed, where the recipe trains on that (`as_deployed`)."""
        return self.root / "base"

    @property
    def sft(self) -> Path:
        """The first step of fine-tuning."""
        return self.root / "finetune" / "sft"

    @property
    def own_pairs(self) -> Path:
        """Preference pairs from the student's own samples."""
        return self.root / "finetune" / "own-pairs"

    @property
    def dpo(self) -> Path:
        """The second step of fine-tuning."""
        return self.root / "finetune" / "dpo"

    @property
    def export(self) -> Path:
        """Merged checkpoint, artifacts, and how near they are to the checkpoint."""
        return self.root / "export"

    @property
    def merged(self) -> Path:
        """The base with its adapters, a checkpoint."""
        return self.export / "merged"

    @property
    def verify(self) -> Path:
        """Each artifact beside the merged checkpoint."""
        return self.export / "verify"

    @property
    def bench(self) -> Path:
        """Latency and memory."""
        return self.root / "bench"

    @property
    def phone(self) -> Path:
        """What browsers of phones measured."""
        return self.root / "phone"

    @property
    def release(self) -> Path:
        """The fine-tuned model beside its base: responses, win rates and the verdict."""
        return self.root / "release"

    @property
    def check(self) -> Path:
        """The verdicts on the artifacts."""
        return self.root / "check"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.root / "report"

    def artifact(self, name: str) -> Path:
        """The folder of an artifact, as gguf-q8_0."""
        return self.export / name

    def stage(self, name: str) -> Path:
        """The folder whose manifest is written when all of the stage `name` is done."""
        folders = {
            "distill": self.distill,
            "sft": self.sft,
            "dpo": self.dpo,
            "export": self.verify,
            "bench": self.bench,
            "release": self.release,
            "check": self.check,
            "report": self.report,
        }
        return folders[name]
