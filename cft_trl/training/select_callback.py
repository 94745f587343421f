"""Choosing a checkpoint while training: each is scored as it is saved, and the best stays.

A model that is whole on every process (one process, DDP, ZeRO-1 and -2) writes its texts as it is in memory. A sharded
one (FSDP, ZeRO-3) would gather its weights anew for every token, so there each process loads the checkpoint that was
just saved, a whole copy beside its shard, and frees it afterwards. Either way the problems are dealt out to the
processes and what they wrote is graded by the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cft_trl.errors import CFTError
from cft_trl.evaluation.racing import LeavingRule
from cft_trl.evaluation.validation import ValidationSet, load_validation
from cft_trl.generation.local import AT_ONCE, LocalModel
from cft_trl.generation.types import Generation
from cft_trl.training.choice import tell
from cft_trl.training.race import select
from cft_trl.training.selection import Selection


class SelectBestCheckpoint(TrainerCallback):
    """Scores every checkpoint on validation problems as it is saved, and keeps the best (see the top of this file).

    Args:
        validation: A `ValidationSet`, or a name or file that `load_validation` takes.
        limit, max_new_tokens, force: As for `load_validation`.
        keep: How many of the best are kept, beside what `save_total_limit` keeps.
        batch_size: Problems computed together.
        exhaustive: Every checkpoint answers every problem; otherwise one leaves that will not be the best any more, by
            the `LeavingRule` of evaluation/racing.py.

    Raises:
        CFTError: As `load_validation`; when training begins, that nothing will be saved.

    Example:
        >>> from cft_trl import CFTTrainer
        >>> trainer = CFTTrainer(..., callbacks=[SelectBestCheckpoint("math-validation", limit=100)])  # doctest: +SKIP
    """

    def __init__(
        self,
        validation: ValidationSet | str = "math-validation",
        *,
        limit: int | None = None,
        max_new_tokens: int | None = None,
        keep: int = 1,
        batch_size: int = AT_ONCE,
        force: bool = False,
        exhaustive: bool = False,
    ) -> None:
        if keep < 1 or batch_size < 1:
            raise CFTError(f"keep={keep}, batch_size={batch_size}: give 1 or more")
        if isinstance(validation, str):
            validation = load_validation(validation, limit, max_new_tokens=max_new_tokens, force=force)
        self.validation, self.keep, self.batch_size = validation, keep, batch_size
        self.rule = LeavingRule(0) if exhaustive else LeavingRule()

    def on_train_begin(self, args, state, control, **kwargs):
        if args.save_strategy == "no":
            raise CFTError("save_strategy=no: there will be no checkpoint to choose from; set save_strategy: steps")
        if state.is_world_process_zero:
            self._selection(args).forget_after(state.global_step)

    def on_save(self, args, state, control, model=None, processing_class=None, **kwargs):
        limit, opened = self.validation.max_new_tokens, {}
        with ExitStack() as models:

            def generate(step: int, checkpoint: Path, conversations: list[Any]) -> list[Generation]:
                if step == state.global_step and is_whole(model):
                    here = LocalModel(model, processing_class, self.batch_size)
                    return here.generate(conversations, max_new_tokens=limit)
                if step not in opened:  # one at a time; it stays for the rounds to come
                    opened.clear()
                    models.close()
                    copy = whole_copy(checkpoint, getattr(args, "hf_deepspeed_config", None))
                    loaded, tokenizer = models.enter_context(copy)
                    opened[step] = LocalModel(loaded, tokenizer, self.batch_size)
                return opened[step].generate(conversations, max_new_tokens=limit)

            select(self._selection(args), generate, on_point=lambda point: print(tell(point), flush=True))

    def _selection(self, args: Any) -> Selection:
        preset = getattr(args, "critique_wording", "paper")
        return Selection(Path(args.output_dir), self.validation, preset, self.keep, rule=self.rule)


def selection_callbacks(script: Any, config: Any) -> list[SelectBestCheckpoint]:
    """The callback that a run's settings ask for (`select_benchmark` and what else begins so), or none.

    Raises:
        CFTError: They contradict the others, or the validation set is refused.
    """
    if not script.select_benchmark:
        return []
    if config.save_strategy == "no":
        raise CFTError("select_benchmark chooses among checkpoints, but save_strategy=no saves none; set it to steps")
    how = {"limit": script.select_limit, "keep": script.select_keep, "exhaustive": script.select_exhaustive}
    return [SelectBestCheckpoint(script.select_benchmark, **how)]


def is_whole(model: Any) -> bool:
    """Whether this process holds all of every parameter: neither FSDP2's DTensors nor ZeRO-3's parts."""
    from torch.distributed.tensor import DTensor

    return not any(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters())


@contextmanager
def whole_copy(checkpoint: Path, deepspeed_config: Any) -> Iterator[tuple[Any, Any]]:
    """The checkpoint's model and tokenizer, whole on this process, while training goes on sharded.

    transformers shards what `from_pretrained` loads, and lets `generate` wait for the other processes, as long as it
    finds the launcher's settings; they are put aside meanwhile.
    """
    from accelerate import PartialState
    from transformers.integrations import deepspeed

    from cft_trl.generation.serving import scoring_dtype
    from cft_trl.models.loading import load_model

    fsdp = os.environ.pop("ACCELERATE_USE_FSDP", None)
    deepspeed.unset_hf_deepspeed_config()
    try:
        model, tokenizer = load_model(str(checkpoint), dtype=scoring_dtype(str(checkpoint)))
        yield model.to(PartialState().device), tokenizer
    finally:
        if fsdp is not None:
            os.environ["ACCELERATE_USE_FSDP"] = fsdp
        if deepspeed_config is not None:
            deepspeed.set_hf_deepspeed_config(deepspeed_config)
