"""Reads what `readers.py` made with whatever is installed, and writes what it got. Knows nothing of cft-trl.

python probe.py transformers FOLDER OUT          every model: logits of FOLDER/ids.json, ids of texts, a chat
python probe.py mlx|vllm|gguf|peft|datasets|pandas|fastparquet|polars|pyarrow FOLDER OUT

OUT/result.json: {artifact: {"error": …} or {"ids": …, "chat": …, "rows": …}}, and OUT/ARTIFACT.npy, logits.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HF_HUB_OFFLINE"] = "1"
KIND, FOLDER, OUT = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
ASKED = json.loads((FOLDER / "asked.json").read_text())
LAST = ASKED["last"]  # positions that are compared: those furthest from the beginning


def read_with_transformers(model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").float().eval()
    return {**read_tokenizer(tokenizer), "logits": logits_of(loaded)}


def read_with_peft(adapter):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(FOLDER / "models" / "llama", attn_implementation="eager")
    return {"logits": logits_of(PeftModel.from_pretrained(base, str(adapter)).float().eval())}


def logits_of(model):
    import torch

    with torch.no_grad():
        return model(torch.tensor([ASKED["ids"]])).logits[0, -LAST:].numpy()


def read_tokenizer(tokenizer):
    chat = tokenizer.apply_chat_template(ASKED["chat"], tokenize=False, add_generation_prompt=True)
    return {"ids": [list(tokenizer(text)["input_ids"]) for text in ASKED["texts"]], "chat": chat}


def read_with_mlx(model):
    import mlx.core as mx
    import numpy as np
    from mlx_lm import load

    loaded, tokenizer = load(str(model))
    loaded.set_dtype(mx.float32)
    logits = np.array(loaded(mx.array([ASKED["ids"]])))[0, -LAST:]
    return {**read_tokenizer(tokenizer._tokenizer), "logits": logits}


def read_with_vllm(model):
    """The log-probabilities of the very tokens that were given; vLLM does not tell all logits."""
    from vllm import LLM, SamplingParams

    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048}
    llm = LLM(str(model), **options)
    asked = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
    [made] = llm.generate([{"prompt_token_ids": ASKED["ids"]}], asked)
    told = made.prompt_logprobs[-LAST + 1 :]
    given = ASKED["ids"][-LAST + 1 :]
    scores = [at[token].logprob for at, token in zip(told, given)]  # noqa: B905 - read by Python 3.9, too
    return {**read_tokenizer(llm.get_tokenizer()), "logprobs": scores}


def read_with_gguf(model):
    """llama.cpp's own converter, and what it wrote of rope; its weights are read back by transformers."""
    from gguf import GGUFReader

    path = OUT / f"{model.name}.gguf"
    converter = os.environ["CONVERTER"]
    command = [sys.executable, converter, str(model), "--outfile", str(path), "--outtype", "f32"]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(made.stderr.strip().splitlines()[-1])
    fields = GGUFReader(path).fields
    told = {name.partition(".")[2]: field.contents() for name, field in fields.items() if ".rope." in name}
    ids = fields["tokenizer.ggml.tokens"].contents()
    return {"told": {**told, "tokens": len(ids), "chat_template": fields["tokenizer.chat_template"].contents()}}


def read_with_datasets(config):
    from datasets import load_dataset

    name = None if config == "default" else config
    rows = load_dataset(str(FOLDER / "dataset"), name, split="train", cache_dir=str(OUT / "cache"))
    return {"rows": rows.to_list() if hasattr(rows, "to_list") else list(rows)}


def read_parquet(config):
    rows = []
    for path in sorted((FOLDER / "dataset" / "data" / config).glob("*.parquet")):
        if KIND == "pandas":
            import pandas

            rows += pandas.read_parquet(path).to_dict("records")
        elif KIND == "fastparquet":
            from fastparquet import ParquetFile

            rows += ParquetFile(str(path)).to_pandas().to_dict("records")
        elif KIND == "polars":
            import polars

            rows += polars.read_parquet(path).to_dicts()
        else:
            from pyarrow import parquet

            rows += parquet.read_table(path).to_pylist()
    return {"rows": [{name: plain(value) for name, value in row.items()} for row in rows]}


def plain(value):
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return None if value != value else value  # NaN, which pandas has for null


def main():
    readers = {
        "transformers": (read_with_transformers, FOLDER / "models"),
        "mlx": (read_with_mlx, FOLDER / "models"),
        "vllm": (read_with_vllm, FOLDER / "models"),
        "gguf": (read_with_gguf, FOLDER / "models"),
        "peft": (read_with_peft, FOLDER / "adapters"),
    }
    if KIND in readers:
        read, folder = readers[KIND]
        artifacts = sorted(folder.iterdir())
        if KIND == "vllm":  # its CPU kernels want heads of 32 at least
            artifacts = [path for path in artifacts if path.name in ASKED["real"]]
    else:
        read = read_with_datasets if KIND == "datasets" else read_parquet
        artifacts = ASKED["configs"] if KIND != "datasets" else ["default", *ASKED["configs"]]
    results = {}
    for artifact in artifacts:
        name = getattr(artifact, "name", artifact)
        try:
            result = read(artifact)
            if "logits" in result:
                import numpy

                numpy.save(OUT / f"{name}.npy", result.pop("logits"))
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
        results[name] = result
        (OUT / "result.json").write_text(json.dumps(results, default=str))


main()
