"""Each row once in several processes: what the last batch repeats has no loss, and a stream is dealt out row by row."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, IterableDatasetShard
from datasets import Dataset, IterableDataset
from torch.utils.data import BatchSampler, SequentialSampler
from transformers.trainer_pt_utils import BatchRebalanceSampler

from cft_trl import CFTTrainer, DataCollatorForCritique
from cft_trl.data.prompts import Prompting
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.preparation import RowEncoder
from cft_trl.training.prepare import prepare_dataset
from cft_trl.training.rows_once import WholeStream, own_rows, take_loss_off, told_repeats, without_repeats


def arguments(batch=2, processes=2, index=0, **other):
    loading = SimpleNamespace(split_batches=False, even_batches=True)
    return SimpleNamespace(
        train_batch_size=batch, world_size=processes, process_index=index, accelerator_config=loading,
        train_sampling_strategy="random", dataloader_drop_last=False, **other,
    )  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 8, 12])
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_over_all_processes_each_row_has_its_loss_once(rows, batch, processes):
    """With accelerate's own dealing out, which fills the last batches up from the beginning."""
    trained, steps = [], set()
    for index in range(processes):
        args, loader = arguments(batch, processes, index), SimpleNamespace(remainder=1)
        gradients = SimpleNamespace(end_of_dataloader=False, active_dataloader=loader)
        sampler = BatchSampler(SequentialSampler(range(rows)), batch, drop_last=False)
        mine = list(BatchSamplerShard(sampler, processes, index)) if processes > 1 else list(sampler)

        def batches(mine=mine, gradients=gradients):
            for number, rows_of_it in enumerate(mine, 1):
                gradients.end_of_dataloader = number == len(mine)
                yield {"labels": torch.tensor(rows_of_it)[:, None]}

        steps.add(len(mine))
        for one in without_repeats(batches(), range(rows), args, gradients):
            trained += one["labels"][one["labels"] != -100].tolist()
        assert loader.remainder == 0  # sums over processes, which are no rows, are not cut
    assert sorted(trained) == list(range(rows))
    assert len(steps) == 1


def test_where_nothing_is_repeated_all_rows_are_kept():
    assert own_rows(range(5), arguments(index=0)) == 1 + 0
    assert own_rows(range(5), arguments(index=1)) == 0
    assert own_rows(range(6), arguments(index=1)) == 0
    assert own_rows(range(8), arguments(index=1)) == 2
    assert own_rows(iter(()), arguments(index=1)) == 2  # a stream
    dropped = arguments(index=1)
    dropped.dataloader_drop_last = True
    assert own_rows(range(5), dropped) == 2


def test_what_a_sampler_of_its_own_repeats_is_told():
    ours, rebalanced, split = arguments(), arguments(gradient_accumulation_steps=2), arguments(batch=4)
    assert told_repeats(range(9), ours) is None
    rebalanced.train_sampling_strategy = "batch_rebalance"
    assert told_repeats(range(9), rebalanced).startswith("3 of 9 rows are trained twice in each epoch")
    assert told_repeats(range(12), rebalanced) is None  # four groups have a row each
    split.accelerator_config.split_batches = True
    assert told_repeats(range(9), split).startswith("3 of 9 rows are trained twice")
    assert told_repeats(range(8), split) is None
    assert own_rows(range(9), split) == 4
    # What the libraries do, for these nine rows.
    sampler = BatchSampler(SequentialSampler(range(9)), 4, drop_last=False)
    halves = [batch for index in range(2) for batch in BatchSamplerShard(sampler, 2, index, split_batches=True)]
    balanced = [
        batch for rank in range(2) for batch in BatchRebalanceSampler([5] * 9, 8, 2, 2, rank=rank, drop_last=False)
    ]
    assert [sum(map(len, batches)) for batches in (halves, balanced)] == [12, 12]


@pytest.mark.parametrize("joined", [False, True])
def test_a_repeated_row_has_neither_loss_nor_verdict(tokenizer, rows, joined):
    collator = DataCollatorForCritique(tokenizer, padding_free=joined, return_verdict_mask=True)
    batch, first = collator(rows[:3]), collator(rows[:1])
    lengths = batch.get("row_lengths")
    take_loss_off(batch, 1)
    counts = (batch["labels"] != -100).sum(), (batch["verdict_mask"] > 0).sum()
    assert counts == ((first["labels"] != -100).sum(), (first["verdict_mask"] > 0).sum())
    assert lengths is None or lengths.sum() == batch["labels"].shape[1]
    take_loss_off(batch, 0)
    assert (batch["labels"] == -100).all()
    assert not batch["verdict_mask"].any()


def test_a_batch_without_loss_has_no_gradient_and_no_nan(rows, make_config, tiny_model, tokenizer):
    """As a process has it that is left no row of its own."""
    trainer = CFTTrainer(tiny_model(tokenizer), make_config(), train_dataset=Dataset.from_list(rows),
                         processing_class=tokenizer)  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    take_loss_off(batch, 0)
    loss = trainer.training_step(trainer.model, batch, torch.tensor(7))
    assert loss == 0
    gradients = [parameter.grad for parameter in trainer.model.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


# ---- streams ---------------------------------------------------------------------------------------------------------


def stream(*files: int) -> IterableDataset:
    """Rows numbered through, in files of these many rows."""

    def numbers(parts):
        for part in parts:
            yield from ({"n": n} for n in part)

    starts = [sum(files[:i]) for i in range(len(files))]
    parts = [list(range(start, start + count)) for start, count in zip(starts, files, strict=True)]
    return IterableDataset.from_generator(numbers, gen_kwargs={"parts": parts})


def dealt(stream, batch, processes) -> list[list[int]]:
    """What accelerate gives each process of a stream of ours."""
    return [[row["n"] for row in IterableDatasetShard(stream, batch, False, processes, index)]
            for index in range(processes)]  # fmt: skip


def test_unequal_files_are_dealt_out_equally():
    files = stream(5, 1, 2)
    assert files.num_shards == 3
    whole = WholeStream(files, 4, endless=False)
    loader = SimpleNamespace(remainder=-1)
    whole.loader = lambda: loader
    assert dealt(whole, 2, 2) == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert loader.remainder == 0
    assert dealt(WholeStream(stream(5, 2), 4, endless=False), 2, 2) == [[0, 1, 4, 5], [2, 3, 6, 0]]


def test_an_evaluation_is_told_what_its_last_batch_repeats():
    loader = SimpleNamespace(remainder=-1)
    whole = WholeStream(stream(4, 1), 4, endless=False)
    whole.loader = lambda: loader
    assert len(list(whole)) == 5
    assert loader.remainder == 1


def test_training_passes_follow_each_other_and_are_shuffled_anew():
    rows = stream(5).shuffle(seed=1, buffer_size=5)
    two_passes = [row["n"] for row in islice(WholeStream(rows, 1, endless=True), 10)]
    assert sorted(two_passes[:5]) == sorted(two_passes[5:]) == [0, 1, 2, 3, 4]
    assert two_passes[:5] != two_passes[5:]
    assert two_passes == [row["n"] for row in islice(WholeStream(rows, 1, endless=True), 10)]


def test_an_empty_stream_ends():
    assert list(WholeStream(stream(3).filter(lambda row: False), 1, endless=True)) == []


def test_a_run_goes_on_in_the_second_pass_of_a_stream(rows, make_config, tiny_model, tokenizer, tmp_path):
    """18 rows, 4 a step: step 5 has two rows of each pass, and the counts stay those of a whole one."""

    def train(resume=None):
        config = make_config(max_steps=8, save_strategy="steps", save_steps=6)
        source = IterableDataset.from_generator(lambda: iter(rows[:18]))
        trainer = CFTTrainer(tiny_model(tokenizer), config, train_dataset=source, processing_class=tokenizer)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = train()
    resumed = train(str(tmp_path / "out" / "checkpoint-6"))
    numbers = [
        [(e["loss"], e["grad_norm"], e["verdict_count"]) for e in trainer.state.log_history if "loss" in e]
        for trainer in (whole, resumed)
    ]
    assert numbers[0] == numbers[1]
    assert [count for _, _, count in numbers[0]] == [4] * 8
    assert whole.preparation["train"].rows == resumed.preparation["train"].rows == 18


def test_a_broken_off_pass_leaves_the_counts_of_a_whole_one(rows, tokenizer):
    encoder, report = RowEncoder(tokenizer, Prompting()), PreparationReport("train")
    prepared = prepare_dataset(IterableDataset.from_generator(lambda: iter(rows * 6)), encoder, report)
    assert len(list(prepared)) == 240
    whole = report.to_dict()
    assert whole["rows"] == 240
    list(islice(prepared, 120))
    assert report.to_dict() == whole


def test_an_evaluation_drops_no_rows(rows, make_config, tiny_model, tokenizer):
    """transformers would evaluate none of 3 rows in batches of 8, and log no loss."""
    config = make_config(dataloader_drop_last=True, per_device_eval_batch_size=8, max_steps=1)
    given = {"train_dataset": Dataset.from_list(rows[:9]), "eval_dataset": Dataset.from_list(rows[9:12])}
    trainer = CFTTrainer(tiny_model(tokenizer), config, processing_class=tokenizer, **given)
    assert trainer.evaluate()["eval_verdict_count"] == 3
    assert config.dataloader_drop_last
    assert len(trainer.get_train_dataloader()) == 2
