"""An adapter merged into its base: one model, which answers as the two did, and says what it was made of.

    merge("runs/lora", "runs/merged")
    runs/merged/  model.safetensors  config.json  generation_config.json  tokenizer.json  training.json  …

PEFT merges (`merge_and_unload`), in float32, so that a base in bfloat16 does not round twice. What comes out is
compared with what went in: the logits of a question, before anything is written. A head that shares its weights with
the embeddings goes on sharing them, unless the adapter trained one of the two apart; then the model that answers alike
has two, and its configuration says so.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.folders import check_writable
from cft_trl.errors import CFTError, one_line
from cft_trl.generation.local import render_prompt
from cft_trl.generation.serving import trained_dtype
from cft_trl.models.adapters import base_of
from cft_trl.models.identity import model_identity
from cft_trl.models.loading import load_model, torch_dtype
from cft_trl.models.names import adapter_config, hub_commit, record_of, resolve_model
from cft_trl.models.portable import make_portable
from cft_trl.models.run_record import update_record, versions

# What a run tells about itself; the record is written anew.
_RECORDS = ("settings.json", "metrics.json", "preparation.json", "selection.json", "quickstart.json", "run.json")
_ASKED = "What is 12 x 4 - 6? Is it 40? Step 1: 12 x 4 = 46."
_TOLERANCE = 1e-3  # of float32 logits; a merge moves them by rounding only


@dataclass(frozen=True)
class Merged:
    """What a merge made.

    Attributes:
        folder: Where it lies.
        base: The base's name, with its commit where it has one.
        dtype: What the weights are saved in.
        tied: Whether head and embeddings are one, now and in the base.
        difference: The largest difference of a logit to the adapter's, both in float32.
        rounded: The same as saved, in `dtype`.
        notes: What other readers cannot be told (`make_portable`).
    """

    folder: Path
    base: str
    dtype: str
    tied: tuple[bool, bool]
    difference: float
    rounded: float
    notes: list[str]


def merge(
    source: str,
    output: str | Path,
    *,
    dtype: str | None = None,
    revision: str | None = None,
    adapter_base: str | None = None,
    trust_remote_code: bool = False,
) -> Merged:
    """Merges an adapter into its base and saves the model, with the adapter's tokenizer, end tokens and run record.

    Args:
        source: The adapter: folder or Hub id.
        output: A folder that is not there, or empty. It appears when it is whole.
        dtype: What to save in, a floating point type; by default what the run or the base was trained in.
        revision: Commit, tag or branch of a Hub id.
        adapter_base: Another base than the one the adapter names.
        trust_remote_code: Whether code that comes with the model is run.

    Raises:
        CFTError: It is a whole model, or an adapter that cannot be merged (virtual tokens, replicated layers, weights
            that are no numbers); base or adapter cannot be loaded; or the merged model does not answer as the adapter
            did, or holds what is no number in `dtype`. Nothing is written then.
    """
    import torch

    output = _free(Path(output))
    folder = resolve_model(source, revision=revision)
    commit = hub_commit(folder, revision)
    settings = adapter_config(folder, commit)
    if settings is None:
        raise CFTError(f"'{source}' is a whole model and no adapter: there is nothing to merge")
    if settings.get("layer_replication"):
        raise CFTError(
            f"'{source}' repeats layers of its base (layer_replication), which have no weights of their own to "
            "merge into; keep the adapter"
        )
    base = base_of(folder, commit, adapter_base)
    assert base is not None  # an adapter has one
    saved = dtype or trained_dtype(folder, commit) or trained_dtype(base.name, base.revision) or "float32"
    kind = torch_dtype(saved)
    if not kind.is_floating_point:
        raise CFTError(f"dtype '{saved}' is no floating point type; give float32, bfloat16 or float16")
    model, tokenizer = load_model(
        source, dtype="float32", revision=revision, adapter_base=adapter_base, trust_remote_code=trust_remote_code
    )
    peft_type = settings.get("peft_type", "LORA")
    if not hasattr(model, "merge_and_unload") or not hasattr(model.base_model, "merge_and_unload"):
        raise CFTError(
            f"'{source}' is an adapter of type {peft_type}, which is no change of weights: it cannot be merged"
        )
    ids = tokenizer(render_prompt(tokenizer, _ASKED), add_special_tokens=not tokenizer.chat_template)["input_ids"]
    asked = torch.tensor([ids], device=model.device)
    was_tied = bool(model.config.get_text_config().tie_word_embeddings)
    generation = model.generation_config
    before = _logits(model, asked)
    try:
        merged = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise CFTError(f"'{source}' cannot be merged: {one_line(str(error))}; keep the adapter") from None
    merged.generation_config = generation
    tied = _tie(merged)
    difference = float((_logits(merged, asked) - before).abs().max())
    # A comparison with NaN is false, which must not pass.
    if not difference <= _TOLERANCE * max(1.0, float(before.abs().max())):
        raise CFTError(
            f"'{source}': merged by PEFT it answers otherwise (a logit differs by {difference:.3g}); keep the adapter"
        )
    merged.to(kind)
    rounded = float((_logits(merged, asked).float() - before).abs().max())
    if not (math.isfinite(rounded) and all(bool(part.isfinite().all()) for part in merged.parameters())):
        raise CFTError(f"'{source}': merged, it holds or answers what is no number in {saved}; give another --dtype")
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        place = Path(scratch) / "model"
        merged.save_pretrained(place)
        tokenizer.save_pretrained(place)
        notes = make_portable(place)
        _keep_record(folder, place, base_name=base.name, base_revision=base.revision, commit=commit, dtype=saved,
                     peft_type=peft_type, difference=difference, rounded=rounded)  # fmt: skip
        if output.exists():  # stays the folder that it is: it may be the one that the command runs in
            for part in sorted(place.iterdir()):
                shutil.move(part, output / part.name)
        else:
            place.rename(output)
    named = f"{base.name}@{base.revision}" if base.revision else base.name
    return Merged(output, named, saved, (tied, was_tied), difference, rounded, notes)


def _free(output: Path) -> Path:
    output = output.resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CFTError(f"'{output}' is there already; give a folder that is new or empty")
    for folder in (output.parent, *([output] if output.exists() else [])):
        check_writable(folder)
    return output


def _logits(model: Any, ids: Any) -> Any:
    import torch

    model.eval()
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits[0].float()


def _tie(model: Any) -> bool:
    """Whether head and embeddings are one; the configuration says so, and the weights are."""
    import torch

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    config = model.config.get_text_config()
    if head is None or not config.tie_word_embeddings:
        return False
    same = head.weight.shape == embeddings.weight.shape and torch.equal(head.weight, embeddings.weight)
    for told in (model.config, config):
        told.tie_word_embeddings = same
    if same:
        model.tie_weights()
    else:
        # Read as tied keys the head would not be saved.
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model._tied_weights_keys = None
        model.all_tied_weights_keys = {}
    return same


def _keep_record(source: str, place: Path, **told: Any) -> None:
    folder = Path(source)
    for name in _RECORDS:
        for parent in (folder, folder.parent):
            if (parent / name).is_file() and (parent == folder or folder.name.startswith(("checkpoint-", "best"))):
                shutil.copy2(parent / name, place / name)
                break
    identity = model_identity(source, told["commit"])
    update_record(
        place,
        **record_of(source),
        merged={
            "adapter": {name: value for name, value in identity.items() if name != "base"},
            "base": {"name": told["base_name"], "revision": told["base_revision"]},
            **{name: told[name] for name in ("peft_type", "dtype", "difference", "rounded")},
            "versions": {
                name: told for name, told in versions().items() if name in ("cft-trl", "peft", "transformers")
            },
        },
    )
