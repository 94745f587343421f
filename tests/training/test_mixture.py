"""Several datasets in one run: what is drawn, what is counted for which part, and losses that add up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import make_model
from datasets import Dataset, concatenate_datasets

from cft_trl import CFTTrainer
from cft_trl.data.prompts import Prompting, Wording
from cft_trl.data.verdict_vocabulary import read_verdicts
from cft_trl.errors import CFTError
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.training.encoded import MOST_PARTS, PART, RIGHT, VERDICT_CONTINUES, WRONG
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.mixture import NOT_DRAWN, DatasetPart, rows_to_draw, settled_parts
from cft_trl.training.preparation import FEATURE_COLUMNS, RowEncoder
from cft_trl.training.prepare import prepare_dataset

WAYS = [{}, {"packing": True}, {"share_prefixes": "true"}, {"padding_free": True}]


@pytest.fixture(scope="module")
def critiques():
    return Dataset.from_list(list(arithmetic_records(24, seed=1, levels=(1,))))


@pytest.fixture(scope="module")
def solutions():
    return Dataset.from_list(list(arithmetic_records(16, seed=2, levels=(1,))))


def mixed(critiques, solutions, *weights):
    first, second = weights or (None, None)
    return [
        DatasetPart(critiques, weight=first, name="critiques"),
        DatasetPart(solutions, "sft", "refinement", "compact", weight=second, name="solutions"),
    ]


@pytest.fixture
def trainer_of(make_config, tokenizer):
    def make(train, evaluated=None, model=None, **settings):
        model = make_model(tokenizer) if model is None else model
        given = {"train_dataset": train, "eval_dataset": evaluated, "processing_class": tokenizer}
        return CFTTrainer(model, make_config(**settings), **given)

    return make


# ---- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "weights", "strategy", "drawn"),
    [([4000, 2000], [0.8, 0.2], "first_exhausted", [4000, 1000]),
     ([4000, 500], [0.8, 0.2], "first_exhausted", [2000, 500]),
     ([4000, 500], [0.8, 0.2], "all_exhausted", [4000, 1000]),
     ([10, 10, 10], [1, 1, 2], "first_exhausted", [5, 5, 10]),
     ([7, 7], [3, 3], "all_exhausted", [7, 7]),
     ([7, 3], [None, None], "first_exhausted", [7, 3])],
)  # fmt: skip
def test_how_many_rows_a_weight_draws(sizes, weights, strategy, drawn):
    assert rows_to_draw(sizes, weights, strategy) == drawn


def test_no_part_is_ever_asked_for_more_rows_than_it_has():
    shares = (0.1, 0.3, 1 / 3, 0.7, 2, 17)
    for first in (1, 3, 10, 997):
        for second in (1, 7, 1000):
            for one in shares:
                for other in shares:
                    counts = rows_to_draw([first, second], [one, other])
                    assert all(count <= size for count, size in zip(counts, (first, second), strict=True))
                    assert first in counts or second in counts


def texts(trainer, tokenizer):
    return [tokenizer.decode(ids) for ids in trainer.train_dataset["input_ids"]]


def test_rows_are_drawn_by_the_seed_and_never_twice(trainer_of, tokenizer, critiques, solutions):
    parts = mixed(critiques, solutions, 0.75, 0.25)
    first, again, other = (texts(trainer_of(parts, seed=seed), tokenizer) for seed in (1, 1, 2))
    assert first == again
    assert sorted(first) != sorted(other), "another seed draws other rows"
    assert len(set(first)) == len(first) == 32
    assert sum("Please critique" in text for text in first) == 24
    by_part = ["Please critique" in text for text in first]
    assert by_part != sorted(by_part), "the parts are mixed"
    assert by_part != sorted(by_part, reverse=True)


def test_without_weights_all_rows_are_trained(trainer_of, tokenizer, critiques, solutions):
    found = texts(trainer_of(mixed(critiques, solutions)), tokenizer)
    assert len(set(found)) == len(found) == 40


def test_all_exhausted_repeats_the_smaller_part_evenly(trainer_of, tokenizer, critiques, solutions):
    trainer = trainer_of(mixed(critiques, solutions.select(range(5)), 0.5, 0.5), mixture_strategy="all_exhausted")
    found = Counter(text for text in texts(trainer, tokenizer) if "Please critique" not in text)
    assert sorted(found.values()) == [4, 5, 5, 5, 5]
    report = trainer.preparation["train/solutions"]
    assert (report.rows, report.used, report.repeats) == (5, 5, 19)
    assert "repeated to 24" in str(report)
    trained = [len(row) - row.count(-100) for row in trainer.train_dataset["labels"]]
    assert trainer.preparation["train"].target_tokens == sum(trained)
    assert trainer.preparation["train"].tokens == sum(map(len, trainer.train_dataset["input_ids"]))


def test_every_row_is_accounted_for(trainer_of, rows, critiques):
    silent = [{**row, "refinement": None} for row in rows[:3]]
    trainer = trainer_of(mixed(critiques, Dataset.from_list(rows[3:] + silent), 0.8, 0.2))
    reports = trainer.preparation
    assert list(reports) == ["train", "train/critiques", "train/solutions"]
    part = reports["train/solutions"]
    assert part.dropped == {"no refinement": 3, NOT_DRAWN: 31}
    assert (part.rows, part.used, part.right, part.wrong) == (40, 6, 0, 0)
    whole, first = reports["train"], reports["train/critiques"]
    assert (whole.rows, whole.used, whole.right) == (64, 30, first.right)
    assert whole.target_tokens == first.target_tokens + part.target_tokens
    trained = [len(row) - row.count(-100) for row in trainer.train_dataset["labels"]]
    assert whole.target_tokens == sum(trained)


# ---- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["chatml", "llama3", "gemma", "base"])
def test_tokens_are_those_of_the_parts_alone(style, tokenizers, make_config, critiques, solutions):
    tokenizer = tokenizers(style)
    trainer = CFTTrainer(
        make_model(tokenizer), make_config(), train_dataset=mixed(critiques, solutions), processing_class=tokenizer
    )
    found = Counter()
    for row in trainer.train_dataset:
        numbers = {
            mask // PART for mask, label in zip(row["verdict_mask"], row["labels"], strict=True) if label != -100
        }
        assert len(numbers) == 1, "a row is of one part"
        assert all(not mask for mask, label in zip(row["verdict_mask"], row["labels"], strict=True) if label == -100)
        found[numbers.pop(), tuple(row["input_ids"]), tuple(row["labels"])] += 1
    alone = Counter()
    for number, part in enumerate(settled_parts(mixed(critiques, solutions), make_config())):
        made = prepare_dataset(part.rows, RowEncoder(tokenizer, part.prompting, 512), PreparationReport("alone"))
        alone.update((number, tuple(row["input_ids"]), tuple(row["labels"])) for row in made)
    assert found == alone


def test_a_mask_tells_32_parts_and_their_verdicts_apart(tokenizer, rows):
    encoder = RowEncoder(tokenizer, Prompting(), part=MOST_PARTS - 1)
    made = prepare_dataset(Dataset.from_list(rows), encoder, PreparationReport("train"))
    plain = prepare_dataset(Dataset.from_list(rows), RowEncoder(tokenizer, Prompting()), PreparationReport("train"))
    for mask, before, labels in zip(made["verdict_mask"], plain["verdict_mask"], made["labels"], strict=True):
        assert [value % PART for value in mask] == before
        assert [value // PART for value in mask] == [MOST_PARTS - 1 if label != -100 else 0 for label in labels]
        assert {RIGHT, WRONG, VERDICT_CONTINUES} & set(before)


@pytest.mark.parametrize("way", WAYS[1:3])
def test_a_pack_may_hold_both_parts(way, trainer_of, critiques, solutions):
    trainer = trainer_of(mixed(critiques, solutions), **way)
    packs = [zip(pack["verdict_mask"], pack["labels"], strict=True) for pack in trainer.train_dataset]
    assert {0, 1} in [{value // PART for value, label in pack if label != -100} for pack in packs]


# ---- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_losses_of_a_mixture_are_those_of_its_parts(way, trainer_of, tokenizer, critiques, solutions):
    model = make_model(tokenizer)
    parts = mixed(critiques, solutions)
    whole = trainer_of(parts, parts, model, **way).evaluate()
    asked = {"objective": "sft", "sft_target": "refinement", "prompt_preset": "compact"}
    alone = [trainer_of(critiques, critiques, model, **way), trainer_of(solutions, solutions, model, **asked, **way)]
    told = [trainer.evaluate() for trainer in alone]
    tokens = [trainer.preparation["eval"].target_tokens for trainer in alone]
    first, second = told[0]["eval_critique_loss"], told[1]["eval_target_loss"]
    assert whole["eval_loss_critiques"] == whole["eval_critique_loss"] == pytest.approx(first, rel=1e-6)
    assert whole["eval_loss_solutions"] == pytest.approx(second, rel=1e-6)
    mean = (first * tokens[0] + second * tokens[1]) / sum(tokens)
    assert whole["eval_target_loss"] == pytest.approx(mean, rel=1e-6)
    assert first != pytest.approx(second, rel=1e-4), "the parts differ, or nothing was tested"
    for name in ("verdict_count", "verdict_accuracy", "verdict_accuracy_right", "verdict_accuracy_wrong"):
        assert whole[f"eval_{name}"] == told[0][f"eval_{name}"], "rows of sft have no verdict"
    assert "eval_verdict_count" not in told[1]


@pytest.mark.parametrize("way", WAYS[:3])
def test_what_is_trained_is_the_mean_over_all_target_tokens(way, trainer_of, tokenizer, critiques, solutions):
    trainer = trainer_of(mixed(critiques, solutions), per_device_train_batch_size=40, max_steps=1, **way)
    trainer.train()
    logs = trainer.state.log_history[0]
    tokens = [trainer.preparation[f"train/{name}"].target_tokens for name in ("critiques", "solutions")]
    mean = (logs["loss_critiques"] * tokens[0] + logs["loss_solutions"] * tokens[1]) / sum(tokens)
    assert logs["loss"] == pytest.approx(mean, rel=1e-5)
    assert logs["target_loss"] == pytest.approx(mean, rel=1e-6)
    assert logs["critique_loss"] == logs["loss_critiques"]
    assert logs["verdict_count"] == 24


def test_parts_of_one_objective_have_the_metrics_of_one_dataset(trainer_of, critiques, solutions):
    trainer = trainer_of([DatasetPart(critiques), DatasetPart(solutions)], critiques)
    told = trainer.evaluate()
    assert "eval_target_loss" not in told
    assert not [name for name in told if name.startswith("eval_loss_")], "the evaluation is of one dataset"
    trainer.train()
    assert {"critique_loss", "loss_cft", "loss_cft-2"} <= set(trainer.state.log_history[-2])


def test_another_dataset_is_evaluated_as_itself(trainer_of, critiques, solutions):
    parts = mixed(critiques, solutions)
    trainer = trainer_of(parts, parts)
    other = trainer.evaluate(critiques)
    assert not [name for name in other if name.startswith("eval_loss_")]
    assert other["eval_critique_loss"] == pytest.approx(trainer.evaluate()["eval_loss_critiques"], rel=1e-6)
    with pytest.raises(CFTError, match="give a mixture to CFTTrainer"):
        trainer.evaluate(parts)


def test_verdict_weight_is_of_critiques_only(trainer_of, tokenizer, critiques, solutions):
    losses = {}
    for weight in (1.0, 3.0):
        trainer = trainer_of(
            mixed(critiques, solutions), verdict_weight=weight, per_device_train_batch_size=40, max_steps=1
        )
        trainer.train()
        losses[weight] = trainer.state.log_history[0]["loss"]
    only = trainer_of(critiques, verdict_weight=3.0, per_device_train_batch_size=40, max_steps=1)
    only.train()
    plain = trainer_of(critiques, per_device_train_batch_size=40, max_steps=1)
    plain.train()
    share = trainer.preparation["train/critiques"].target_tokens / trainer.preparation["train"].target_tokens
    gain = only.state.log_history[0]["loss"] - plain.state.log_history[0]["loss"]
    assert gain > 0.1
    assert losses[3.0] - losses[1.0] == pytest.approx(gain * share, rel=1e-4)


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_run_goes_on_bit_by_bit(way, trainer_of, critiques, solutions):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2, **way}
    parts = mixed(critiques, solutions, 0.75, 0.25)
    whole = trainer_of(parts, **settings)
    whole.train()
    again = trainer_of(parts, **settings)
    again.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-2")
    assert again.state.log_history[-2]["loss"] == whole.state.log_history[-2]["loss"]
    mine = again.model.state_dict()
    assert all(torch.equal(weight, mine[name]) for name, weight in whole.model.state_dict().items())


# ---- wordings --------------------------------------------------------------------------------------------------------

WORDS = {"right": "accept", "wrong": "reject"}
TEMPLATE = "Review.\n{{ query }}\n{{ response }}"


def in_words(critiques):
    return critiques.map(
        lambda row: {"critique": row["critique"].replace(": right", ": accept").replace(": wrong", ": reject")}
    )


@pytest.mark.parametrize("preset", [None, "paper", "compact"])
def test_a_part_with_a_preset_has_the_runs_verdict_words(preset, trainer_of, critiques, solutions):
    parts = [DatasetPart(in_words(critiques), prompt_preset=preset, name="critiques"), DatasetPart(solutions, "sft")]
    trainer = trainer_of(parts, parts, verdicts=WORDS, prompt_preset=preset or "paper")
    report = trainer.preparation["train/critiques"]
    assert report.right + report.wrong == 24
    assert any(mask % PART for row in trainer.train_dataset["verdict_mask"] for mask in row)
    assert trainer.evaluate()["eval_verdict_count"] == 24


def test_a_part_of_another_objective_has_the_runs_verdict_words(trainer_of, critiques, solutions):
    parts = [DatasetPart(in_words(critiques), "cft", name="critiques"), DatasetPart(solutions, "sft")]
    trainer = trainer_of(parts, objective="sft", verdicts=WORDS)
    report = trainer.preparation["train/critiques"]
    assert report.right + report.wrong == 24


def test_a_preset_of_a_part_stands_in_the_place_of_the_runs_template(make_config, critiques):
    parts = [DatasetPart(critiques), DatasetPart(critiques, prompt_preset="compact")]
    own, preset = (one.prompt_preset for one in settled_parts(parts, make_config(prompt=TEMPLATE, verdicts=WORDS)))
    words = read_verdicts(WORDS)
    assert own == Wording(TEMPLATE, words)
    assert preset == Wording(None, words, "compact")


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [(lambda a, b: [], "has no parts"),
     (lambda a, b: [a, b.rows], "part 2: give a DatasetPart, not Dataset"),
     (lambda a, b: [DatasetPart(a.rows, "dpo")], "part dpo: objective=dpo: unknown"),
     (lambda a, b: [a, DatasetPart(b.rows, "cft", "refinement", name="b")], "part b: sft_target=refinement with"),
     (lambda a, b: [a, DatasetPart(b.rows, "sft", weight=0.5, name="b")], "part critiques: it has no weight"),
     (lambda a, b: [DatasetPart(a.rows, weight=0)], "part cft: weight=0: give a number above 0"),
     (lambda a, b: [DatasetPart(a.rows, weight=float("nan"))], "weight=nan"),
     (lambda a, b: [a, DatasetPart(b.rows.to_iterable_dataset(), "sft")], "part sft: it is a stream"),
     (lambda a, b: [a, DatasetPart([{"query": "?"}], "sft")], "part sft: rows are no Dataset but list"),
     (lambda a, b: [a, DatasetPart(b.rows.select([]), "sft")], "part sft: it holds no rows"),
     (lambda a, b: [b], r"objective=cft, by which .* none of its parts' .sft"),
     (lambda a, b: [DatasetPart(a.rows, prompt_preset="compact")], "prompt_preset=paper, in which the model is asked"),
     (lambda a, b: [a] * 33, "33 parts; give at most 32"),
     (lambda a, b: [DatasetPart(a.rows, weight=1), DatasetPart(b.rows, "sft", weight=1e-6)],
      "part sft: its weight=1e-06 draws none of its 16 rows"),
     (lambda a, b: [a, DatasetPart(b.rows.remove_columns("refinement"), "sft", "refinement", name="b")],
      "no row of the train/b dataset can be used for objective sft: 16 no refinement")],
)  # fmt: skip
def test_a_mixture_that_cannot_be(change, told, trainer_of, critiques, solutions):
    with pytest.raises(CFTError, match=told):
        trainer_of(change(*mixed(critiques, solutions)))


def test_settings_that_are_of_mixtures_only(trainer_of, make_config, critiques, solutions):
    with pytest.raises(CFTError, match="mixture_strategy=all_exhausted belongs to a mixture"):
        trainer_of(critiques, mixture_strategy="all_exhausted")
    with pytest.raises(CFTError, match="needs weights"):
        trainer_of(mixed(critiques, solutions), mixture_strategy="all_exhausted")
    with pytest.raises(CFTError, match="mixture_strategy=all: unknown"):
        make_config(mixture_strategy="all")
    with pytest.raises(CFTError, match="a mixture as one of its datasets"):
        trainer_of(critiques, {"one": mixed(critiques, solutions)})


# ---- the record ------------------------------------------------------------------------------------------------------


def test_a_run_writes_down_its_parts(trainer_of, critiques, solutions):
    trainer = trainer_of(mixed(critiques, solutions, 3, 1), max_steps=1)
    trainer.train()
    sources = [{"path": "org/critiques", "config": "50K", "revision": "abc"}, {"path": "org/solutions"}]
    (Path(trainer.args.output_dir) / "settings.json").write_text(json.dumps({"datasets": sources}))
    trainer.create_model_card()
    told = json.loads((Path(trainer.args.output_dir) / "training.json").read_text())["dataset"]
    assert [(part["name"], part["objective"], part["weight"], part["rows"]) for part in told["parts"]] == [
        ("critiques", "cft", 3, 24), ("solutions", "sft", 1, 8)]  # fmt: skip
    assert told["teachers"] == {"reference": 24}, "of the critiques that are learnt"
    card = (Path(trainer.args.output_dir) / "README.md").read_text()
    assert "datasets:\n- org/critiques\n- org/solutions\n" in card
    assert "24 rows of org/critiques, configuration 50K, revision `abc`" in card
    assert "critique fine-tuning, mixed with supervised fine-tuning" in card
    assert "- `solutions` (sft, refinement, prompt compact, weight 1): 8 rows" in card
    assert f"| train/solutions | 16 | 8 | 0 | 8 {NOT_DRAWN} |" in card


def test_the_quickstart_trains_the_tokens_it_always_did(trainer_of, tokenizer, make_config):
    """As it was before it used parts: each file prepared by hand, joined, shuffled, packed."""
    from cft_trl.commands.quickstart_rows import make_rows, mixture
    from cft_trl.data.records import features
    from cft_trl.training.prefix_sharing.packs import share_dataset

    rows = make_rows(rows=40, solutions=20, heldout=1, seed=0)
    by_hand = []
    for file, prompting in (
        ("train", Prompting("cft", preset="compact")),
        ("solve", Prompting("sft", "refinement", "compact")),
    ):
        encoder = RowEncoder(tokenizer, prompting, 512, "error")
        by_hand.append(
            prepare_dataset(Dataset.from_list(rows[file], features=features()), encoder, PreparationReport(file))
        )
    packs, _ = share_dataset(concatenate_datasets(by_hand).shuffle(seed=7), 512)
    settings = {"seed": 7, "share_prefixes": "true", "prompt_preset": "compact", "over_length": "error"}
    found = trainer_of(mixture(rows), **settings).train_dataset
    for name in ("input_ids", "labels", "seen_until"):
        assert found[name][:] == packs[name][:]
    assert [[value % PART for value in mask] for mask in found["verdict_mask"]] == packs["verdict_mask"][:]
    assert set(FEATURE_COLUMNS) < set(found.column_names)
