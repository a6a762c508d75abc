"""Find a model, convert a GGUF to a checkpoint, and add LoRA adapters to a base."""
