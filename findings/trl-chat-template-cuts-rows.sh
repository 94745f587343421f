#!/usr/bin/env bash
# A chat template taken from another model cuts the embeddings of a base that is padded, and its adapter no longer fits the base.
# Date: 2026-11-29
# Seen: trl 1.16.0, peft 0.21.2, transformers 5.23.0: SFTConfig(chat_template_path="donor") calls clone_chat_template, which
#       resizes to the tokens that there are, rounded up to 64. A base with more rows than tokens (Qwen2.5 has 151,936 for
#       151,665) gets fewer. PEFT saves head and embeddings with that many rows, and PeftModel.from_pretrained on
#       the base that adapter_config.json names refuses them: size mismatch.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 trl==1.16.0 peft==0.21.2 2>/dev/null
HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES="" "$work/venv/bin/python" - "$work" <<'PY' 2>/dev/null
import sys

from datasets import Dataset
from peft import LoraConfig, PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

work = sys.argv[1]
base, donor, run = f"{work}/base", f"{work}/donor", f"{work}/run"
words = ["<unk>", "<eos>", "user", "assistant", *(f"w{i}" for i in range(96))]
split = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
split.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=split, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")
LlamaForCausalLM(LlamaConfig(vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                             num_attention_heads=4)).save_pretrained(base)
tokenizer.save_pretrained(base)
tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>"]})
tokenizer.eos_token = "<end>"
tokenizer.chat_template = (
    "{% for m in messages %}<turn> {{ m.role }} {{ m.content }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<turn> assistant {% endif %}"
)
tokenizer.save_pretrained(donor)
LlamaConfig().save_pretrained(donor)
rows = [{"messages": [{"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": "w3"}]}] * 4
trainer = SFTTrainer(
    base, SFTConfig(run, use_cpu=True, bf16=False, max_steps=1, report_to="none", chat_template_path=donor),
    train_dataset=Dataset.from_list(rows), peft_config=LoraConfig(r=4, task_type="CAUSAL_LM"),
)
trained = trainer.model.get_input_embeddings().weight.shape[0]
trainer.train()
trainer.save_model(run)
print("rows for tokens: the base 256, in training", trained)
try:
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), run)
    refused = "no"
except RuntimeError as error:
    refused = "yes" if "size mismatch" in str(error) else str(error)
print("the saved adapter is refused on its base for its size:", refused)
sys.exit(not (trained == 128 and refused == "yes"))
PY
