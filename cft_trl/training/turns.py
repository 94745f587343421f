"""The end of a turn, from the rows to what is saved: the token that was trained to end an answer is one that stops.

A base model under a ChatML template (Qwen2.5-Math-7B) learns to end with `<|im_end|>`, and its own generation settings
say `<|endoftext|>`. What is saved says both, and the run's record what was found:

    {"ends": {"<|im_end|>": 151645}, "eos_token": "<|endoftext|>", "header": "", "dates": {}, "dtype": "float32"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.models.chat_templates import AnswerFrame, answer_frame, freeze_dates, special_ids, template_of
from cft_trl.models.run_record import read_record

_LOOKED_AT = 1000  # rows of a tokenised dataset that its end tokens are read off


def ends_of_labels(dataset: Any, tokenizer: Any) -> list[int]:
    """The special tokens that end a span with loss in the first rows of a tokenised dataset.

    Args:
        dataset: With a column `labels`; packs hold many spans.
    """
    special, found = special_ids(tokenizer), {}
    for row in dataset.take(_LOOKED_AT):
        labels = [int(label) for label in row["labels"]]
        for label, following in zip(labels, [*labels[1:], -100], strict=True):
            if following == -100 and label in special:
                found[label] = True
    return list(found)


def add_end_tokens(model: Any, ids: Iterable[int]) -> None:
    """Puts end tokens among those that the model's generation settings stop at."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    given = config.eos_token_id
    known = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    if missing := [i for i in ids if i not in known]:
        ends = [*known, *missing]
        config.eos_token_id = ends if len(ends) > 1 else ends[0]


def mend_generation_config(model: Any) -> str | None:
    """Makes a model's generation settings such that transformers saves them: it refuses some that it loads.

    Sampling values beside `do_sample: false`, as Vicuna and others ship them, have no effect and are left out.

    Returns:
        What was done, in one line; None if nothing.

    Raises:
        CFTError: They are refused for another reason.
    """
    config = getattr(model, "generation_config", None)
    if config is None:
        return None
    if _refused(config) is None:
        return None
    left_out = []
    if not config.do_sample:
        for name in ("temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff"):
            if (value := getattr(config, name, None)) is not None:
                setattr(config, name, None)
                left_out.append(f"{name} {value}")
    if reason := _refused(config):
        raise CFTError(f"the model's generation_config.json could not be saved with the trained model: {reason}")
    return (
        f"the model's generation_config.json has {', '.join(left_out)} without do_sample: without effect, and refused "
        "when the model is saved; left out"
    )


def _refused(config: Any) -> str | None:
    try:
        config.validate(strict=True)
    except ValueError as error:
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        return lines[1] if len(lines) > 1 else lines[0]
    return None


def _frame(tokenizer: Any) -> AnswerFrame | None:
    try:
        return answer_frame(tokenizer)
    except CFTError:  # rows that came tokenised need no template that renders texts
        return None


def turn_record(tokenizer: Any, ends: Sequence[int], dates: Mapping[str, str], model: Any) -> dict[str, Any]:
    """What a run's record holds on its prompts and end tokens (see the top of this file).

    Args:
        tokenizer: The one that rows are written with.
        ends: The ids that end an answer.
        dates: What the template's dates are frozen to.
        model: The model that is trained.
    """
    frame = _frame(tokenizer)
    return {
        "ends": dict(zip(tokenizer.convert_ids_to_tokens(list(ends)), ends, strict=True)),
        "eos_token": tokenizer.eos_token,
        "header": frame.header if frame else "",
        "dates": dict(dates),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def tell_turns(tokenizer: Any, ends: Sequence[int], saved: Any) -> list[str]:
    """What is worth saying before training, a line each.

    Args:
        ends: Ids of the tokens that end an answer, with loss.
        saved: The tokenizer as it will be saved (`cft_trl.models.chat_templates.as_trained`).
    """
    lines = []
    if other := [i for i in ends if i != tokenizer.eos_token_id]:
        names = ", ".join(tokenizer.convert_ids_to_tokens(other))
        lines.append(
            f"answers end with {names}, the tokenizer's end token is {tokenizer.eos_token}: what is saved stops at both"
        )
    frame = _frame(tokenizer)
    if frame is None:
        return lines
    if frame.header and saved is not tokenizer:
        lines.append(
            f"the chat template trains answers behind {frame.header!r} and would not ask so: the template that is "
            "saved does"
        )
    elif frame.header or not frame.known:
        lines.append(
            "warning: the chat template trains answers in another context than it asks for them, and cannot be "
            "changed to ask as it trains; give another chat_template_path"
        )
    if "strftime_now(" in str(tokenizer.chat_template):
        lines.append("warning: the chat template writes the day's date, so that prompts differ from those trained on")
    return lines


def freeze_run_dates(tokenizer: Any, output_dir: str) -> dict[str, str]:
    """Has a template that writes the day's date write that of the run's beginning, now and once it is saved.

    Args:
        tokenizer: Its chat template is changed.
        output_dir: The run's folder; of a run that goes on, its record says the dates.

    Returns:
        What stands for each form of the date; {} for a template without one.
    """
    if not isinstance(template := template_of(tokenizer), str):
        return {}
    template, dates = freeze_dates(template, read_record(output_dir).get("turns", {}).get("dates"))
    if dates:
        whole = tokenizer.chat_template
        tokenizer.chat_template = {**whole, "default": template} if isinstance(whole, dict) else template
    return dates
