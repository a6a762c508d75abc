"""Fine-tuning with LoRA in two steps: SFT, then DPO."""
