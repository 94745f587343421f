r"""What a model said to its reader, without its thinking, its channels and its turn's tokens.

    <think>Hm.</think>\n\nStep 1 fails.                                              -> Step 1 fails.
    <|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Step 1 fails.<|return|>
                                                                                      -> Step 1 fails.
    analysisHm.assistantfinalStep 1 fails.       (the same, special tokens skipped)   -> Step 1 fails.
    ```markdown\nStep 1 fails.\n```                                                   -> Step 1 fails.

A server with the right parser sends none of it; many run without one. The forms are those that chat templates and
model cards document: `<think>` (DeepSeek-R1, Qwen3 and most others, also with the opening tag in the prompt),
`<thinking>`, `<thought>`, `<seed:think>` (Seed-OSS), `[THINK]` (Magistral), `◁think▷` (Kimi), `<|begin_of_thought|>`
(Sky-T1), `<|START_THINKING|>` (Command A), `<|channel>thought` (Gemma 4), and harmony's channels (gpt-oss).

Only what is surely markup is taken off. A token that a text still holds afterwards is named by `control_token`: such
a text is torn, or speaks about the tokens, and no rule can tell which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NAMES = "think|thinking|thoughts?|longcat_think|antthinking|scratchpad|inner_monologue"
# name of the pair -> (opening, closing), as patterns
_THINKING = {
    "xml": (rf"<(?i:{_NAMES})(?:\s[^<>\n]{{0,80}})?>", rf"</(?i:{_NAMES})>"),
    "apriel": [r"Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"],
    "solar": [r"<\|think\|>", r"<\|end\|>(?=\s*<\|begin\|>assistant<\|content\|>)"],
    "seed": [r"<seed:think>", r"</seed:think>"],
    "mistral": [r"\[THINK\]", r"\[/THINK\]"],
    "kimi": [r"◁think▷", r"◁/think▷"],
    "sky": [r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"],
    "command": [r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"],
    "gemma": [r"<\|channel>thought\b", r"<channel\|>"],
    "apertus": [r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"],
}
_TAG = re.compile(
    "|".join(f"(?P<{name}>{opening})|(?P<{name}_end>{closing})" for name, (opening, closing) in _THINKING.items())
)
# Thinking whose end alone says nothing: Open WebUI's fold, Granite 3.2's two headings.
_BLOCK = re.compile(
    r"^[ \t]*<details type=\"reasoning\"[^<>\n]{0,80}>.*?</details>"
    r"|\A\s*Here is my thought process:.*?\n[ \t]*Here is my response:",
    re.DOTALL | re.MULTILINE,
)
_BLOCK_SIGNS = ("<details", "Here is my thought")
_SIGNS = ("<", "think", "thought", "THINK", "assistantfinal", "analysis", "[BEGIN FINAL", "Here is my thought")
_WINDOW = 20  # characters before a tag in which its line must begin

# Harmony (gpt-oss): messages, each with a channel. What the reader gets is in the channel "final".
_MESSAGE = re.compile(r"<\|channel\|>(?P<channel>\w+)[^<]{0,200}(?:<\|constrain\|>[^<]{0,50})?<\|message\|>")
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
# The same with the special tokens skipped in decoding: the names stay and stick to the words. "final" before a
# capital or a sign of Markdown is in no sentence.
_WORD_BEGINS = r"(?=\s*(?:[^\W\d_a-z]|[*#$\\\d\"'`(\[-]))"
_FINAL = re.compile(rf"assistant(?:<\|message\|>)?final{_WORD_BEGINS}")
_BARE_FINAL = re.compile(r"\A(?:assistant)?final(?=[^\W\d_a-z]|[*#$\\])")
_BARE_ANALYSIS = re.compile(r"\A(?:assistant)?(?:analysis|commentary)(?=[^\W\d_a-z]|[*#$\\])")

# What opens and what ends an assistant's turn; and the tags around what follows the thinking.
_OPENING = re.compile(
    r"\A\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\uff5cbegin▁of▁sentence\uff5c>|<\uff5cAssistant\uff5c>|<\|Assistant\|>|<\|assistant\|>"
    r"|assistant(?=\n\n)|<\|header_start\|>assistant<\|header_end\|>|<\|begin\|>assistant(?:<\|content\|>)?"
    r"|<\|im_start\|>assistant\b|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|start\|>assistant(?!<\|channel)"
    r"|<start_of_turn>model\b|<\|turn>model\b|<\|START_OF_TURN_TOKEN\|>|<\|CHATBOT_TOKEN\|>"
    r"|<\|begin_of_solution\|>|<\|START_(?:RESPONSE|TEXT)\|>|\[/INST\])\s*"
)
_ENDS = (
    r"<\|im_end\|>|<\|eot_id\|>|<\|eom_id\|>|<\|end_of_text\|>|<\|endoftext\|>|<\|return\|>|<\|end\|>"
    r"|<\|END_(?:RESPONSE|TEXT|OF_TURN_TOKEN)\|>|<\|end_of_solution\|>|<\uff5cend▁of▁sentence\uff5c>"
    r"|<end_of_turn>|<turn\|>"
    r"|<eos>|</s>|<seed:eos>|<\|user\|>|<\|(?:eot|EOT|eos|endofturn|endofresponse)\|>|\[\|endofturn\|\]|\[e~\["
    r"|</longcat_s>|<SPECIAL_\d+>|\[END FINAL RESPONSE\]"
)
# A template's own tokens: <|im_start|>, <start_of_turn> ... "|x|<|y|" holds none.
_CONTROL = re.compile(
    r"<\|/?[A-Za-z][\w ]{2,40}\|>|<\uff5c[^\uff5c<>\n]{3,40}\uff5c>|</?(?:start|end)_of_turn>"
    r"|<\|(?:turn|channel|tool|think)>|<(?:turn|channel|tool|think)\|>|</?(?:think|thinking|seed:think)>"
    r"|\A</?reasoning>|\[\|(?:endofturn|assistant|user|system)\|\]|\[/?(?:THINK|INST)\]|◁/?think▷|<seed:[eb]os>"
)
_END = re.compile(rf"(?:{_ENDS})(?=\s*(?:\Z|{_CONTROL.pattern}|</?s>))")

# What each tag, end and token begins with. Most of a text's characters are none of these, and `re` is quick to pass
# over them where it looks for nothing else.
_BEGINS = re.compile(r"[<\[H◁]")

# Tags around the whole of an answer.
_WRAPPER = re.compile(
    r"\A<(?P<name>answer|response|output|critique|review|final|final_answer|result)>\s*(?P<inside>.*?)"
    r"(?:\s*</(?P=name)>)?\s*\Z", re.DOTALL | re.IGNORECASE,
)  # fmt: skip
_FENCE = re.compile(r"\A(?P<ticks>`{3,}|~{3,})[ \t]*(?P<language>\w*)[ \t]*\r?\n")
_FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[^\n`]*$", re.MULTILINE)
_PROSE = {"", "markdown", "md", "text", "txt", "plaintext", "latex", "tex"}


def _found(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """As `pattern.finditer(text)`, of `_TAG`, `_END` or `_CONTROL`."""
    at = 0
    while begin := _BEGINS.search(text, at):
        found = pattern.match(text, begin.start())
        at = found.end() if found else begin.end()
        if found:
            yield found


def plain_answer(text: str) -> str:
    r"""A model's answer without thinking, channels, turn tokens and a fence around the whole of it.

    Args:
        text: The answer as it was generated, of any length.

    Returns:
        What is for the reader, without white space at its ends; "" where the answer is thinking only, or broke off in
        it.

    Example:
        >>> plain_answer("<think>Hm.</think> 42."), plain_answer("Hm, 6 x 7 </think> 42."), plain_answer("<think>Hm, 6")
        ('42.', '42.', '')
        >>> plain_answer("analysisHm.assistantfinal42."), plain_answer("[THINK]Hm.[/THINK]42.</s>")
        ('42.', '42.')
        >>> plain_answer("```markdown\nIt is 42.\n```")
        'It is 42.'
    """
    text = _final_channel(_without_opening(text))
    text = _without_opening(_without_thinking(text))
    end = next(_found(_END, text), None)
    # "<s>x</s>" is struck out, not a turn's end.
    if end and text[: end.start()].strip() and not (end[0] == "</s>" and "<s>" in text):
        text = text[: end.start()]
    text = text.strip()
    wrapped = _WRAPPER.match(text)
    if wrapped and f"</{wrapped['name']}>" not in wrapped["inside"]:
        text = wrapped["inside"].strip()
    return _without_fence(text)


def control_token(text: str) -> str | None:
    """The first token of a chat template's own that a text holds; `None` where it holds none.

    Example:
        >>> control_token("It is 42.<|im_start|>user"), control_token("if |x|<|y|, then |x|<|y|+1")
        ('<|im_start|>', None)
    """
    found = next(_found(_CONTROL, text), None)
    return found[0] if found else None


def spoken(text: str) -> tuple[int, int]:
    """The stretch of a text that is for the reader: after all thinking that ended, before thinking that did not.

    For reading a text as it stands; offsets stay those of the text.

    Example:
        >>> text = "<think>Right?</think> Wrong."
        >>> start, end = spoken(text)
        >>> text[start:end], spoken("<think>Right?"), spoken("Wrong.")
        (' Wrong.', (0, 0), (0, 6))
    """
    start, end, opened = 0, len(text), None
    if not any(sign in text for sign in _SIGNS):  # training reads every critique three times
        return start, end
    for tag in _found(_TAG, text):
        if (tag.lastgroup or "").endswith("_end"):
            start, opened = tag.end(), None
        elif opened is None and _begins_line(text, start, tag.start()):
            opened = tag.start()
    if opened is not None:
        end = opened
    for block in _BLOCK.finditer(text, start, end):
        start = block.end()
    for message in _MESSAGE.finditer(text, start):
        start, end = message.end(), len(text) if message["channel"] == "final" else message.end()
    for final in _FINAL.finditer(text, start, end):
        start = final.end()
    if start == 0 and _BARE_ANALYSIS.match(text):
        end = 0
    return start, end


def _without_opening(text: str) -> str:
    while found := _OPENING.match(text):
        text = text[found.end() :]
    return text


def _final_channel(text: str) -> str:
    """The text of harmony's channel "final"; "" where there are channels and none is final."""
    messages = list(_MESSAGE.finditer(text))
    if messages:
        finals = []
        for message in messages:
            if message["channel"] == "final":
                end = _MESSAGE_END.search(text, message.end())
                finals.append(text[message.end() : end.start() if end else len(text)].strip())
        return "\n\n".join(finals)
    *_, last = (None, *_FINAL.finditer(text))
    if last:
        return text[last.end() :]
    if found := _BARE_FINAL.match(text):
        return text[found.end() :]
    return "" if _BARE_ANALYSIS.match(text) else text


def _without_thinking(text: str) -> str:
    """The text without its thinking blocks.

    A block opens at a line's beginning and ends with the first closing tag. A closing tag before any other one ends a
    block that the prompt opened. An opening one that is never closed broke off: it leaves "", or, after other text,
    stays for `control_token` to find.
    """
    if any(sign in text for sign in _BLOCK_SIGNS):
        text = _BLOCK.sub("", text)
    kept: list[str] = []
    at, block = 0, None
    for number, tag in enumerate(_found(_TAG, text)):
        name = tag.lastgroup or ""
        if block is not None:
            if name == f"{block.lastgroup}_end":
                at, block = tag.end(), None
        elif name.endswith("_end"):
            if number == 0:
                at = tag.end()
        elif _begins_line(text, at, tag.start()):
            kept.append(text[at : tag.start()])
            block = tag
    if block is not None:
        before = "".join(kept)
        return before + text[block.start() :] if before.strip() else ""
    return "".join(kept) + text[at:]


def _begins_line(text: str, start: int, at: int) -> bool:
    """Whether only decoration stands before `at` in its line; the text is taken to begin at `start`."""
    before = text[max(start, at - _WINDOW) : at]
    line = before.rpartition("\n")[2]
    return not line.strip(" \t*_>") and (line != before or at - _WINDOW <= start)


def _without_fence(text: str) -> str:
    """The inside of a fence around the whole text, also of one that a stop string left open."""
    fence = _FENCE.match(text)
    if not fence or fence["language"].lower() not in _PROSE:
        return text
    inside = text[fence.end() :]
    lines = list(_FENCE_LINE.finditer(inside))
    if not lines:
        return inside.strip()
    # Fences inside come in pairs; the outer one's end is then the odd last one, and the text's last line.
    closes = lines[-1]
    if len(lines) % 2 and not inside[closes.end() :].strip() and (len(lines) == 1 or fence["language"]):
        return inside[: closes.start()].strip()
    return text
