"""Small real things for the tests: tokenizers with the templates people train with, and tiny random models."""

from __future__ import annotations

import os
import signal
import tempfile
from importlib import resources
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio-")  # read when trackio is imported

# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
# The folders that tests and what they share lie in, for a process that imports some of them.
TEST_FOLDERS = os.pathsep.join(map(str, [REPOSITORY / "tests", *sorted((REPOSITORY / "tests").glob("*/"))]))
SHARED_DATA = Path(os.environ.get("CFT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# name -> (chat template, special tokens, end token). The templates are those TRL ships; "base" has none.
STYLES = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    "llama3": (
        "llama3.jinja",
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|eot_id|>",
    ),
    "qwen2_5": ("qwen2_5.jinja", ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "<|im_end|>"),
    "qwen3": ("qwen3.jinja", ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "<|im_end|>"),
    "gemma": ("gemma.jinja", ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<eos>"),
    "base": (None, ["<s>", "</s>"], "</s>"),
}  # fmt: skip

# How Llama 3 and Qwen split text before BPE; it keeps the line feeds before a word together, GPT-2's does not.
MODERN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(style: str):
    """A byte-level BPE of 1,000 tokens trained on the house's own texts, with the special tokens of `style`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from cft_trl.data.prompts import Prompting
    from cft_trl.sources.arithmetic import arithmetic_records

    template, special, eos = STYLES[style]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if style not in ("chatml", "base"):
        split = pre_tokenizers.Split(Regex(MODERN_SPLIT), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    backend.decoder = decoders.ByteLevel()
    prompting = Prompting()
    texts = [prompting.user_turn(row) + prompting.completion(row) for row in arithmetic_records(300)]
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=1000, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    bos = special[0] if style in ("llama3", "gemma", "base") else None
    if style == "base":
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos, additional_special_tokens=special
    )
    if template:
        if template.endswith(".jinja"):
            template = resources.files("trl").joinpath("chat_templates", template).read_text()
        tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def tokenizers():
    """Style name -> tokenizer, made once."""
    made = {}

    def get(style: str):
        if style not in made:
            made[style] = make_tokenizer(style)
        return made[style]

    return get


@pytest.fixture
def tokenizer(tokenizers):
    return tokenizers("chatml")


def make_model(tokenizer, family: str = "llama", **overrides):
    """A random causal model of two layers, float32, the same every time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **overrides,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.fixture
def tiny_model():
    """`tiny_model(tokenizer, family="llama")`: see `make_model`."""
    return make_model


@pytest.fixture
def rows():
    """40 house rows of level 1, half right and half wrong."""
    from cft_trl.sources.arithmetic import arithmetic_records

    return list(arithmetic_records(40, seed=3, levels=(1,)))


@pytest.fixture
def make_config(tmp_path):
    """`make_config(**fields)` -> a quiet CFTConfig for a CPU."""

    def make(**fields):
        from cft_trl import CFTConfig

        defaults = {
            "use_cpu": True,
            "report_to": "none",
            "bf16": False,
            "learning_rate": 1e-3,
            "gradient_checkpointing": False,
            "disable_tqdm": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "per_device_train_batch_size": 4,
            "max_length": 512,
        }
        return CFTConfig(str(tmp_path / "out"), **{**defaults, **fields})

    return make


@pytest.fixture
def shared_data():
    """The folder of real data beside the repository; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data here (set CFT_SHARED_DATA)")
    return SHARED_DATA
