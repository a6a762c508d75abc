"""Fine-tuning with LoRA in two steps: SFT, then DPO."""

from empathy_edge.callable_package import make_callable

make_callable(__name__)
