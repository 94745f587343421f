r"""Texts of visitors and models as HTML that can do nothing but be read.

    to_html(r"So **x** is $\frac{1}{2}$ <script>alert(1)</script>")
    # So <strong>x</strong> is ⟦\frac{1}{2}⟧ &lt;script&gt;alert(1)&lt;/script&gt;

Everything is escaped. Of Markdown only bold, code, headings and list marks are honoured; links and images stay the
characters they are, so nothing is ever fetched or followed. Formulas are put between two private characters (⟦ ⟧
above), the only delimiters that the page's KaTeX knows: a text cannot contain them, and "$5 and $6" is no formula.
The result is one line, which the page's Markdown parser takes for a single block of HTML and leaves alone.
"""

from __future__ import annotations

import re
from html import escape

INLINE, DISPLAY = ("\ue000", "\ue001"), ("\ue002", "\ue003")
LATEX_DELIMITERS = [
    {"left": DISPLAY[0], "right": DISPLAY[1], "display": True},
    {"left": INLINE[0], "right": INLINE[1], "display": False},
]

# No text of a model that is limited in tokens is longer; an endpoint could send one.
MAX_CHARS = 40_000
_MAX_FORMULA = 800

# Control characters, the private ones above, and those that turn the direction of what follows.
_REMOVED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ue000-\ue005\u202a-\u202e\u2066-\u2069]")
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_LINE_ENDS = re.compile("[\n\r\x85\u2028\u2029]+")
_FORMULA = re.compile(
    rf"\$\$(?P<dollars>[^$]{{1,{_MAX_FORMULA}}})\$\$"
    rf"|\\\[(?P<brackets>(?:(?!\\\]).){{1,{_MAX_FORMULA}}})\\\]"
    rf"|\\\((?P<parens>(?:(?!\\\)).){{1,{_MAX_FORMULA}}})\\\)"
    # One dollar: no space inside its ends, no digit after it, all on one line; so prices are none.
    rf"|(?<![\\$\w])\$(?P<dollar>(?![\s$])[^$\n]{{0,{_MAX_FORMULA}}}(?<![\s\\]))\$(?![\d$])",
    re.DOTALL,
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
# What makes a formula grow beyond its place or reach out of the page; KaTeX refuses the second kind by itself.
_UNWANTED = re.compile(
    r"\\(?:rule|kern|mkern|hskip|hspace|vspace|mskip|raisebox|href|url|html\w*|includegraphics|def|gdef|edef|xdef|let"
    r"|newcommand|renewcommand|providecommand|global|futurelet|Huge|huge|color|textcolor|colorbox|fcolorbox)(?![A-Za-z])"
)
_BOLD = re.compile(r"\*\*(?=\S)([^*\n]{1,300}?)(?<=\S)\*\*")
_CODE = re.compile(r"`([^`\n]{1,300})`")
_HEADING = re.compile(r"#{1,6} +")
_BULLET = re.compile(r"\s{0,6}[-*•] +")
# Stands for formula number n while the rest is escaped.
_KEPT = re.compile("\ue004(\\d+)\ue005")


def to_html(text: str) -> str:
    r"""A text as HTML, line for line.

    Args:
        text: Of any length and content; from `MAX_CHARS` characters on it is left out, and that is said.

    Returns:
        `<div>`s on one line; formulas between the delimiters above.

    Example:
        >>> to_html("- [x](javascript:x) **b**")
        '<div class="ln li"><span>•</span><span>[x](javascript:x) <strong>b</strong></span></div>'
        >>> to_html("It costs $5, and $6 more.")
        '<div class="ln">It costs $5, and $6 more.</div>'
    """
    cut = len(text) > MAX_CHARS
    text = _REMOVED.sub("", text[:MAX_CHARS])
    text = _LINE_END.sub("\n", text).strip("\n")
    formulas: list[str] = []
    lines = []
    for line in _without_formulas(text, formulas).split("\n"):
        if not line.strip():
            lines.append('<div class="ln gap"></div>')
        elif match := _HEADING.match(line):
            lines.append(f'<div class="ln head">{_inline(line[match.end() :], formulas)}</div>')
        elif match := _BULLET.match(line):
            lines.append(
                f'<div class="ln li"><span>•</span><span>{_inline(line[match.end() :], formulas)}</span></div>'
            )
        else:
            lines.append(f'<div class="ln">{_inline(line, formulas)}</div>')
    if cut:
        lines.append('<div class="ln note">The text is longer; the rest is not shown.</div>')
    return "".join(lines)


def plain(text: str) -> str:
    """A text as HTML on one line: a blank one would end the block of HTML, and Markdown would begin.

    Example:
        >>> plain("a <b>\\n\\n![c](d)")
        'a &lt;b&gt; ![c](d)'
    """
    return _escaped(_REMOVED.sub("", text))


def formula(latex: str) -> str:
    r"""A final answer as HTML: set as a formula where it may be one, else as text.

    Example:
        >>> formula("17") == INLINE[0] + "17" + INLINE[1]
        True
        >>> formula("36 dollars & <b>"), formula(r"\href{javascript:x}{y}")
        ('36 dollars &amp; &lt;b&gt;', '\\href{javascript:x}{y}')
    """
    latex = _REMOVED.sub("", latex).strip().strip("$").strip()
    words = re.search(r"(?<![\\A-Za-z])[A-Za-z]{3,}", re.sub(r"\\(?:text|mathrm|operatorname)\{[^{}]*\}", "", latex))
    if words or not _may_be_set(latex):
        return _escaped(latex[:_MAX_FORMULA])
    return INLINE[0] + _escaped(latex) + INLINE[1]


def _without_formulas(text: str, formulas: list[str]) -> str:
    """The text with a mark in the place of each formula, which goes to `formulas` as HTML."""

    def keep(latex: str, ends: tuple[str, str]) -> str | None:
        if not _may_be_set(latex):
            return None
        formulas.append(ends[0] + _escaped(latex.strip()) + ends[1])
        return f"\ue004{len(formulas) - 1}\ue005"

    def kept(match: re.Match[str]) -> str:
        display = match.lastgroup in ("dollars", "brackets")
        return keep(match[match.lastgroup or 0], DISPLAY if display else INLINE) or match[0]

    text = _FORMULA.sub(kept, text)
    # A box outside of any formula, as in "The answer is \boxed{17} meters."
    parts, at = [], 0
    for match in _BOX.finditer(text):
        end = _closing(text, match.end())
        if match.start() >= at and end and (mark := keep(text[match.start() : end], INLINE)):
            parts += [text[at : match.start()], mark]
            at = end
    return "".join([*parts, text[at:]])


def _may_be_set(latex: str) -> bool:
    return bool(latex.strip()) and len(latex) <= _MAX_FORMULA and not _UNWANTED.search(latex) and "\ue004" not in latex


def _closing(text: str, start: int) -> int | None:
    """After the brace that closes the one before `start`."""
    depth = 1
    for at in range(start, min(len(text), start + 300)):
        if text[at] in "{}" and text[at - 1] != "\\":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return at + 1
    return None


def _inline(line: str, formulas: list[str]) -> str:
    line = _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<strong>\1</strong>", _escaped(line)))
    return _KEPT.sub(lambda match: formulas[int(match[1])], line)


def _escaped(text: str) -> str:
    # Gradio's page has placeholders of its own, %%%LATEX_BLOCK_0%%%; a text must not hold one.
    return escape(_LINE_ENDS.sub(" ", text)).replace("%%", "%&#37;")
