"""What a trainer begins with: the model that was named, at one commit; and the settings as TRL is given them."""

from __future__ import annotations

import copy
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.models.adapters import refuse_adapter
from cft_trl.models.loading import load_tokenizer
from cft_trl.models.names import hub_commit, resolve_model
from cft_trl.training.config import CFTConfig

# What TRL may see otherwise than the user set it.
_OURS = ("packing", "max_length")


def base_name(model: Any) -> str:
    """What a model is called: its Hub id or folder."""
    return model if isinstance(model, str) else model.config._name_or_path


def settings_of(args: Any, model: Any) -> CFTConfig:
    """The trainer's settings, by default those of an output folder that is named after the model.

    Raises:
        CFTError: They are another trainer's.
    """
    if args is None:
        return CFTConfig(f"{base_name(model).rstrip('/').split('/')[-1] or 'model'}-CFT")
    if not isinstance(args, CFTConfig):
        raise CFTError(f"args is a {type(args).__name__}; CFTTrainer takes a CFTConfig")
    return args


def open_named(model: Any, args: CFTConfig, processing_class: Any) -> tuple[Any, str | None, Any]:
    """Where a named model is, its commit, and its tokenizer where none is given; a model that is loaded stays as it is.

    Args:
        model: A Hub id, a folder, or a model.
        args: Learn how the model is to be loaded.
        processing_class: The tokenizer, or None.

    Raises:
        CFTError: There is no such model, or it is an adapter.
    """
    revision = (args.model_init_kwargs or {}).get("revision")
    if not isinstance(model, str):
        return model, revision, processing_class
    model = resolve_model(model, revision=revision)
    refuse_adapter(model, revision, "model")
    # One commit for weights, configuration and record, though the branch moves meanwhile; and safetensors, else the
    # library would read a pickle where a model has nothing else.
    revision = hub_commit(model, revision)
    args.model_init_kwargs = {**(args.model_init_kwargs or {}), "revision": revision, "use_safetensors": True}
    if processing_class is None:  # TRL asks for a processor, which text-only folders of some families lack
        processing_class = load_tokenizer(model, revision=revision, trust_remote_code=args.trust_remote_code)
    return model, revision, processing_class


def for_trl(args: CFTConfig) -> CFTConfig:
    """The settings as TRL is given them: a copy.

    Packs of shared prefixes are ours. And TRL refuses `padding_free` with a `max_length`, because it would not enforce
    it; our preparation does.
    """
    given = copy.copy(args)
    if given.share_prefixes:
        given.packing = given.padding_free = False
    if given.padding_free and not given.packing:
        given.max_length = None
    return given


def take_back(args: CFTConfig, given: CFTConfig) -> CFTConfig:
    """The user's settings, with what TRL has settled in its copy."""
    for name, value in vars(given).items():
        if name not in _OURS:
            setattr(args, name, value)
    return args
