#!/usr/bin/env bash
# transformers 5 reads the tokenizer of every folder whose model is a Qwen2 as Qwen's own, whatever its tokenizer.json says.
# Date: 2026-11-29
# Seen: transformers 5.23.0: a tokenizer.json that splits text another way (GPT-2's, as models have that were trained from a
#       Qwen2 with a tokenizer of somebody else's) gives other ids through AutoTokenizer, which builds Qwen2Tokenizer from
#       its vocabulary, with Qwen's splitting, for tokenizer_class "PreTrainedTokenizerFast" and "TokenizersBackend" alike.
#       Loaded as model_type "llama" the same file gives the ids that the library tokenizers gives.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3 2>/dev/null
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$work/venv/bin/python" - "$work" <<'PY'
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

backend = Tokenizer(models.BPE())
backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
backend.train_from_iterator(["12 x 4 = 48. 12 x 4 = 48."] * 9, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
text = "12 x 4 = 48."
wanted, seen = backend.encode(text).ids, {}
for model_type in ("llama", "qwen2"):
    for name in ("PreTrainedTokenizerFast", "TokenizersBackend"):
        folder = Path(sys.argv[1], model_type, name)
        folder.mkdir(parents=True)
        backend.save(str(folder / "tokenizer.json"))
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
        loaded = AutoTokenizer.from_pretrained(folder)
        seen[model_type, name] = loaded(text, add_special_tokens=False)["input_ids"] == wanted
        print(model_type, name, "->", type(loaded).__name__, "the same ids" if seen[model_type, name] else "OTHER IDS")
sys.exit([same for same in seen.values()] != [True, True, False, False])
PY
