"""The values that a model's configuration leaves out, since transformers has defaults for them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from empathy_edge.console import quiet_libraries


def values_by_transformers(stored: Mapping[str, Any]) -> dict[str, Any]:
    """All values of a configuration, the defaults among them, as transformers' own class has them.

    Of a model that also sees or hears they are those of its language model.

    Args:
        stored: what config.json holds.

    Returns:
        The values by name. None where transformers is not installed, does not know the kind of model, or
        cannot read the configuration: then what is stored is all that is known.
    """
    kind = stored.get("model_type")
    if not isinstance(kind, str) or find_spec("transformers") is None:
        return {}
    quiet_libraries()
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        return {}
    try:
        # The class changes what it is given.
        config = CONFIG_MAPPING[kind].from_dict(copy.deepcopy(dict(stored)))
        values: dict[str, Any] = config.get_text_config().to_dict()
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        ImportError,
        OSError,
        RuntimeError,  # a RecursionError among them
        StrictDataclassError,
    ):
        return {}
    return values
