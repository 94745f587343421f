#!/usr/bin/env bash
# TRL's fused LM head gives a head that FSDP2 has sharded on its own the gradient of one process in the place of all.
# Date: 2026-11-29
# Seen: trl 1.16.0 with torch 2.13.0, two processes: add_fused_lm_head gathers a sharded head with weight.full_tensor(), and
#       autograd takes the gradient of what that returns to be the same on every process. It is not: each has other
#       rows. So each process keeps, of the rows of the head that it owns, its own gradient, where the mean is meant:
#       the result is neither process's and not the mean. full_tensor(grad_placements=[Partial("avg")]) gives the mean.
#       It does not show where FSDP2 has gathered the head by then (accelerate puts it into one group with the last
#       norm), and shows where a PEFT model trains it (modules_to_save: [lm_head]), whose norm accelerate does not find.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 trl==1.16.0 2>/dev/null
cat > "$work/head.py" <<'PY'
import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

dist.init_process_group("gloo")
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                                     num_attention_heads=4))
add_fused_lm_head(model)
ids = torch.randint(64, (1, 20), generator=torch.Generator().manual_seed(dist.get_rank()))


def gradient():
    model.zero_grad()
    model(ids, labels=ids, fused_lm_head=True).loss.backward()
    found = model.lm_head.weight.grad
    return found.full_tensor() if isinstance(found, DTensor) else found.clone()


mean = gradient()
dist.all_reduce(mean)
mean /= dist.get_world_size()
fully_shard(model.lm_head)
fully_shard(model)
as_it_is = gradient()
gather = DTensor.full_tensor
DTensor.full_tensor = lambda self: gather(self, grad_placements=[Partial("avg")])
averaged = model.zero_grad() or model(ids, labels=ids, fused_lm_head=True).loss.backward() or model.lm_head.weight.grad
DTensor.full_tensor = gather
averaged = averaged.full_tensor()
off = [((found - mean).norm() / mean.norm()).item() for found in (as_it_is, averaged)]
if dist.get_rank() == 0:
    print(f"gradient of the head off by {off[0]:.0%} of its norm; with Partial(\"avg\") by {off[1]:.0e}")
dist.destroy_process_group()
sys.exit(not (off[0] > 0.1 and off[1] < 1e-5))
PY
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES="" "$work/venv/bin/torchrun" --standalone --nproc_per_node 2 "$work/head.py"
