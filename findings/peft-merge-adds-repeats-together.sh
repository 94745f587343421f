#!/usr/bin/env bash
# PEFT merges a LoRA adapter that repeats layers of its base, each repeat with the changes of all, and refuses nothing.
# Date: 2026-11-30
# Seen: peft 0.21.2, transformers 5.23.0, torch 2.13.0: with layer_replication [[0, 2], [0, 2]] the repeats share their
#       weights and have LoRA weights of their own, which no merge can keep apart. LoraModel._check_merge_allowed means to
#       refuse it, but asks peft_config, by then a dict by adapter's name, for "layer_replication", which it never has. So
#       merge_adapter, and merge_and_unload with safe_merge or without, add every repeat's change to the one weight:
#       logits off by 1.4 times the largest of them, no error, where without layer_replication they are off by 3e-7.
#       save_pretrained of what was merged is the first to refuse (RuntimeError: shared tensors).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 peft==0.21.2 2>/dev/null
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - "$work" <<'PY'
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

ids, seen = torch.arange(20)[None], []
for repeats in (None, [[0, 2], [0, 2]]):
    for how in ("merge_adapter", "merge_and_unload", "safe merge_and_unload"):
        torch.manual_seed(0)
        base = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                            num_attention_heads=4))
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], layer_replication=repeats, task_type="CAUSAL_LM")
        model = get_peft_model(base, config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.3 * torch.rand_like(parameter))
            wanted = model(ids).logits
            if how == "merge_adapter":
                merged = model
                model.merge_adapter()
            else:
                merged = model.merge_and_unload(safe_merge=how.startswith("safe"))
            off = ((merged(ids).logits - wanted).abs().max() / wanted.abs().max()).item()
        print(f"layer_replication {repeats}, {how}: logits off by {off:.1e} of the largest")
        seen.append(off > 1 if repeats else off < 1e-5)
try:
    merged.save_pretrained(f"{sys.argv[1]}/merged")
    seen.append(False)
except RuntimeError as error:
    print("saving the last:", str(error)[:70])
    seen.append("shared tensors" in str(error))
sys.exit(not all(seen))
PY
