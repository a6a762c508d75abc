"""The two steps that turn a small model into a listener: SFT, then DPO, each with LoRA."""
