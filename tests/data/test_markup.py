"""Thinking, channels and fences come off what models write; what cannot be taken off is named."""

import pytest

from cft_trl.data.markup import control_token, plain_answer
from cft_trl.data.teacher_prompts import clean_critique

SAID = "Step 1 fails: 3 x 7 is 21.\n\nConclusion: wrong [END]"
THOUGHT = "We check. The student may be right.\nConclusion: right [END]"
WRAPPED = {
    "nothing": "{said}",
    "think": "<think>{thought}</think>\n\n{said}",
    "think opened by the prompt": "{thought}\n</think>\n\n{said}",
    "an empty think block": "<think>\n\n</think>\n\n{said}",
    "two blocks": "<think>{thought}</think>\n<think>{thought}</think>\n{said}",
    "thinking": "<thinking>{thought}</thinking>\n{said}",
    "seed": "<seed:think>{thought}</seed:think>{said}<seed:eos>",
    "magistral": "[THINK]{thought}[/THINK]{said}</s>",
    "kimi": "◁think▷{thought}◁/think▷{said}",
    "sky": "<|begin_of_thought|>{thought}<|end_of_thought|>\n\n<|begin_of_solution|>{said}<|end_of_solution|>",
    "command": "<|START_THINKING|>{thought}<|END_THINKING|><|START_RESPONSE|>{said}<|END_RESPONSE|>",
    "gemma": "<|channel>thought\n{thought}<channel|>{said}<turn|>",
    "harmony": "<|channel|>analysis<|message|>{thought}<|end|>"
    "<|start|>assistant<|channel|>final<|message|>{said}<|return|>",
    "harmony, one channel": "<|channel|>final<|message|>{said}",
    "harmony, three channels": "<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>commentary"
    "<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>{said}<|return|>",
    "harmony without special tokens": "analysis{thought}assistantfinal{said}",
    "harmony, the channel opened by the prompt": "{thought}assistantfinal{said}",
    "harmony, the final channel's name alone": "final{said}",
    "a fence": "```markdown\n{said}\n```",
    "a fence with a heading": "```markdown\nCritique:\n{said}\n```",
    "a fence without a name": "```\n{said}\n```\n",
    "a fence that a stop string left open": "```md\n{said}",
    "thinking before a fence": "<think>{thought}</think>\n```text\n{said}\n```",
    "a turn": "<|im_start|>assistant\n{said}<|im_end|>",
    "an invented next turn": "{said}<|im_end|>\n<|im_start|>user\nAnd 3 x 8?<|im_end|>",
    "capital tags": "<THINK>{thought}</THINK>\n{said}",
    "a tag with attributes": '<think duration="3">{thought}</think>{said}',
    "an answer in tags": "<think>\n{thought}\n</think>\n<answer>\n{said}\n</answer>",
    "a response in tags": "<think>{thought}</think><response>{said}</response>",
    "longcat": "<longcat_think>\n{thought}\n</longcat_think>\n{said}</longcat_s>",
    "scratchpad": "<scratchpad>{thought}</scratchpad>\n{said}",
    "a fold": '<details type="reasoning" done="true">\n<summary>Thought</summary>\n{thought}\n</details>\n{said}',
    "granite": "Here is my thought process: {thought}\n\nHere is my response: {said}",
    "apriel": "Here are my reasoning steps:\n{thought}\n[BEGIN FINAL RESPONSE]\n{said}\n[END FINAL RESPONSE]",
    "solar": "<|begin|>assistant<|think|>{thought}<|end|><|begin|>assistant<|content|>{said}<|end|>",
    "llama 4": "<|header_start|>assistant<|header_end|>\n\n{said}<|eot|>",
    "a header without special tokens": "assistant\n\n{said}",
    "exaone": "<thought>\n{thought}\n</thought>\n\n{said}[|endofturn|]",
    "llama": "<|start_header_id|>assistant<|end_header_id|>\n\n{said}<|eot_id|>",
}


@pytest.mark.parametrize("form", WRAPPED)
def test_a_critique_comes_out_of_every_wrapping(form):
    critique = clean_critique(WRAPPED[form].format(said=SAID, thought=THOUGHT))
    assert (critique, control_token(critique)) == (SAID, None)


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{THOUGHT}",
        f"[THINK]{THOUGHT}",
        f"<seed:think>{THOUGHT}",
        f"<|channel|>analysis<|message|>{THOUGHT}",
        f"analysis{THOUGHT}",
        f"{THOUGHT}</think>",
        " ",
    ],
)
def test_thinking_alone_is_nothing_said(text):
    assert plain_answer(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Analysis: the sum is 4.\n\nFinal: 4",
        "final answer: 4",
        "analysis of step 2 shows a slip",
        "If |x|<|y|, then x^2<y^2, and [INSTEAD] of <t> we may take <b>s</b>.",
        "```python\nprint(4)\n```",
        "```\na\n```\nand\n```\nb\n```",
        "It says:\n```markdown\n# x\n```",
        "Hm, <s>5</s> 4",
    ],
)
def test_what_is_no_markup_stays(text):
    assert (plain_answer(text), control_token(text)) == (text, None)


def test_a_block_inside_a_fence_keeps_the_inner_fence():
    assert plain_answer("```markdown\nRun:\n```python\nx\n```\nSo.\n```") == "Run:\n```python\nx\n```\nSo."


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("It is 4.<|im_start|>user And 5? <|im_end|> So.", "<|im_start|>"),
        ("The tag <think> opens it.", "<think>"),
        ("It is 4. [INST] And 5?", "[INST]"),
        ("Fine.\n<think>Hm, but", "<think>"),
        ("<think>a<think>b</think>c</think>d", "</think>"),
    ],
)
def test_what_cannot_be_taken_off_is_named(text, token):
    assert control_token(plain_answer(text)) == token


def test_a_megabyte_of_markup_ends():
    """Each of these took minutes with a pattern that looked for the closing tag again from every opening one."""
    for piece in ("<think>\n", "</think>", "<|channel|>final<|message|>", "x<|im_end|>", "assistantfinal", "```\n",
                  "<|start|>assistant", "[THINK]\n[/THINK]", "<|im_end|> ", " "):  # fmt: skip
        plain_answer(piece * (1_000_000 // len(piece)))


@pytest.mark.parametrize(
    "text",
    [
        "see <details>x</details> there",
        "Let |x|: [|x|] is 3.",
        "Note this.\nHere is my response: 42.",
        "assistant professors",
    ],
)
def test_what_only_resembles_markup_stays(text):
    assert (plain_answer(text), control_token(text)) == (text, None)
