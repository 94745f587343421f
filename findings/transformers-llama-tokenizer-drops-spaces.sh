#!/usr/bin/env bash
# transformers up to 5.21 reads and writes text without its spaces where a byte-level tokenizer calls itself a Llama's.
# Date: 2026-11-30
# Seen: a tokenizer.json that is byte-level BPE beside a tokenizer_config.json with tokenizer_class "LlamaTokenizerFast".
#       transformers 5.21.0: AutoTokenizer builds LlamaTokenizer, with the splitting of a Llama in the place of the file's.
#       No line says so; of "12 x 4 = 48." no id stands for a space, and decoding gives "12x4=48.". So it is in a folder
#       with no config.json and in a Llama's; where config.json says "deepseek_v3", which transformers has in a list, the
#       ids are those of the library tokenizers. 5.22.0 looks into the file and says so: the same ids in all three.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/read.py" <<'PY'
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, __version__

backend = Tokenizer(models.BPE())
backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
backend.train_from_iterator(["12 x 4 = 48. 12 x 4 = 48."] * 9, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
text = "12 x 4 = 48."
wanted, seen = backend.encode(text).ids, []
for model_type in (None, "llama", "deepseek_v3"):
    folder = Path(sys.argv[1], __version__, str(model_type))
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizerFast"}))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    loaded = AutoTokenizer.from_pretrained(folder)
    ids = loaded(text, add_special_tokens=False)["input_ids"]
    seen.append((ids == wanted, loaded.decode(ids)))
    print(f"{__version__}, model_type {model_type}: {type(loaded).__name__}, {len(ids)} ids for {len(wanted)}, {seen[-1][1]!r}")
lost, kept = (False, "12x4=48."), (True, text)
sys.exit(seen != ([lost, lost, kept] if __version__ == "5.21.0" else [kept] * 3))
PY
for version in 5.21.0 5.22.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install -q "transformers==$version" tokenizers==0.23.3 2>/dev/null
    HF_HUB_OFFLINE=1 "$work/$version/bin/python" "$work/read.py" "$work"
done
