#!/usr/bin/env bash
# PyTorch's attention on a CPU takes several times as long for the gradients of short sequences in bf16 as in fp32.
# Date: 2026-11-29
# Seen: torch 2.13.0 on an Intel Xeon with AMX, whose matrix products are 2.5 times as fast in bf16: for 9 heads of 64 and
#       up to 128 tokens scaled_dot_product_attention is as fast forwards in bf16 as in fp32 or faster, and its gradients
#       take 3 to 6 times as long (24 tokens: 0.77 for 0.15 ms; 55: 1.47 for 0.31; 128: 2.96 for 0.91); from about 256
#       tokens both take the same, from 1,024 bf16 is faster. 24 keys that 487 queries attend to: 5.7 for 0.9 ms. Under
#       bf16 autocast, which trainers turn on by themselves where a CPU knows bf16, a third of a training step of short
#       rows was this. Casting to fp32 around it gives the better gradients in a fraction of the time.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy 2>/dev/null
"$work/venv/bin/python" - <<'PY'
import statistics
import sys
import time

import torch
from torch.nn.functional import scaled_dot_product_attention


def ms(tokens: int, dtype: torch.dtype) -> tuple[float, float]:
    """Milliseconds forwards and backwards, the median of 30."""
    states = [torch.randn(1, 9, tokens, 64, dtype=dtype, requires_grad=True) for _ in range(3)]
    gradient, forwards, backwards = torch.randn(1, 9, tokens, 64, dtype=dtype), [], []
    for _ in range(30):
        started = time.perf_counter()
        output = scaled_dot_product_attention(*states, is_causal=True)
        between = time.perf_counter()
        torch.autograd.grad(output, states, gradient)
        forwards.append(between - started)
        backwards.append(time.perf_counter() - between)
    return statistics.median(forwards) * 1e3, statistics.median(backwards) * 1e3


print(torch.__version__)
ratios = []
for tokens in (24, 55, 128, 1024):
    (ahead, back), (ahead16, back16) = ms(tokens, torch.float32), ms(tokens, torch.bfloat16)
    ratios.append(back16 / back)
    print(f"{tokens:5} tokens: forwards {ahead:.2f} ms in fp32, {ahead16:.2f} in bf16; backwards {back:.2f}, {back16:.2f}: "
          f"{ratios[-1]:.1f}x")
sys.exit(not (min(ratios[:2]) > 2 and ratios[-1] < ratios[0]))
PY
