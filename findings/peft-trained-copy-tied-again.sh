#!/usr/bin/env bash
# tie_weights() ties a tied model's head to the embeddings that PEFT trains beside an adapter; what is saved knows nothing of it.
# Date: 2026-11-29
# Seen: peft 0.21.2, transformers 5.23.0, a model with tie_word_embeddings and modules_to_save=["embed_tokens"]: PEFT trains a
#       copy of the embeddings and leaves the head on the frozen ones. After model.tie_weights(), which accelerate 1.15
#       calls twice when it shards by FSDP2, the head is the copy: training goes on as another model, and the adapter
#       that is saved, loaded by PeftModel.from_pretrained, gives the logits of neither training nor an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 peft==0.21.2 2>/dev/null
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - "$work" <<'PY'
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
torch.manual_seed(0)
base, ids, seen = f"{sys.argv[1]}/base", torch.arange(20)[None], []
LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                             num_attention_heads=4, tie_word_embeddings=True)).save_pretrained(base)
for again in (False, True):
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    if again:
        model.tie_weights()
    copy = model.get_input_embeddings().modules_to_save["default"].weight
    same = model.get_output_embeddings().weight is copy
    with torch.no_grad():
        copy.add_(0.3 * torch.rand_like(copy))  # as training would
        model.eval().save_pretrained(f"{sys.argv[1]}/adapter")
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), f"{sys.argv[1]}/adapter").eval()
        off = (loaded(ids).logits - model(ids).logits).abs().max().item()
    told = "after tie_weights()" if again else "as PEFT makes it"
    print(f"{told}: the head is the trained copy: {same}; saved and loaded, logits off by {off:.1e}")
    seen.append((same, off < 1e-5))
sys.exit(seen != [(False, True), (True, False)])
PY
