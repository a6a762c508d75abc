"""Find a model, and join LoRA adapters to it."""
