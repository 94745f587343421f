#!/usr/bin/env bash
# transformers, two threads that load a model at once: of a model whose head is its embedding, the head comes out random.
# Date: 2026-12-01
# Seen: transformers 5.23.0, torch 2.13.0, CPU: two threads load one folder, a tiny Llama with tie_word_embeddings, 60 times
#       with AutoModelForCausalLM.from_pretrained. Of the 60 models 57 to 60 answer otherwise than the saved one: their
#       lm_head is a tensor of its own, newly drawn. So do all 60 that one thread alone loads afterwards: for as long as a
#       model loads, the tying is taken out of a class that all models share, and of two loads at once the second puts
#       back what the first had put there. No error is raised; the load report, a warning, names the head as missing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 2>/dev/null
cat > "$work/load.py" <<'PY'
import sys
from concurrent.futures import ThreadPoolExecutor

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.manual_seed(0)
config = LlamaConfig(vocab_size=400, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
                     tie_word_embeddings=True)
saved = LlamaForCausalLM(config).eval()
saved.save_pretrained(sys.argv[1])
tokens = torch.arange(20)[None]
right = saved(tokens).logits


def wrong(threads):
    with ThreadPoolExecutor(threads) as pool:
        models = list(pool.map(AutoModelForCausalLM.from_pretrained, [sys.argv[1]] * 60))
    return sum(not torch.allclose(model.eval()(tokens).logits, right, atol=1e-5) for model in models)


one, two, after = wrong(1), wrong(2), wrong(1)
print(f"SEEN of 60 models not the saved one: {one} when one thread loads, {two} when two do, {after} by one thread again")
sys.exit(not (one == 0 and two > 0 and after > 0))
PY
"$work/venv/bin/python" "$work/load.py" "$work/model"
