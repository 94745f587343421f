r"""Verdicts that are not written in English sentences: JSON, Chinese, a box at the end.

    {"critique": "3 x 4 is 12.", "correct": false}       wrong
    结论: 错误                                            wrong
    ... so it fails.\n\n\boxed{Wrong}                    wrong

They are read where no English conclusion stands, or, for JSON, where the text is or ends in an object.
"""

from __future__ import annotations

import json
import re
from typing import Any

from cft_trl.data.verdict_grammar import Said, Verdict

_MAX_JSON = 200_000  # characters
_VERDICT_KEY = re.compile(r"(?:final_?|overall_?)?(?:verdict|conclusion|judge?ment|correctness|label)", re.IGNORECASE)
_CORRECT_KEY = re.compile(
    r"(?:(?:is|answer|solution|overall|final|response)_?(?:is_?)?)*(?:correct|right)",
    re.IGNORECASE,
)
_VALUES: dict[str, Verdict] = {
    **dict.fromkeys(("right", "correct", "true", "yes", "1"), "right"),
    **dict.fromkeys(("wrong", "incorrect", "false", "no", "0"), "wrong"),
}
_JSON_LINE = re.compile(r"^[ \t]*(?:```(?:json)?[ \t]*\n[ \t]*)?(?=[{\[])", re.MULTILINE | re.IGNORECASE)

_CHINESE = re.compile(r"(?:结论|判断|判定|评判|裁决|评价)(?:是|为)?[*_ \t]*[:\uff1a][*_ \t]*(?P<said>[^\n\[]{1,120})")
_CHINESE_UNSURE = re.compile(
    r"部分|基本|大致|几乎|除|如果|若|是否|应该|可能|但|不过|然而|只|仅|直到|并非|不是|不能|未必|或|不算|算不|远非|难说|谈不上|称不上|吗|[?\uff1f]"
)
# "Step 1 is right", "the method is right": praise of a part.
_CHINESE_PART = re.compile(
    r"(?<![所全各个每])(?:步骤|第[一二三四五六七八九十\d]+[步行个]|前[一二三四五六七八九十几\d]|思路|方法|过程|推理|公式|开头)"
    r"(?!.{0,8}(?:答案|结果|解答))(?<!所有步骤)(?<!全部步骤)(?<!每个步骤)(?<!各个步骤)"
)
_CHINESE_FAULTLESS = re.compile(r"(?:没有|无|未见|不存在)(?:任何)?(?:明显)?(?:的)?(?:错误|问题|错)|无误|没错")
_CHINESE_WRONG = re.compile(r"不(?:完全|太)?(?:正确|对|成立)|错误|有误|错")
_CHINESE_NAMED = re.compile(r"正确的?(?:答案|结果|解)(?:应|是|为)?|错误的?(?:答案|结果)")
_CHINESE_RIGHT = re.compile(r"正确|\A[*_ ]*对")

_BOX = re.compile(
    r"\\(?:boxed|fbox)\{(?:\\(?:text\w*|math\w*)\{)?[ *]*(?P<said>right|correct|wrong|incorrect)[ .*]*\}*[\s$*_.)\]\\]*"
    r"(?:\[END\]\s*)?\Z",
    re.IGNORECASE,
)


def json_verdict(text: str, start: int, end: int) -> Said | None:
    r"""What a critique that is, or ends in, a JSON object says of the whole solution.

    Args:
        text: The critique.
        start, end: The stretch of it that is read.

    Returns:
        `None` where there is no such object, or where it holds its verdict as a sentence, which is read as any other.
        Else a `Said`: of the kind "json" with the verdict (`None`: it cannot be read one way), of the kind "none" where
        the object says nothing of the whole, as a list of verdicts on steps.

    Example:
        >>> text = '{"critique": "off", "correct": false}'
        >>> json_verdict(text, 0, len(text)).verdict
        'wrong'
    """
    if "{" not in text or end - start > _MAX_JSON or not text[start:end].rstrip("` \t\r\n").endswith(("}", "]")):
        return None
    for number, line in enumerate(_JSON_LINE.finditer(text, start, end)):
        if number == 3:
            break
        loaded = _loaded(text[line.end() : end])
        if isinstance(loaded, dict):
            return _read(loaded, text, line.end(), end)
        if isinstance(loaded, list) and loaded and isinstance(loaded[0], dict):
            return Said("none", None, start, start)
    return None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text.rstrip("` \t\r\n"))
    except (ValueError, RecursionError):
        return None


def _read(loaded: dict[str, Any], text: str, start: int, end: int) -> Said | None:
    found: list[Said] = []
    for key, value in loaded.items():
        if not (_VERDICT_KEY.fullmatch(key) or _CORRECT_KEY.fullmatch(key)):
            continue
        if not isinstance(value, str | bool | int):
            continue
        verdict = _VALUES.get(str(value).strip().strip(".!").lower())
        if verdict is None and isinstance(value, str) and _VERDICT_KEY.fullmatch(key):
            return None
        places = list(re.finditer(rf'"{re.escape(key)}"\s*:\s*"?\s*(?P<said>\w+)', text[start:end]))
        if places:
            at = start + places[-1].start("said"), start + places[-1].end("said")
            found.append(Said("json", verdict, *at))
    if not found:
        return Said("none", None, start, start)
    same = len({said.verdict for said in found}) == 1
    return found[-1] if same else found[-1]._replace(verdict=None)


def other_form(text: str, start: int, end: int) -> Said | None:
    r"""The verdict of a Chinese conclusion, or of a box that closes the text; `None` where there is neither.

    Args:
        text: The critique.
        start, end: The part of it that is read, in characters.

    Example:
        >>> [other_form(text, 0, len(text)).verdict for text in ("结论: 错误", "结论: 正确", "So:\n\\boxed{Wrong}")]
        ['wrong', 'right', 'wrong']
    """
    for match in [] if text.isascii() else reversed(list(_CHINESE.finditer(text, start, end))):
        if found := _chinese(match):
            return found
    box = _BOX.search(text, max(start, end - 80), end)
    return Said("box", _VALUES[box["said"].lower()], *box.span("said")) if box else None


def _chinese(match: re.Match[str]) -> Said | None:
    sentence = re.split("[\u3002\uff01!;\uff1b]", match["said"])[0]
    said = _CHINESE_NAMED.sub(lambda named: "\u3000" * len(named[0]), sentence)
    faultless = _CHINESE_FAULTLESS.search(said)
    plain = _CHINESE_FAULTLESS.sub(lambda none: "\u3000" * len(none[0]), said)
    wrong = _CHINESE_WRONG.search(plain)
    right = _CHINESE_RIGHT.search(_CHINESE_WRONG.sub(lambda none: "\u3000" * len(none[0]), plain)) or faultless
    first = wrong or right
    if first is None:
        return None
    goes_on = re.match(r"\W*(?:但|不过|然而|可是)", match["said"][len(sentence) :])
    part = not wrong and _CHINESE_PART.search(plain)
    unclear = (wrong and right) or _CHINESE_UNSURE.search(plain) or goes_on or part
    at = match.start("said")
    verdict: Verdict | None = None if unclear else "wrong" if wrong else "right"
    return Said("chinese", verdict, at + first.start(), at + first.end())
