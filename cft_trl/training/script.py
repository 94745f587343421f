"""One training run from settings to a folder: what `cft train` and `recipes/cft.py` do.

    settings (YAML + command line) -> rows -> CFTTrainer -> output_dir/{model, preparation.json, metrics.json, …}

A run that was killed goes on from its newest complete checkpoint when the same command is given again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl import ModelConfig, get_peft_config, get_quantization_config

from cft_trl.data.folders import why_not_written, write_text
from cft_trl.data.records import Record
from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.models.adapters import refuse_adapter
from cft_trl.models.loading import load_tokenizer
from cft_trl.models.run_record import check_mine, run_of
from cft_trl.training.arguments import CFTScriptArguments
from cft_trl.training.checkpoints import damage, newest_whole
from cft_trl.training.checks import check_libraries
from cft_trl.training.config import CFTConfig
from cft_trl.training.launch import agree_on, check_launch, keep_to_the_end
from cft_trl.training.launched import check_launch_goes_on, launched_as
from cft_trl.training.parts import read_parts
from cft_trl.training.places import check_output, held_folder
from cft_trl.training.rows import load_rows, rows_to_critique
from cft_trl.training.runs import check_goes_on, run_identity

if TYPE_CHECKING:
    from cft_trl.training.trainer import CFTTrainer


def run_training(script: CFTScriptArguments, config: CFTConfig, model: ModelConfig) -> CFTTrainer:
    """Trains, saves and reports; returns the trainer.

    Leaves in `config.output_dir`: the model and tokenizer (or adapter), `settings.json`, `preparation.json`,
    `metrics.json`, `generations.jsonl` (with `generated_rows`), `training.png` (where matplotlib is installed) and the
    model card.

    Args:
        script: Which rows, and what is done beside training.
        config: How it is trained, and where to.
        model: Which model, with its adapter and quantisation.

    Raises:
        CFTError: see the classes it uses; and output_dir not writable, held by another run, or holding a dataset, the
            base model or another run's checkpoints.
    """
    if not model.model_name_or_path:
        raise CFTError("model_name_or_path is missing; give a Hub id, a folder or smollm2-135m")
    check_launch(config)  # before anything is read or written by processes that should not be there
    refuse_adapter(model.model_name_or_path, model.model_revision)
    _check_numbers(script, config)
    check_kernels(model)
    check_libraries(config)
    adapter = lora_config(model)
    output = Path(config.output_dir)
    parts = read_parts(script.datasets) if script.datasets is not None else []
    for path in [part.path for part in parts] or [script.dataset_name]:
        check_output(output, path, model.model_name_or_path)
    with held_folder(output):
        return _run(script, config, model, adapter, output)


def _run(script: CFTScriptArguments, config: CFTConfig, model: ModelConfig, adapter: Any, output: Path) -> CFTTrainer:
    from cft_trl.plots import plot_training
    from cft_trl.training.early_stopping import early_stopping
    from cft_trl.training.select_callback import selection_callbacks
    from cft_trl.training.trainer import CFTTrainer

    train_rows, eval_rows = load_rows(script, config.eval_strategy != "no")
    to_critique = rows_to_critique(eval_rows, script.generated_rows, config)
    callbacks = [*selection_callbacks(script, config), *early_stopping(script, config)]
    tokenizer = tokenizer_of(config, model)
    # Taken before the trainer is built, which changes some of them.
    settings = _settings(script, config, model)
    identity = run_identity(script, config, model, (train_rows, eval_rows), tokenizer)
    checkpoint = agree_on(lambda: _checkpoint_to_resume(script, config, settings, identity))
    config.model_init_kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": config.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(config.model_init_kwargs or {}),
    }
    try:
        trainer = CFTTrainer(
            model.model_name_or_path,
            config,
            train_dataset=train_rows,
            eval_dataset=eval_rows,
            processing_class=tokenizer,
            callbacks=callbacks,
            quantization_config=get_quantization_config(model),
            peft_config=adapter,
        )
    except CFTError:
        raise
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # While the trainer is built nothing has run yet: what the libraries object to is the settings.
        raise CFTError(f"settings: {type(error).__name__}: {error}") from error
    keep_to_the_end(trainer)
    show_log_lines(trainer)
    main = trainer.accelerator.is_main_process
    if main and checkpoint:
        print(f"going on from {checkpoint}", flush=True)
    trainer.record.settings, trainer.record.about["identity"] = settings, identity
    trainer.train(resume_from_checkpoint=checkpoint)
    _save(trainer, output)
    metrics = trainer.evaluate() if eval_rows is not None else {}
    if main:
        check_saved(output)
        trainer.state.save_to_json(str(output / "trainer_state.json"))
        write_text(output / "metrics.json", json.dumps({"run": trainer.record.run, **metrics}, indent=2))
        plot_training(trainer.state.log_history, output / "training.png")
    if to_critique:
        metrics["generated"] = trainer.generated = _score_generations(trainer, to_critique)
        write_text(output / "metrics.json", json.dumps({"run": trainer.record.run, **metrics}, indent=2))
    trainer.create_model_card(dataset_name=script.dataset_name)
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=script.dataset_name)
    if main:
        print(f"the model and its card are in {output}", flush=True)
    trainer.end()
    return trainer


def _save(trainer: CFTTrainer, output: Path) -> None:
    """The final model; half of one is not left behind."""
    try:
        trainer.save_model(str(output))
    except Exception as error:
        if why_not_written(error):
            for path in output.glob("*.safetensors"):
                path.unlink()
        raise


def lora_config(model: ModelConfig) -> Any:
    """The `LoraConfig` that a run's settings ask for, or None.

    TRL makes a string of a list of one, and PEFT takes a string for an expression that a module's whole path has to
    match, so that `q_proj` alone is "not found in the base model". A plain name stays a list here.

    Raises:
        CFTError: PEFT is not installed.
    """
    if not model.use_peft:
        return None
    require("lora", "use_peft", "peft")
    modules = model.lora_target_modules
    if isinstance(modules, str) and re.fullmatch(r"[\w.]+", modules):
        model.lora_target_modules = [modules]
    return get_peft_config(model)


def check_kernels(model: ModelConfig) -> None:
    """Asks for what is loaded with the model, before anything is.

    Raises:
        CFTError: The settings need a library that is not installed.
    """
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(model, name):
            require("gpu", f"{name}=true", "bitsandbytes")
    attention = model.attn_implementation or ""
    if "/" in attention:  # a repository of kernels
        require("gpu", f"attn_implementation={attention}", "kernels")


def show_log_lines(trainer: CFTTrainer, bar: bool = True) -> None:
    """Replaces transformers' dicts and bar by `LogLines`, which is given `bar`."""
    from transformers import PrinterCallback, ProgressCallback

    from cft_trl.training.callbacks import LogLines

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LogLines(bar))


def _check_numbers(script: CFTScriptArguments, config: CFTConfig) -> None:
    for name, value, least in (
        ("eval_rows", script.eval_rows, 0),
        ("generated_rows", script.generated_rows, 0),
        ("dataset_limit", script.dataset_limit, 1),
    ):
        if value is not None and value < least:
            raise CFTError(f"{name}={value}: give {least} or more")
    if script.dataset_streaming and config.max_steps < 1:
        raise CFTError("dataset_streaming needs max_steps: a stream does not say how long it is")
    if not script.generated_rows:
        return
    if config.objective != "cft":
        raise CFTError(f"generated_rows scores critiques; objective={config.objective} writes none, set it to 0")
    if script.datasets is None and script.generated_rows > script.eval_rows:
        raise CFTError(
            f"generated_rows={script.generated_rows} is more than eval_rows={script.eval_rows}; hold out more rows"
        )
    if config.world_size > 1:
        raise CFTError(f"generated_rows needs one process, here are {config.world_size}; set it to 0")


def tokenizer_of(config: CFTConfig, model: ModelConfig) -> Any:
    """The tokenizer a run uses, with the end token and the template its settings give it.

    Raises:
        CFTError: An end token that is not in the vocabulary, a template's file that is not there, or no tokenizer.
    """
    tokenizer = load_tokenizer(
        model.model_name_or_path, revision=model.model_revision, trust_remote_code=config.trust_remote_code
    )
    if config.eos_token is not None:
        if config.eos_token not in tokenizer.get_vocab():
            raise CFTError(f"eos_token={config.eos_token} is not in the vocabulary of {model.model_name_or_path}")
        tokenizer.eos_token = config.eos_token
    if config.chat_template_path and config.chat_template_path.endswith((".jinja", ".j2")):
        path = Path(config.chat_template_path)
        if not path.is_file():
            raise CFTError(f"chat_template_path={path} does not exist; give a .jinja file or a model")
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    return tokenizer


def _score_generations(trainer: CFTTrainer, rows: list[Record]) -> dict[str, Any]:
    from cft_trl.evaluation.critic import generate_verdicts, score_verdicts
    from cft_trl.progress import progress

    print(f"writing critiques of {len(rows)} held-out rows", flush=True)
    with progress("critiques", len(rows)) as advance:
        judged = generate_verdicts(
            trainer.model,
            trainer.processing_class,
            rows,
            prompt_preset=trainer.args.critique_wording,
            on_progress=advance,
        )
    score = score_verdicts(judged)
    low, high = score["interval_95"]
    print(
        f"verdicts of free critiques: {score['hits']}/{score['rows']} agree, {score['accuracy']:.1%} "
        f"(95% {low:.1%} to {high:.1%}); majority rate {score['majority_rate']:.1%}",
        flush=True,
    )
    lines = "\n".join(json.dumps({"run": trainer.record.run, **row}, ensure_ascii=False) for row in judged)
    write_text(Path(trainer.args.output_dir) / "generations.jsonl", lines)
    return score


def check_saved(folder: Path) -> None:
    """Some sharding set-ups (FSDP with SHARDED_STATE_DICT, ZeRO-3 without `zero3_save_16bit_model`) save no weights.

    Raises:
        CFTError: the folder holds no weights that `from_pretrained` would load.
    """
    if not any(folder.glob("*.safetensors")):
        raise CFTError(
            f"training ended but '{folder}' holds no weights: set zero3_save_16bit_model (ZeRO-3) or "
            "fsdp_state_dict_type FULL_STATE_DICT in the accelerate config; the checkpoints below it are whole"
        )


def _settings(script: CFTScriptArguments, config: CFTConfig, model: ModelConfig) -> dict[str, Any]:
    from dataclasses import asdict

    # `to_dict` masks whatever ends with "token"; these two are no secrets, and the model is trained with them.
    shown = {name: getattr(config, name) for name in ("eos_token", "pad_token")}
    merged = {**config.to_dict(), **asdict(script), **asdict(model), "launch": launched_as(config)}
    secret = {name for name in merged if name.endswith("token") and name not in shown}
    return {name: value for name, value in sorted({**merged, **shown}.items()) if name not in secret}


def _checkpoint_to_resume(
    script: CFTScriptArguments, config: CFTConfig, settings: Mapping[str, Any], identity: Mapping[str, Any]
) -> str | None:
    output = Path(config.output_dir)
    if config.resume_from_checkpoint not in (None, "auto", "true", "True", True):
        path = Path(config.resume_from_checkpoint)
        if found := damage(path):
            raise CFTError(f"resume_from_checkpoint={path} is not a complete checkpoint ({found})")
        if path.resolve().parent == output.resolve():
            check_goes_on(output, path, settings, identity)
        else:
            check_launch_goes_on(path, None, settings)
        return str(path)
    checkpoint, damaged = newest_whole(output) if script.resume else (None, [])
    for line in damaged:
        print(f"{line}; it is passed over", flush=True)
    if checkpoint is None:
        return None
    check_mine(output, checkpoint.name, run_of(checkpoint), "remove it, or give --resume false to begin anew here")
    check_goes_on(output, checkpoint, settings, identity)
    return str(checkpoint)
