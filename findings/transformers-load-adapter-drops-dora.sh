#!/usr/bin/env bash
# transformers' load_adapter loads a DoRA adapter without its magnitudes: a table of MISSING keys, no error, another model.
# Date: 2026-11-29
# Seen: transformers 5.23.0 with peft 0.21.2: model.load_adapter(folder), and AutoModelForCausalLM.from_pretrained(folder),
#       leave every lora_magnitude_vector as it is made for the base's weights: PEFT saves the key without ".weight", and
#       transformers looks for it under the name that the module has. LoRA adapters are loaded exactly.
#       PeftModel.from_pretrained(base, folder) loads both exactly.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 peft==0.21.2 2>/dev/null
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - "$work" <<'PY'
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
base, ids, seen = f"{sys.argv[1]}/base", torch.arange(20)[None], {}
LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                             num_attention_heads=4)).save_pretrained(base)
for dora in (False, True):
    folder = f"{sys.argv[1]}/adapter-{dora}"
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], use_dora=dora, task_type="CAUSAL_LM")
    trained = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.rand_like(parameter))
        trained.eval().save_pretrained(folder)
        by_load_adapter = AutoModelForCausalLM.from_pretrained(base)
        by_load_adapter.load_adapter(folder)
        readers = {
            "load_adapter": by_load_adapter,
            "AutoModelForCausalLM": AutoModelForCausalLM.from_pretrained(folder),
            "PeftModel": PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder),
        }
        for name, model in readers.items():
            off = (model.eval()(ids).logits - trained(ids).logits).abs().max().item()
            seen[dora, name] = off < 1e-5
            print(f"{'DoRA' if dora else 'LoRA'} by {name}: logits off by {off:.1e}")
sys.exit(list(seen.values()) != [True, True, True, False, False, True])
PY
