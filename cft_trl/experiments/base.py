"""The base that all arms begin with: a small Llama, made from scratch on the world's questions and right solutions.

It is to solve about half of the test problems, so that an arm can make it better or worse; it has never seen a
critique. Why from scratch: SmolLM2-135M costs about 0.7 GFLOP per token trained, and a short SFT leaves it far from
half; a million parameters with a vocabulary of the world's own texts cost a hundredth of that, so that a grid of arms,
seeds and learning rates fits a CPU. Why of one step with small numbers: on two-step problems with numbers up to a
hundred 1.2 million target tokens taught such a model to write solutions and to solve 4 to 8% of them, because it has to
learn hundreds of sums; of level 0 there are some eighty. A share of its rows is those sums alone; another
compares numbers, as critiques do. It is made once per settings and kept:

    CACHE/experiments/base-3f9c0a7e51d2c6b8/    a folder that `from_pretrained` loads
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest, package_digest
from cft_trl.data.folders import cache_folder, locked
from cft_trl.errors import CFTError
from cft_trl.experiments.fit import DONE, fit
from cft_trl.experiments.mixtures import PRESET, Budget, Ingredient, Row, take
from cft_trl.experiments.settings import Experiment, Size, World, as_plain
from cft_trl.experiments.world import base_rows, pool
from cft_trl.models.identity import Identity, model_identity

SCRATCH = "scratch"
_END, _BEGIN = "<|im_end|>", "<|im_start|>"
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_READ_BY = (
    "layers", "width", "vocabulary", "base_rows", "base_levels", "drill", "compare", "base_learning_rate", "base_batch",
    "max_length", "threads", "device", "precision",
)  # fmt: skip
_WAIT_S = 2


def base_identities(experiment: Experiment, size: Size) -> dict[str, Identity]:
    """What the named bases of an experiment are; one from scratch is kept under what it is made of.

    Args:
        experiment: Whose arms may name bases.
        size: Names the base of all other arms.

    Raises:
        CFTError: There is no such model, or it cannot be read.
    """
    names = {arm.model or size.model for arm in experiment.arms.values()}
    return {name: model_identity(name) for name in sorted(names - {SCRATCH})}


def base_model(name: str, place: World, size: Size) -> str:
    """The base's folder or Hub id; one from scratch is made, where it is not there yet.

    Args:
        name: `scratch`, a folder or a Hub id.
        place: The world, whose texts it is made with.
        size: Its shape and how long it is trained.

    Raises:
        CFTError: It cannot be made or written.
    """
    if name != SCRATCH:
        return name
    folder = cache_folder() / "experiments" / f"base-{_digest(place, size)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        hold(held, folder.parent, "base's making", f".{folder.name}.lock")
        if not (folder / DONE).is_file():
            print(f"making the base: {size.layers} layers of {size.width}, {size.base_rows:,} rows; kept in {folder}")
            _make(folder, place, size)
    return str(folder)


def hold(held: ExitStack, folder: Path, what: str, name: str) -> None:
    """Holds a lock until `held` ends; waits where another process has it.

    Args:
        held: The context that ends with it.
        folder: The folder that is locked.
        what: What is at work there, as a message calls it.
        name: The lock's file.
    """
    told = False
    while True:
        try:
            held.enter_context(locked(folder, what, "", name))
            return
        except CFTError:
            if not told:
                print(f"waiting: another process is at it ({folder})", flush=True)
            told = True
            time.sleep(_WAIT_S)


def _digest(place: World, size: Size) -> str:
    import tokenizers
    import torch
    import transformers
    import trl

    shape = {name: getattr(size, name) for name in _READ_BY}
    versions = [one.__version__ for one in (torch, transformers, trl, tokenizers)]
    # All of our code: what prepares rows and trains on them makes the base as much as this file does.
    return content_digest([as_plain(place), shape, package_digest(), versions])


def _make(folder: Path, place: World, size: Size) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    rows = base_rows(place, size)
    tokenizer = train_tokenizer(rows, list(pool(place, 0, min(500, size.base_rows))), size.vocabulary)
    start = folder.with_name(f".{folder.name}.start")
    shutil.rmtree(start, ignore_errors=True)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.width,
            intermediate_size=size.width * 8 // 3 // 32 * 32,
            num_hidden_layers=size.layers,
            num_attention_heads=size.width // 32,
            num_key_value_heads=size.width // 32,
            max_position_embeddings=2 * size.max_length,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(start)
    tokenizer.save_pretrained(start)
    taken = take(
        [Ingredient("sft", "response", rows)], tokenizer, Budget("rows", len(rows)), seed=0, batch=size.base_batch,
        max_length=size.max_length, where="the base",
    )  # fmt: skip
    # Checkpoints in any case: it takes longer than any arm.
    saving = dataclasses.replace(size, batch=size.base_batch, save_steps=size.save_steps or 0.1)
    rate, who = size.base_learning_rate, "the base, training"
    fit(str(start), taken, folder, saving, learning_rate=rate, seed=0, objective="sft", who=who)
    shutil.rmtree(start)


def train_tokenizer(rows: list[Row], critiqued: list[Row], vocabulary: int) -> Any:
    """A byte-level BPE of the texts of rows, every digit a token of its own, with a chat template.

    Args:
        rows: Questions and solutions.
        critiqued: Rows with critiques, so that their words are tokens too.
        vocabulary: Its size.

    Returns:
        A `PreTrainedTokenizerFast`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from cft_trl.data.prompts import Prompting

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    prompting = Prompting("cft", preset=PRESET)
    texts = [f"{row['query']}\n{row['response']}" for row in rows[: 2 * len(critiqued)]]
    texts += [f"{prompting.user_turn(row)}\n{prompting.completion(row)}" for row in critiqued]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_END, _BEGIN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*texts, "user\nassistant\n" * 50], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=_END, pad_token=_END)
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
