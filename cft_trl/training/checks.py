"""Settings that a library would take and then ignore, misread or crash on: told in one line, before rows are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from datasets import Dataset, IterableDataset

from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.training.collator import DataCollatorForCritique
from cft_trl.training.prefix_sharing.attention import why_not_shared
from cft_trl.training.tokens import check_tokenizer

if TYPE_CHECKING:
    from cft_trl.training.config import CFTConfig


def config_of(model: Any, args: Any) -> Any:
    """The model's configuration, read without its weights; None where that cannot be had (loading then says why).

    Args:
        model: a model, or a name or folder.
        args: the `CFTConfig`; its `model_init_kwargs` are applied.
    """
    if not isinstance(model, str):
        return model.config
    from transformers import AutoConfig

    given = {name: value for name, value in (args.model_init_kwargs or {}).items() if name not in _OF_THE_WEIGHTS}
    given.setdefault("trust_remote_code", args.trust_remote_code)
    try:
        return AutoConfig.from_pretrained(model, **given)
    except (OSError, ValueError, KeyError):
        return None


_OF_THE_WEIGHTS = (
    "dtype",
    "torch_dtype",
    "device_map",
    "quantization_config",
    "use_safetensors",
    "attn_implementation",
)


def settle(args: Any, model: Any, peft_config: Any) -> str | None:
    """Before anything is read: refuses what cannot be, and gives up sharing where the model cannot; -> a line on that.

    Args:
        args: The `CFTConfig`; sharing may be given up in it.
        model: What `CFTTrainer` is given: a name or a model.
        peft_config: The adapter's settings, or None.

    Raises:
        CFTError: See `check_settings`.
    """
    config = config_of(model, args)
    told = settle_sharing(args, model, config, peft_config)
    check_settings(args, model, config, peft_config)
    return told


def check_libraries(args: Any) -> None:
    """Refuses settings that need a library which is not here.

    Args:
        args: the `CFTConfig`.

    Raises:
        CFTError: One is missing; the message names the extra that brings it.
    """
    if args.use_liger_kernel:
        require("gpu", "use_liger_kernel=true", "liger_kernel")
    optim = str(getattr(args.optim, "value", args.optim))
    if "bnb" in optim or optim.startswith("paged_") or ("8bit" in optim and "torch" not in optim):
        require("gpu", f"optim={optim}", "bitsandbytes")


def check_settings(args: Any, model: Any, config: Any, peft_config: Any) -> None:
    """Refuses what would be ignored, misread or end in a traceback.

    Args:
        args: the `CFTConfig`.
        model: a model or its name.
        config: of `config_of`, or None.
        peft_config: of the adapter to train, or None.

    Raises:
        CFTError: see the messages.
    """
    if args.fp16 and args.device.type == "cpu":
        raise CFTError("fp16=true does nothing on a CPU; leave it off (bf16 works where the processor has it)")
    if args.eval_packing and not (args.packing or args.share_prefixes):
        raise CFTError(
            "eval_packing=true without packing: the rows of a pack would see each other; set packing=true too"
        )
    check_libraries(args)
    if _learns_prompts(model, peft_config):
        _check_prompt_learning(args)
    positions = positions_of(config)
    if positions and args.max_length is not None and args.max_length > positions:
        raise CFTError(
            f"max_length={args.max_length} is more than the model's {positions} positions; set max_length={positions}, "
            "or tell the model of more by model_init_kwargs"
        )


def _learns_prompts(model: Any, peft_config: Any) -> bool:
    found = [peft_config, *(getattr(model, "peft_config", None) or {}).values()]
    return any(getattr(one, "is_prompt_learning", False) for one in found)


def _check_prompt_learning(args: Any) -> None:
    kind = "an adapter of virtual tokens (prompt, prefix or p-tuning)"
    for name in ("packing", "padding_free", "share_prefixes"):
        value = getattr(args, name)
        if value and not (name == "share_prefixes" and value == "auto"):
            raise CFTError(f"{name} with {kind}: peft drops the positions that keep rows apart; leave {name} off")
    if args.label_smoothing_factor > 0:
        raise CFTError(f"label_smoothing_factor with {kind}: its virtual tokens have no labels; set it to 0")


def positions_of(config: Any) -> int | None:
    """How many positions a model has, the stretching of rotary ones included; None where it has no limit.

    Example:
        >>> from transformers import GPT2Config
        >>> positions_of(GPT2Config())
        1024
    """
    if config is None:
        return None
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    ropes = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    ropes = [ropes, *ropes.values()] if isinstance(ropes, dict) else []
    stretched = [
        int(rope["factor"] * rope["original_max_position_embeddings"])
        for rope in ropes
        if isinstance(rope, dict) and rope.get("factor") and rope.get("original_max_position_embeddings")
    ]
    return max([positions, *stretched])


def settle_sharing(args: Any, model: Any, config: Any, peft_config: Any) -> str | None:
    """Turns `share_prefixes: auto` into packing where the model cannot share; -> the line that says so, or None.

    With a limit on a row's length it becomes `packing`; without one, and where an adapter of virtual tokens allows no
    packs at all, rows are padded.

    Args:
        args: The `CFTConfig`, which is changed.
        model: A name or a model.
        config: The model's configuration; None where it is not known.
        peft_config: The adapter's settings, or None.
    """
    if args.share_prefixes != "auto":
        return None
    alone = _learns_prompts(model, peft_config)
    why = "adapters of virtual tokens cannot" if alone else None
    if why is None and config is not None:
        why = why_not_shared(config, _class_of(model, config), args.max_length or args.pack_length, args.device.type)
    if why is None:
        return None
    args.share_prefixes, args.packing = False, args.max_length is not None and not alone
    return f"share_prefixes: auto is {'plain packing' if args.packing else 'padding'} here: {why}"


def _class_of(model: Any, config: Any) -> Any:
    """The model's class; None where only its own code knows."""
    import transformers

    if not isinstance(model, str):
        return type(model.get_base_model() if hasattr(model, "get_base_model") else model)
    return getattr(transformers, (getattr(config, "architectures", None) or [""])[0], None)


def check_trainer(trainer: Any) -> None:
    """What is known only when the trainer stands: its optimizer, its schedule, and how many rows it has.

    Raises:
        CFTError: an optimizer without its package, a schedule without its arguments, not one batch, a row that is
            longer than the model's positions.
    """
    args, rows = trainer.args, trainer.train_dataset
    try:
        trainer.get_optimizer_cls_and_kwargs(args, trainer.model)
    except (ImportError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CFTError(f"optim={getattr(args.optim, 'value', args.optim)}: {error}") from error
    _check_schedule(args)
    if not isinstance(rows, Dataset):
        return
    batches = len(rows) // args.train_batch_size
    if args.dataloader_drop_last and batches < args.world_size:
        what = "packs" if args.packing or args.share_prefixes else "rows"
        raise CFTError(
            f"dataloader_drop_last=true drops all {len(rows)} {what}: a batch has {args.train_batch_size}"
            + (f", and there are {args.world_size} processes" if args.world_size > 1 else "")
            + "; set it to false or per_device_train_batch_size lower"
        )
    positions = positions_of(trainer.accelerator.unwrap_model(trainer.model).config)
    if positions and args.max_length is None and not args.share_prefixes and "input_ids" in rows.column_names:
        import pyarrow.compute as pc

        longest = pc.max(pc.list_value_length(rows.with_format("arrow")["input_ids"][:])).as_py() or 0
        if longest > positions:
            raise CFTError(
                f"a row has {longest} tokens, more than the model's {positions} positions; set max_length={positions}"
            )


def _check_schedule(args: Any) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    try:
        get_scheduler(
            args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=args.get_warmup_steps(100),
            num_training_steps=100,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
    except (ValueError, TypeError, KeyError) as error:
        name = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        raise CFTError(
            f"lr_scheduler_type={name} with lr_scheduler_kwargs={args.lr_scheduler_kwargs}: {error}"
        ) from error


def check_arguments(
    args: CFTConfig, train_dataset: Any, data_collator: Any, processing_class: Any, others: Mapping[str, Any]
) -> None:
    """What `CFTTrainer` is given, before anything is loaded.

    Args:
        others: TRL's further arguments, by name.

    Raises:
        CFTError: Rows that are missing or empty, or arguments that contradict each other.
    """
    if train_dataset is None:
        raise CFTError("train_dataset is missing; give rows with at least query, response and critique")
    if next(iter(train_dataset), None) is None:
        raise CFTError("the train dataset is empty; give at least one row")
    streaming = isinstance(train_dataset, IterableDataset)
    if streaming and args.dataloader_num_workers:
        raise CFTError(
            f"dataloader_num_workers={args.dataloader_num_workers} with a streaming dataset: its rows would go by "
            "in other processes, uncounted; set it to 0"
        )
    if others.get("compute_loss_func") is not None and args.verdict_weight != 1.0:
        raise CFTError("verdict_weight has no effect with a compute_loss_func of your own; leave one of them out")
    if data_collator is not None:
        _check_collator(data_collator, args)
    if others.get("formatting_func") is not None:
        raise CFTError("formatting_func contradicts CFTTrainer, which writes the prompts itself; use prompt_preset")
    if processing_class is not None and args.eos_token is None:
        check_tokenizer(processing_class)
    if streaming and args.share_prefixes:
        raise CFTError("share_prefixes needs all rows at hand, a stream has not; leave one of them off")


def _check_collator(collator: Any, args: CFTConfig) -> None:
    """A collator of ours must mean what the config says, since the config's side is what prepares the rows."""
    if not isinstance(collator, DataCollatorForCritique):
        return
    for name in ("objective", "sft_target", "prompt_preset", "max_length", "over_length", "share_prefixes"):
        mine = args.wording if name == "prompt_preset" else getattr(args, name)
        theirs = getattr(collator, name)
        if name == "share_prefixes":
            mine, theirs = bool(mine), bool(theirs)
        if mine != theirs:
            raise CFTError(f"the collator has {name}={theirs} but the config {name}={mine}; give both the same")
    collator.return_verdict_mask = True


def check_prepared_columns(dataset: Any, columns: Collection[str], row_limit: int | None, name: str) -> None:
    """
    Args:
        dataset: Rows that are tokens already.
        row_limit: The longest row there may be, in tokens.

    Raises:
        CFTError: They have no labels, or one is longer.
    """
    if "labels" not in columns:
        raise CFTError(f"the {name} dataset has input_ids but no labels, so the prompt would have loss; add labels")
    if row_limit is None or not isinstance(dataset, Dataset) or {"seen_until", "seq_lengths"} & set(columns):
        return
    longest = pc.max(pc.list_value_length(dataset.with_format("arrow")["input_ids"][:])).as_py()
    if longest > row_limit:
        raise CFTError(
            f"the {name} dataset is tokenised already and holds a row of {longest} tokens, more than "
            f"max_length={row_limit}; give the rows as text, so that their responses can be shortened"
        )
