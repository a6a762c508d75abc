"""Merge adapters of any kind that PEFT can merge into a model that torch holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.models.adapter_folder import CONFIG, PREFIX, AdapterFolder, read_adapter
from empathy_edge.models.adapter_rows import OF_TOKENS, require_rows, rows_in_training
from empathy_edge.models.lora import LORA_DOWN, STARTS_THAT_KEEP_THE_BASE, change_of_weights, why_not_plain

Keep = Callable[[Iterable[Any]], None]
"""Is called with torch's parameters whose values are new."""

_NO_WEIGHTS_TO_MERGE = {
    "PROMPT_TUNING": "puts learned vectors before the prompt",
    "MULTITASK_PROMPT_TUNING": "puts learned vectors before the prompt",
    "P_TUNING": "puts learned vectors before the prompt",
    "PREFIX_TUNING": "puts learned vectors before every layer's keys and values",
    "CARTRIDGE": "puts learned vectors before every layer's keys and values",
    "CPT": "puts learned vectors before the prompt",
    "ADAPTION_PROMPT": "puts learned vectors before the prompt",
    "XLORA": "mixes its adapters for every token",
    "POLY": "mixes its adapters by task",
}
"""Kinds of adapters that no merged weights can stand for, and why."""


def why_not_streamed(adapters: Sequence[Path], shapes: dict[str, tuple[int, ...]]) -> str | None:
    """Why PEFT has to merge these adapters; None where they are plain LoRA of matrices in `shapes`.

    Raises:
        EmpathyEdgeError: a folder that is no adapter.
    """
    for folder in adapters:
        adapter = read_adapter(folder)
        reason = why_not_plain(adapter)
        if reason:
            return reason
        for name in adapter.tensors:
            target = name.removeprefix(PREFIX).replace(".lora_A.", ".").replace(".lora_B.", ".")
            if target not in shapes:
                return f"changes {target}, which the base's files name otherwise"
    return None


def merge_into(model: Any, adapters: Sequence[Path]) -> Any:
    """The model with its adapters merged; a plain LoRA changes `model` in place.

    Args:
        model: transformers', with fp32 weights.
        adapters: PEFT folders, in the order of training.

    Raises:
        EmpathyEdgeError: an adapter cannot be merged, or does not fit the model.
    """
    if not adapters:
        return model
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    if why_not_streamed(adapters, shapes):
        return merge_by_peft(model, adapters)
    _require_fp32(model)
    import torch

    parameters = dict(model.named_parameters())
    for name, factors in change_of_weights(list(adapters), shapes).items():
        weight = parameters[name]
        with torch.no_grad():
            for down, up, scale in factors:
                change = torch.from_numpy(up).to(weight.device) @ torch.from_numpy(down).to(weight.device)
                weight += scale * change
    return model


def merge_by_peft(model: Any, adapters: Sequence[Path]) -> Any:
    """Merge adapters one after the other by PEFT's own code.

    Args:
        model: transformers', with fp32 weights; it is changed.
        adapters: PEFT folders, in the order of training.

    Raises:
        EmpathyEdgeError: an adapter cannot be merged, or does not fit the model.
    """
    for folder in adapters:
        model = merge_attached(attach(model, folder), folder)
    return model


def attach(model: Any, folder: Path, keep: Keep | None = None) -> Any:
    """The PEFT model of a model and one adapter, unmerged, in which each module has weights of its own.

    Args:
        model: transformers', with fp32 weights; it is changed.
        folder: the adapter's.
        keep: is given parameters whose values are new, and may put them elsewhere.

    Raises:
        EmpathyEdgeError: the adapter cannot be merged, or does not fit the model.
    """
    require_extra("peft", "train", "Merging this adapter")
    quiet_libraries()
    _require_fp32(model)
    wrapped = with_adapter(model, folder, "merged", keep).eval()
    _unshare_weights(wrapped, keep)
    if keep:
        keep(wrapped.parameters())
    return wrapped


def merge_attached(wrapped: Any, folder: Path, keep: Keep | None = None) -> Any:
    """The model with the adapter of `attach` merged by PEFT, layer by layer.

    Raises:
        EmpathyEdgeError: PEFT cannot merge it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    was_tied = wrapped.config.tie_word_embeddings
    try:
        for layer in [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]:
            layer.merge(safe_merge=True)
            if keep:
                keep(layer.parameters())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "already merged": of each layer
            model = wrapped.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError, TypeError, RuntimeError) as error:
        raise EmpathyEdgeError(f"{folder}: PEFT cannot merge this adapter ({error}).") from None
    model.config.tie_word_embeddings = was_tied  # PEFT says no where both are equal, but not one tensor
    _tell_whether_tied(model)
    if keep:
        keep(model.parameters())
    return model


def with_adapter(model: Any, folder: Path, name: str, keep: Keep | None = None) -> Any:
    """The PEFT model of a model and an adapter, unmerged.

    Args:
        model: transformers', or a PEFT model that gets one more adapter.
        folder: the adapter's.
        name: the adapter's name in the PEFT model.
        keep: as for `attach`.

    Raises:
        EmpathyEdgeError: the adapter is of a kind that cannot be merged, or does not fit the model.
    """
    from peft import PeftConfig, PeftModel, set_peft_model_state_dict
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.utils import load_peft_weights

    adapter = read_adapter(folder)
    _require_mergeable(adapter)
    if not isinstance(model, PeftModel):
        _fit_vocabulary(model, adapter)
    values = load_peft_weights(str(folder), device="cpu")
    state = {peft_name: values[tensor.name] for peft_name, tensor in adapter.tensors.items()}
    try:
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        if isinstance(model, PeftModel):
            model.add_adapter(name, config)
            wrapped = model
        else:
            wrapped = _inject(model, config, name, adapter, keep)
        _drop_copies_of_tied_rows(wrapped, state)
        loaded = set_peft_model_state_dict(wrapped, state, adapter_name=name)
    except (ValueError, TypeError, LookupError, RuntimeError, ImportError, AttributeError) as error:
        raise EmpathyEdgeError(f"{folder}: PEFT cannot load this adapter on this base: {error}") from None
    own = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    missing = [key for key in loaded.missing_keys if own in key and f".{name}" in key]
    if loaded.unexpected_keys or missing:
        key = (loaded.unexpected_keys or missing)[0]
        what = "holds" if loaded.unexpected_keys else "lacks"
        raise EmpathyEdgeError(f"{folder}: does not fit this base: it {what} {key}.")
    return wrapped


def _inject(model: Any, config: Any, name: str, adapter: AdapterFolder, keep: Keep | None) -> Any:
    """The PEFT model with the adapter's layers, not yet with its values.

    PiSSA and OLoRA take a part out of each weight here. With `keep` this is done for one module at a time,
    since PEFT holds every weight that it changes.
    """
    from peft import get_peft_model

    modules = [
        key.removeprefix(PREFIX).removesuffix(LORA_DOWN) for key in adapter.tensors if LORA_DOWN in key
    ]
    if keep is None or not _changes_base_at_start(adapter) or not modules:
        return get_peft_model(model, config, adapter_name=name)
    config.target_modules = {modules[0]}
    wrapped = get_peft_model(model, config, adapter_name=name)
    for module in modules[1:]:
        keep(wrapped.parameters())
        wrapped.peft_config[name].target_modules = {module}
        wrapped.base_model.inject_adapter(wrapped.base_model.model, name)
    return wrapped


def _drop_copies_of_tied_rows(wrapped: Any, state: dict[str, Any]) -> None:
    """Leave out of an adapter's tensors the rows of tokens that PEFT stored twice.

    Where the vocabulary grew, it stores all of the output matrix's module, also what that module shares with
    the embeddings, and does not read it again.
    """
    for name, module in wrapped.named_modules():
        trained = getattr(module, "token_adapter", None)
        if getattr(trained, "tied_adapter", None) is not None:
            for tensor in OF_TOKENS:
                state.pop(f"{name}.{tensor}", None)


def _changes_base_at_start(adapter: AdapterFolder) -> bool:
    start = adapter.config.get("init_lora_weights", True)
    return isinstance(start, str) and start not in STARTS_THAT_KEEP_THE_BASE


def _require_mergeable(adapter: AdapterFolder) -> None:
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    why = _NO_WEIGHTS_TO_MERGE.get(adapter.kind)
    if adapter.config.get("alora_invocation_tokens"):
        why = "changes the weights only after certain tokens (aLoRA)"
    if why:
        raise EmpathyEdgeError(
            f"{adapter.path}: {adapter.kind} {why}; no merged weights can stand for it.\n"
            "  Train a LoRA (or DoRA, IA3, OFT …) instead, or serve this one with PEFT itself."
        )
    start = adapter.config.get("init_lora_weights", True)
    if _changes_base_at_start(adapter) and start not in ("pissa", "olora"):
        raise EmpathyEdgeError(
            f"{adapter.path}: its start ('{start}') changed the base, and that change is not stored.\n"
            "  Save it again as a plain LoRA, by PEFT's "
            "save_pretrained(…, path_initial_model_for_weight_conversion=…)."
        )
    if adapter.kind not in set(PeftType):
        raise EmpathyEdgeError(
            f"{adapter.path}: the PEFT installed here knows no '{adapter.kind}' ({CONFIG}, peft_type); "
            "update peft, or check the file."
        )
    known = {field.name for field in fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(adapter.kind)])}
    unknown = [key for key, value in adapter.config.items() if value and key not in known]
    if unknown:
        raise EmpathyEdgeError(
            f"{adapter.path}: {CONFIG} has the option '{unknown[0]}', which the PEFT installed here does not "
            "know; update peft."
        )
    if adapter.config.get("megatron_config"):  # PEFT would import a module that the file names
        raise EmpathyEdgeError(f"{adapter.path}: adapters of Megatron models (megatron_config) are not read.")


def _fit_vocabulary(model: Any, adapter: AdapterFolder) -> None:
    """Give the model as many rows of embeddings as the adapter was trained with.

    Raises:
        EmpathyEdgeError: the adapter has other rows, of which its file does not hold all.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    embedding = next(name for name, part in model.named_modules() if part is model.get_input_embeddings())
    wanted = rows_in_training(adapter, embedding, rows)
    if wanted == rows:
        return
    require_rows(adapter, embedding, rows, wanted)
    output = model.get_output_embeddings()
    head = next((name for name, part in model.named_modules() if part is output), None)
    if head is not None and not model.config.tie_word_embeddings:
        require_rows(adapter, head, rows, wanted)
    model.resize_token_embeddings(wanted, mean_resizing=False)


def _unshare_weights(model: Any, keep: Keep | None) -> None:
    """Give each module weights of its own: a merge changes them in place, and would change others with them.

    Input and output embeddings share theirs in many models, and replicated layers do.
    """
    import torch

    seen: set[int] = set()
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.data_ptr() in seen:
                weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)
                setattr(module, name, weight)
                if keep:
                    keep([weight])
            seen.add(weight.data_ptr())


def _tell_whether_tied(model: Any) -> None:
    """Let the configuration say whether input and output embeddings are one matrix after a merge."""
    import torch

    head = model.get_output_embeddings()
    if head is None or not model.config.tie_word_embeddings:
        return
    embedding = model.get_input_embeddings().weight
    if torch.equal(embedding, head.weight):
        model.tie_weights()
    else:
        model.config.tie_word_embeddings = False


def _require_fp32(model: Any) -> None:
    import torch

    if any(weight.dtype != torch.float32 for weight in model.parameters()):
        raise EmpathyEdgeError("Adapters are merged into a full-precision base only (fp32).")
