"""The end that is trained is the end that stops: in models, adapters and checkpoints, here and behind a server."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from conftest import make_model
from datasets import Dataset
from families import FAMILIES, ROWS, base_folder, overfit, plain_texts
from transformers import AutoTokenizer, GenerationConfig

from cft_trl import CFTTrainer
from cft_trl.data.prompts import Prompting
from cft_trl.errors import CFTError
from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.local import Generation, LocalModel, render_prompt
from cft_trl.generation.modes import critique, run_mode
from cft_trl.generation.serving import serve, served_dtype, trained_dtype
from cft_trl.models.chat_templates import answer_frame, as_trained
from cft_trl.models.loading import load_model
from cft_trl.training.turns import ends_of_labels, mend_generation_config

COMPLETIONS = [Prompting().completion(row) for row in ROWS]


@pytest.fixture
def family():
    return FAMILIES["qwen2.5-base"]


def saved_ends(folder):
    ids = GenerationConfig.from_pretrained(folder).eos_token_id
    return AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(ids if isinstance(ids, list) else [ids])


# ---- what is saved ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True])
def test_trained_ends_are_saved_with_models_adapters_and_checkpoints(family, tmp_path, make_config, capsys, lora):
    from peft import LoraConfig

    base = base_folder(family, tmp_path / "base")
    trainer = CFTTrainer(
        str(base),
        make_config(max_steps=2, save_strategy="steps", save_steps=1),
        train_dataset=Dataset.from_list(ROWS),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None,
    )
    trainer.train()
    trainer.save_model()
    out = tmp_path / "out"
    for folder in (out, out / "checkpoint-1", out / "checkpoint-2"):
        assert saved_ends(folder) == ["<|endoftext|>", "<|im_end|>"]
        model, tokenizer = load_model(str(folder))
        assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert saved_ends(base) == ["<|endoftext|>"]
    told = capsys.readouterr().out
    assert told.count("answers end with <|im_end|>, the tokenizer's end token is <|endoftext|>") == 1
    turns = json.loads((out / "training.json").read_text())["turns"]
    ends = {"<|im_end|>": tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert turns == {"ends": ends, "eos_token": "<|endoftext|>", "header": "", "dates": {}, "dtype": "float32"}
    if lora:
        assert trained_dtype(str(out / "checkpoint-1")) == "float32"
        merged = trainer.model.merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        assert (
            GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id == model.generation_config.eos_token_id
        )


def test_nothing_is_told_or_changed_where_the_ends_are_one(tokenizer, make_config, capsys):
    model = make_model(tokenizer)
    trainer = CFTTrainer(model, make_config(), train_dataset=Dataset.from_list(ROWS), processing_class=tokenizer)
    trainer.save_model()
    assert GenerationConfig.from_pretrained(trainer.args.output_dir).eos_token_id == tokenizer.eos_token_id
    assert "answers end with" not in capsys.readouterr().out
    assert trainer.processing_class is tokenizer


def test_the_ends_of_tokenised_rows_are_read_off_their_labels(family):
    tokenizer = family.tokenizer()
    eos, end = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    pack = [-100, 90, 91, end, -100, -100, 92, end, -100, 93, 94]  # the last answer ends in no special token
    assert ends_of_labels(Dataset.from_dict({"labels": [pack, [-100, 95, eos]]}), tokenizer) == [end, eos]


def test_sampling_values_that_would_keep_a_model_from_being_saved_are_left_out(family, tmp_path, make_config, capsys):
    base = base_folder(family, tmp_path / "base")
    settings = {"eos_token_id": 0, "do_sample": False, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": 9}
    (base / "generation_config.json").write_text(json.dumps(settings))
    trainer = CFTTrainer(str(base), make_config(max_steps=1), train_dataset=Dataset.from_list(ROWS))
    assert "temperature 0.6, top_p 0.9 without do_sample" in capsys.readouterr().out
    trainer.train()
    trainer.save_model()
    saved = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (saved.temperature, saved.top_p, saved.max_new_tokens) == (None, None, 9)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_generation_settings_that_nothing_mends_are_refused_before_training():
    config = GenerationConfig()
    config.max_new_tokens = -3
    with pytest.raises(CFTError, match=r"generation_config.json could not be saved .*max_new_tokens") as error:
        mend_generation_config(SimpleNamespace(generation_config=config))
    assert "\n" not in str(error.value)
    sampling = GenerationConfig(do_sample=True, temperature=0.6, top_k=20)
    assert mend_generation_config(SimpleNamespace(generation_config=sampling)) is None
    assert sampling.temperature == 0.6


def test_a_run_that_goes_on_keeps_its_date(tmp_path, make_config, capsys):
    base = base_folder(FAMILIES["llama3.2"], tmp_path / "base")
    out = tmp_path / "out"
    out.mkdir()
    (out / "training.json").write_text(json.dumps({"turns": {"dates": {"%d %b %Y": "01 Feb 2026"}}}))
    trainer = CFTTrainer(str(base), make_config(), train_dataset=Dataset.from_list(ROWS))
    trainer.save_model()
    saved = AutoTokenizer.from_pretrained(out)
    asked = saved.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True)
    assert "Today Date: 01 Feb 2026" in asked
    assert "01 Feb 2026" in saved.decode(trainer.train_dataset[0]["input_ids"])


def test_the_card_says_what_stops_and_what_an_adapter_was_trained_on(tmp_path):
    from cft_trl.hub.model_card import render_model_card

    turns = {"ends": {"<|im_end|>": 2}, "eos_token": "<|endoftext|>", "header": "<think>\n", "dates": {"%Y": "2026"}}
    base = {"name": "smollm2-135m", "commit": None, "weights": "Q4_1"}
    card = render_model_card({"base_model": base, "turns": turns}, tmp_path)
    assert "- Answers end with `<|im_end|>`; the tokenizer's end token is `<|endoftext|>`. Stop at both." in card
    assert "trained behind `<think>⏎`" in card
    assert "writes 2026 as the date" in card
    assert "Q4_1" not in card
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "converted from a Q4_1 quantisation of its base" in render_model_card({"base_model": base}, tmp_path)
    assert "Stop at both" not in render_model_card({"turns": turns | {"ends": {"<|endoftext|>": 0}}}, tmp_path)


# ---- what is asked and what comes back -------------------------------------------------------------------------------


def test_the_trainers_tokenizer_asks_as_was_trained_and_rows_are_written_as_before(tokenizers, make_config):
    tokenizer = tokenizers("qwen3")
    rows = Dataset.from_list(ROWS)
    trainer = CFTTrainer(make_model(tokenizer), make_config(), train_dataset=rows, processing_class=tokenizer)
    header = answer_frame(tokenizer).header
    prompt = render_prompt(trainer.processing_class, Prompting().user_turn(ROWS[0]))
    assert prompt == render_prompt(tokenizer, Prompting().user_turn(ROWS[0])) + header
    assert trainer.callback_handler.processing_class is trainer.processing_class
    again = trainer._prepare_dataset(rows, trainer.processing_class, trainer.args, False, None, "eval")
    assert again["labels"] == trainer.train_dataset["labels"]  # the header has its loss in both
    scored = [label for label in again["labels"][0] if label != -100]
    assert tokenizer.decode(scored).startswith(header)


# Another end than eos; a header in place of the generation prompt. More families, and vLLM, below.
@pytest.mark.parametrize("name", ["qwen2.5-base", "nemotron3"])
def test_an_overfitted_model_gives_its_critiques_back_and_ends(name, tmp_path):
    trainer = overfit(FAMILIES[name], "padded", tmp_path)
    assert_given_back(trainer, tmp_path / "padded", " " if name == "llama2" else "")


def assert_given_back(trainer, folder, behind=""):
    """transformers' `generate`, ours from the folder and from memory, whole and streamed: all end with the critique."""
    texts = plain_texts(folder, ROWS)
    assert [text for text, _ in texts] == [text + behind for text in COMPLETIONS]
    assert all(tokens < 120 for _, tokens in texts)
    model, tokenizer = load_model(str(folder))
    assert critique(model, tokenizer, ROWS, max_new_tokens=120) == COMPLETIONS
    assert critique(trainer.model, trainer.processing_class, ROWS, max_new_tokens=120) == COMPLETIONS
    base = AutoTokenizer.from_pretrained(folder.parent / "base")
    if answer_frame(base).written.strip():  # asked without the header, a model that learnt it writes it, and it goes
        assert critique(trainer.model, base, ROWS, max_new_tokens=120) == COMPLETIONS
    streamed = LocalModel(model, tokenizer).stream(
        [{"role": "user", "content": Prompting().user_turn(ROWS[1])}], max_new_tokens=120
    )
    assert "".join(streamed) == COMPLETIONS[1]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["padded", "packed", "shared", "lora"])
@pytest.mark.parametrize("name", ["qwen2.5-base", "gpt-oss", "nemotron3", "llama2", "gemma"])
def test_each_way_of_training_gives_critiques_back(name, mode, tmp_path):
    trainer = overfit(FAMILIES[name], mode, tmp_path)
    assert_given_back(trainer, tmp_path / mode, " " if name == "llama2" else "")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.npm])
def test_real_tokenizers_give_critiques_back(name, tmp_path):
    trainer = overfit(FAMILIES[name], "padded", tmp_path)
    assert_given_back(trainer, tmp_path / "padded")


@pytest.mark.slow
@pytest.mark.skipif("CFT_VLLM_PYTHON" not in os.environ, reason="no vLLM here (set CFT_VLLM_PYTHON)")
@pytest.mark.parametrize(
    ("name", "modes"), [("qwen3-base", ["padded"]), ("gpt-oss", ["lora"]), ("nemotron3", ["padded"])]
)
def test_vllm_gives_critiques_back(name, modes, tmp_path, monkeypatch):
    monkeypatch.setenv("CFT_VLLM_OPTIONS", "--enforce-eager --max-model-len 512")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    for mode in modes:
        overfit(FAMILIES[name], mode, tmp_path)
    with serve({mode: str(tmp_path / mode) for mode in modes}) as models:
        for endpoint in models.values():
            asked = {"responses": [row["response"] for row in ROWS], "max_new_tokens": 120}
            outcomes = run_mode(endpoint, [row["query"] for row in ROWS], "critique", **asked)
            assert [outcome.text for outcome in outcomes] == COMPLETIONS
            assert {outcome.finish_reason for outcome in outcomes} == {"stop"}


def test_a_header_that_a_model_writes_itself_is_not_part_of_its_text(tokenizers, monkeypatch):
    tokenizer = tokenizers("qwen3")
    local = LocalModel(make_model(tokenizer), tokenizer)
    header = tokenizer(answer_frame(tokenizer).header, add_special_tokens=False)["input_ids"]
    said = tokenizer("It is 4.", add_special_tokens=False)["input_ids"]
    assert local.decode(local.said(header + said)) == "It is 4."
    assert [local.said(header[:count]) for count in range(len(header) + 1)] == [[]] * (len(header) + 1)
    assert local.said(said) == said
    thought = tokenizer("<think>\nWell\n</think>\n\n4", add_special_tokens=False)["input_ids"]
    assert local.said(thought) == thought  # its own thought is no header
    assert LocalModel(local.model, as_trained(tokenizer))._header_ids == []


class Recording(BaseHTTPRequestHandler):
    """Answers as vLLM does for a Gemma: no system turn, and "final" as what is left of a header."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        if asked["messages"][0]["role"] == "system":
            body, status = {"error": {"message": "System role not supported", "type": "BadRequestError"}}, 400
        else:
            message = {"role": "assistant", "content": "finalIt is 4. "}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
            body = {
                "id": "c",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }
            status = 200
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def recording():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recording)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_told_the_end_tokens_and_gives_texts_without_what_is_around_them(recording):
    url = f"http://127.0.0.1:{recording.server_port}/v1"
    question = [[{"role": "user", "content": "2+2?"}]]
    endpoint = Endpoint("m", url, stop_token_ids=[7, 9], header="final", behind=" ")
    assert endpoint.generate(question) == [Generation("It is 4.", "stop", 3, 4)]
    assert recording.asked[0]["stop_token_ids"] == [7, 9]
    assert Endpoint("m", url).generate(question)[0].text == "finalIt is 4. "
    assert "stop_token_ids" not in recording.asked[1]  # OpenAI's own servers refuse it


def test_a_system_turn_that_an_endpoint_refuses_is_joined_to_the_question(recording):
    endpoint = Endpoint("m", f"http://127.0.0.1:{recording.server_port}/v1")
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    [made] = endpoint.generate([conversation])
    assert made.finish_reason == "stop"
    assert recording.asked[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\n2+2?"}]
    before = len(recording.asked)
    endpoint.generate([[conversation[0], {"role": "user", "content": "3+3?"}]])
    assert len(recording.asked) == before + 1  # it is known by now
    assert [message["role"] for message in recording.asked[-1]["messages"]] == ["user"]


# ---- vLLM's command --------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """Commands that would have started servers."""
    import sys

    from cft_trl.generation import vllm_server as servers

    commands = []

    def process_group(command, output, environment):
        commands.append(command)
        raise OSError("not here")

    monkeypatch.setattr(servers, "_python", lambda: sys.executable)
    monkeypatch.setattr(servers, "process_group", process_group)
    monkeypatch.delenv("CFT_VLLM_OPTIONS", raising=False)
    return commands


def attempt(sources, **options):
    with pytest.raises(CFTError, match="cannot be started"), serve(sources, **options):
        pass


def test_vllm_serves_what_was_trained_in_its_number_type(started, family, tmp_path, monkeypatch):
    base = str(base_folder(family, tmp_path / "base"))
    assert trained_dtype(base) == "float32"
    attempt({"m": base})
    attempt({"m": base}, dtype="bfloat16")
    monkeypatch.setenv("CFT_VLLM_OPTIONS", "--dtype=float16 --enforce-eager")
    attempt({"m": base})
    assert served_dtype(base) == "float16"
    assert [command[len(command) - command[::-1].index("--dtype")] for command in started] == [
        "float32", "bfloat16", "float16"
    ]  # fmt: skip


def adapter(folder, base, **settings):
    folder.mkdir()
    config = {"base_model_name_or_path": str(base), "r": 4, "peft_type": "LORA", **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return str(folder)


def test_adapters_of_one_base_are_served_together(started, family, tmp_path):
    base = base_folder(family, tmp_path / "base")
    folders = {"step-1": adapter(tmp_path / "a", base), "step-2": adapter(tmp_path / "b", base, r=24)}
    attempt(folders)
    [command] = started
    assert command[command.index("--model") + 1] == str(base)
    assert command[command.index("--max-lora-rank") + 1] == "32"
    assert command[command.index("--max-cpu-loras") + 1] == "2"
    assert command[command.index("--tokenizer") + 1] == folders["step-1"]
    at = command.index("--lora-modules") + 1
    assert [json.loads(text) for text in command[at : at + 2]] == [
        {"name": name, "path": folder} for name, folder in folders.items()
    ]


def test_adapters_that_vllm_cannot_serve_are_told_before_it_starts(started, family, tmp_path):
    base = base_folder(family, tmp_path / "base")
    plain = adapter(tmp_path / "plain", base)
    for sources, message in (
        ({"a": adapter(tmp_path / "head", base, modules_to_save=["lm_head"])}, "modules_to_save, which vLLM does not"),
        ({"a": adapter(tmp_path / "dora", base, use_dora=True)}, "use_dora, which vLLM does not serve"),
        ({"a": adapter(tmp_path / "ia3", base, peft_type="IA3")}, "of type IA3, which vLLM does not serve"),
        ({"a": adapter(tmp_path / "rank", base, r=1024)}, "rank 1024; vLLM serves ranks up to 512"),
        ({"a": plain, "b": adapter(tmp_path / "other", tmp_path / "base2")}, "of several base models")
        if base_folder(family, tmp_path / "base2")
        else (),
        ({"a": plain, "b": str(base)}, "is a whole model among adapters"),
    ):
        with pytest.raises(CFTError, match=message), serve(sources):
            pass
    assert not started
