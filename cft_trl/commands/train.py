"""`cft train`: critique fine-tuning from a YAML file, from flags, or from both."""

from __future__ import annotations

import os

from cft_trl.commands.settings import parse_settings

HELP = """\
Critique fine-tuning from a YAML file, from flags, or from both (flags win).

examples:
  cft train --config recipes/smollm2-135m/cft.yaml
  cft train --model_name_or_path smollm2-135m --dataset_name arithmetic --dataset_limit 2000 --output_dir runs/a
  cft train --config recipes/smollm2-135m/cft.yaml --dataset_name rows.jsonl --dataset_columns verdict=label
  accelerate launch --config_file recipes/accelerate/zero3.yaml recipes/cft.py --config recipes/qwen2.5-math-7b/cft.yaml

the fields people change most:
  --dataset_name          Hub id, file, folder, or arithmetic (embedded)
  --datasets              several, each with an objective and a weight: a.jsonl '{path: b.jsonl, objective: sft}'
  --dataset_columns       house=data pairs: query=problem,verdict=label
  --append_verdict        write a row's verdict under a critique that does not state it
  --dataset_limit N       use N rows          --eval_rows N    hold N rows out
  --model_name_or_path    Hub id, folder, or smollm2-135m
  --output_dir            where everything goes; the same command goes on after an interruption
  --objective             cft (critiques), cgd (refinements), sft (answers; --sft_target response|right_only|refinement)
  --max_length N          longest row, tokens  --over_length    shorten_response | drop | error
  --packing               several rows per sequence, kept apart exactly
  --prompt_preset         paper (byte for byte) | compact | per_step
  --prompt FILE           a prompt of your own, as Jinja2   --verdicts '{right: accept, wrong: reject}'
  --verdict_weight W      factor on the loss of the verdict's tokens
  --learning_rate, --num_train_epochs, --max_steps, --per_device_train_batch_size, --use_peft, --report_to, …

every field of CFTConfig, transformers' TrainingArguments and TRL's ModelConfig works: cft train --help-all
"""


def run(argv: list[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    from cft_trl.training.extension_locks import tell_while_waiting, waits_no_longer
    from cft_trl.training.launch import end_with_launcher, uses_deepspeed

    end_with_launcher()
    if uses_deepspeed(argv) and os.environ.get("LOCAL_RANK", "0") == "0":
        tell_while_waiting()
    try:
        script, config, model = parse_settings(["--help" if word == "--help-all" else word for word in argv])
        from cft_trl.training.script import run_training

        run_training(script, config, model)
    finally:
        waits_no_longer()
    return 0
