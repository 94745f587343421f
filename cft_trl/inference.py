"""What a trained model is asked to do: solve a question, or critique a solution.

    critique(model, tokenizer, [{"query": "2+2?", "response": "2+2 = 5. The answer is 5."}])
    # ["2+2 = 4, but the solution has 5.\\nThe correct answer is 4.\\nConclusion: wrong [END]"]

One implementation for the command line, the evaluation and the demo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cft_trl.prompts import Prompting, base_prompt, chat_messages

# The published evaluation ends a generation at the first of these (method of arXiv 2501.17703).
STOP_STRINGS = ("[END]", "(END)", "**END**", r"\[END\]")


def critique(
    model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]], *, prompt_preset: str = "paper", **kwargs: Any
) -> list[str]:
    """Writes one critique per row (`query`, `response`), in the prompt the model was trained with.

    Args:
        kwargs: see `generate`.
    """
    prompting = Prompting("cft", preset=prompt_preset)
    return generate(model, tokenizer, [prompting.user_turn(row) for row in rows], **kwargs)


def solve(model: Any, tokenizer: Any, queries: Sequence[str], **kwargs: Any) -> list[str]:
    """Answers each question directly: the inference mode `direct`, where no critique is asked for."""
    return generate(model, tokenizer, list(queries), **kwargs)


def generate(
    model: Any,
    tokenizer: Any,
    user_turns: Sequence[str],
    *,
    max_new_tokens: int = 2048,
    temperature: float = 0.0,
    top_p: float = 1.0,
    batch_size: int = 16,
    stop: Sequence[str] = STOP_STRINGS,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Generates in batches of similar length; returns texts in the order of `user_turns`.

    Args:
        max_new_tokens: limit per text, in tokens.
        temperature: 0 is greedy.
        stop: a text ends with the first of these strings, which stays part of it.
        on_progress: called with the number of texts just finished.
    """
    import torch
    from transformers import StoppingCriteriaList, StopStringCriteria

    prompts = [render_prompt(tokenizer, turn) for turn in user_turns]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature > 0 else {}
    sampling = sampling or {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    criteria = StoppingCriteriaList([StopStringCriteria(tokenizer, list(stop))] if stop else [])
    was_training = model.training
    model.eval()
    try:
        for begin in range(0, len(order), batch_size):
            chosen = order[begin : begin + batch_size]
            batch = tokenizer(
                [prompts[i] for i in chosen],
                return_tensors="pt",
                padding=True,
                padding_side="left",
                add_special_tokens=not tokenizer.chat_template,
            ).to(model.device)
            with torch.inference_mode():
                out = model.generate(
                    **batch,
                    max_new_tokens=max_new_tokens,
                    stopping_criteria=criteria,
                    pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
                    use_cache=True,
                    **sampling,
                )
            new = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            for i, text in zip(chosen, new, strict=True):
                texts[i] = cut_at_stop(text, stop)
            if on_progress:
                on_progress(len(chosen))
    finally:
        model.train(was_training)
    return texts


def render_prompt(tokenizer: Any, user_turn: str) -> str:
    """The text the model continues: through the chat template, or plain for a base model without one."""
    if not tokenizer.chat_template:
        return base_prompt(user_turn)
    return tokenizer.apply_chat_template(chat_messages(user_turn), tokenize=False, add_generation_prompt=True)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """Cuts after the first stop string: tokens hold more than it now and then.

    Example:
        >>> cut_at_stop("Conclusion: right [END] and so on", STOP_STRINGS)
        'Conclusion: right [END]'
    """
    ends = [text.find(mark) + len(mark) for mark in stop if mark in text]
    return text[: min(ends)] if ends else text
