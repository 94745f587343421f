#!/usr/bin/env bash
# A model folder written by transformers 5.23 is another model to transformers 4.57, without a word.
# Date: 2026-11-29
# Seen: transformers 5.23.0 writes the rotary base only as rope_parameters.rope_theta; 4.57.3 reads rope_theta at the top
#       of config.json, finds none and takes 10000 (llama3 scaling is gone too): "wrote 500000.0, 4.57 reads 10000.0".
#       A Qwen3-MoE's num_experts is written as num_local_experts, so that 4.57.3 (and 5.0.0) takes the default of 128:
#       "wrote 4 experts, 4.57 reads 128". Writing the older names beside the new ones is read right by both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
for version in 5.23.0 4.57.3; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install -q "transformers==$version" 2>/dev/null
done

"$work/5.23.0/bin/python" - "$work" <<'PY'
import sys
from transformers import LlamaConfig, Qwen3MoeConfig

scaled = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LlamaConfig(rope_parameters=scaled, max_position_embeddings=131072).save_pretrained(sys.argv[1] + "/llama")
Qwen3MoeConfig(num_experts=4).save_pretrained(sys.argv[1] + "/moe")
PY

"$work/4.57.3/bin/python" - "$work" <<'PY'
import json
import sys
from pathlib import Path

from transformers import AutoConfig

llama, moe = (AutoConfig.from_pretrained(f"{sys.argv[1]}/{name}") for name in ("llama", "moe"))
print(f"rope: wrote 500000.0, 4.57 reads {llama.rope_theta}, scaling {llama.rope_scaling}")
print(f"experts: wrote 4 experts, 4.57 reads {moe.num_experts}")
seen = (llama.rope_theta, llama.rope_scaling, moe.num_experts) == (10000.0, None, 128)
path = Path(sys.argv[1], "llama", "config.json")
told = json.loads(path.read_text())
path.write_text(json.dumps(told | {"rope_theta": told["rope_parameters"]["rope_theta"]}))
sys.exit(not (seen and AutoConfig.from_pretrained(path.parent).rope_theta == 500000.0))
PY
