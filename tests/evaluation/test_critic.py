"""Generation, verdict scores, intervals and the model card."""

from __future__ import annotations

import re

import pytest

from cft_trl.data.prompts import Prompting
from cft_trl.errors import CFTError
from cft_trl.evaluation.critic import generate_verdicts, score_verdicts
from cft_trl.generation.modes import critique, cut_at_stop, generate, solve
from cft_trl.grading.intervals import wilson_interval


def test_wilson_interval_against_published_values():
    # Newcombe 1998, table I, method 3: 81/263 and 15/148, 0/20, 1/29.
    for hits, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
                                   (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(20, 20)[1] == 1.0


def test_scores_count_a_missing_verdict_as_a_miss():
    judged = [{"truth": t, "verdict": v} for t, v in (("right", "right"), ("right", None), ("wrong", "right"),
              ("wrong", "wrong"), ("wrong", "wrong"))]  # fmt: skip
    score = score_verdicts(judged)
    assert (score["hits"], score["rows"], score["accuracy"], score["no_verdict"]) == (3, 5, 0.6, 1)
    assert score["majority_rate"] == 0.6
    assert (score["accuracy_right"], score["accuracy_wrong"]) == (0.5, 2 / 3)


def test_rows_without_a_label_are_refused(tokenizer, tiny_model, rows):
    with pytest.raises(CFTError, match="row 1: column 'verdict' is None"):
        generate_verdicts(tiny_model(tokenizer), tokenizer, [rows[0], {**rows[1], "verdict": None}])


def test_generation_does_not_depend_on_the_batch(tokenizer, tiny_model, rows):
    model = tiny_model(tokenizer)
    turns = [row["query"] for row in rows[:5]]
    alone = [generate(model, tokenizer, [turn], max_new_tokens=12)[0] for turn in turns]
    assert generate(model, tokenizer, turns, max_new_tokens=12, batch_size=3) == alone
    assert solve(model, tokenizer, turns[:2], max_new_tokens=12) == alone[:2]
    assert model.training


def test_stop_strings():
    assert cut_at_stop("a **END** b [END]", ("[END]", "**END**")) == "a **END**"
    assert cut_at_stop("a b", ("[END]",)) == "a b"


@pytest.mark.parametrize("style", ["chatml", "base"])
def test_a_model_that_knows_the_critique_is_scored_right(tokenizers, tiny_model, rows, tmp_path, style):
    """Overfits four rows and reads its verdicts back through the whole chain: same prompt in training and in use."""
    from datasets import Dataset

    from cft_trl import CFTConfig, CFTTrainer

    tokenizer = tokenizers(style)
    config = CFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", learning_rate=1e-2, max_steps=150,
                       gradient_checkpointing=False, save_strategy="no", disable_tqdm=True)  # fmt: skip
    dataset = Dataset.from_list(rows[:4])
    trainer = CFTTrainer(tiny_model(tokenizer), config, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    assert critique(trainer.model, tokenizer, rows[:4], max_new_tokens=150) == [
        Prompting().completion(row) for row in rows[:4]
    ]
    judged = generate_verdicts(trainer.model, tokenizer, rows[:4], max_new_tokens=150)
    assert score_verdicts(judged)["accuracy"] == 1.0


def test_card_code_runs(tokenizers, tiny_model, rows, tmp_path):
    """The usage block of a written card, executed as it stands."""
    from cft_trl import CFTConfig
    from cft_trl.hub.run_card import write_model_card
    from cft_trl.training.lengths import PreparationReport

    tiny_model(tokenizers("chatml")).save_pretrained(tmp_path)
    tokenizers("chatml").save_pretrained(tmp_path)
    config = CFTConfig(str(tmp_path), use_cpu=True, report_to="none")
    path = write_model_card(
        tmp_path, base_model="owner/base", config=config, preparation={"train": PreparationReport()}
    )
    text = path.read_text()
    assert text.startswith("---\n")
    assert "base_model: owner/base" in text
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block.replace("max_new_tokens=256", "max_new_tokens=4"), "card", "exec"), {})
