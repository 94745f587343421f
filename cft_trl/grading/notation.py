# ruff: noqa: RUF001
r"""One way of writing: what an answer looks like before anything of it is read.

    clean(r"$\left( \dfrac 12,\, 12{,}000 \right]$.")       # ( \frac{1}{2}, 12000 ]
    clean(r"{\color{red}\mathbf{x²}}")                       # x^{2}

Fonts, sizes, colours and spacing go; symbols of Unicode become LaTeX; "and" and "or" become \land and \lor, for they do
not mean the same. Spaces stay where they part two numbers. Every step takes time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from cft_trl.grading.structure import argument, words

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙₖ", "0123456789nk")
_CHARACTERS = {
    **dict.fromkeys("−–‐‑", "-"),
    **{"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/", "π": r"\pi ", "°": r"^\circ "},
    **{"∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∓": r"\mp ", "≈": r"\approx "},
    **{"≡": r"\equiv ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R} "},
    **{"ℤ": r"\mathbb{Z} ", "ℕ": r"\mathbb{N} ", "ℚ": r"\mathbb{Q} ", "ℂ": r"\mathbb{C} ", "′": "'", "″": "''"},
    **{"⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil "},
    **{"\u200b": "", "\ufeff": "", "…": r"\dots ", "’": "'", "¬": r"\lnot ", "∧": r" \land ", "∨": r" \lor "},
    **{"µ": "μ", "⟹": r"\Rightarrow ", "→": r"\to ", "∠": r"\angle ", "△": r"\triangle ", "⇒": r"\Rightarrow "},
    **dict(zip("αβγδεζηθκλμνξρστφχψωΓΔΘΛΣΦΨΩ", [
        f"\\{name} " for name in words("alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma "
        "tau phi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega")], strict=True)),
}  # fmt: skip
_FUNCTION_NAMES = words(
    "arcsin arccos arctan arccot arcsec arccsc arsinh arcosh artanh sinh cosh tanh coth sech csch sin "
    "cos tan cot sec csc log ln lg exp lcm gcd min max sgn deg det arg"
)
_FONTS = "mathbf boldsymbol bm mathit mathsf mathtt mathnormal bold pmb underline uline cancel mathcal mathscr hbox*"
_TEXTS = "text textbf textrm textit textnormal textsf texttt textsc textup mbox hbox emph mathrm rm operatorname"
_DROPPED = "tag label hspace vspace phantom vphantom hphantom color textcolor colorbox footnote"
_SIZES = (
    r"\\(?:large|Large|LARGE|huge|Huge|small|footnotesize|normalsize|tiny|displaystyle|textstyle|scriptstyle|limits"
    r"|mathstrut|bf|it|bfseries|itshape|strut|notag|nonumber|centering|boldmath)(?![A-Za-z])\s*"
)
_LINES = re.compile(r"\\(begin|end)\{(?:aligned|align|gathered|gather|equation|split|displaymath|math|alignat)\*?\}")
_ROOT = re.compile(r"√\s?(\d+(?:\.\d+)?|\w)")
_REWRITES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)(?:\{,\}|,\s?\\!)\s*(?=\d{3}(?!\d))", ""),  # 12{,}000 and 12,\!000: the comma is no list
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?(?=\s*[()\[\]\\|{}.<>/]|\s*$)", ""),
        (r"\\math(?:open|close|bin|rel|ord|punct)\s*\{?([\[\]()<>|])\}?", r"\1"),
        (r"\\Bbb\s*\{?\s*([A-Z])\s*\}?", r"\\mathbb{\1}"),
        (r"\\(?:backslash|smallsetminus)(?![A-Za-z])|(?<=\\mathbb\{R\})\s*-\s*(?=\\\{)", r"\\setminus "),
        (r"\{:\}", ":"),
        (r"\\(?:pounds|textsterling)(?![A-Za-z])\s*", "£"),
        (r"\\(?:euro|texteuro)(?![A-Za-z])\s*", "€"),
        (r"\\text\{\s*,\s*\}", ", "),
        # A number in parentheses above a name counts derivatives or terms; it is no power.
        (r"(?<![A-Za-z\\])([a-df-zA-Z])\s*\^\s*\{\s*\((\d)\)\s*\}(?!\s*\()", r"\1_{(\2)}"),
        (_SIZES, " "),
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\[,;: >\n]|~|\\q?quad(?![A-Za-z])|\\(?:thin|med|thick)space(?![A-Za-z])", " "),
        (r"(?<!\\)\\[lrc]?dots[a-z]?(?![A-Za-z])|\.\.\.+", r"\\dots "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\\(?:leqslant|leqq|leq)(?![A-Za-z])", r"\\le"),
        (r"\\(?:geqslant|geqq|geq)(?![A-Za-z])", r"\\ge"),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\neq(?![A-Za-z])|\\not\s*=|(?<=\s)!=(?!=)", r"\\ne "),
        (r"<=", r"\\le "),
        (r"(?<!=)>=", r"\\ge "),
        (r"\\(?:varnothing|empty|O)(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset"),
        (r"\\(?:lbrace)(?![A-Za-z])", r"\\{"),
        (r"\\(?:rbrace)(?![A-Za-z])", r"\\}"),
        (r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z])", "|"),
        (r"\\(?:lparen)(?![A-Za-z])", "("),
        (r"\\(?:rparen)(?![A-Za-z])", ")"),
        (r"\\lbrack(?![A-Za-z])", "["),
        (r"\\rbrack(?![A-Za-z])", "]"),
        (r"\\degrees?(?![A-Za-z])|\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])", r"^\\circ "),
        (r"\^\s*\{\s*\\prime\s*\}|\^\s*\\prime(?![A-Za-z])|\\prime(?![A-Za-z])", "'"),
        (r"\\var(epsilon|phi|theta|rho|sigma|kappa)(?![A-Za-z])", r"\\\1"),
        (r"\\ell(?![A-Za-z])", "l"),
        (r"\\imath(?![A-Za-z])", "i"),
        (r"\\jmath(?![A-Za-z])", "j"),
        (r"\\(?:thickapprox|approxeq|simeq|doteq)(?![A-Za-z])|~=", r"\\approx "),
        (r"\\(?:ast)(?![A-Za-z])|\*\*(?=\s*[-\d({a-z])", lambda m: "*" if "ast" in m[0] else "^"),
        (r"\\(?:R|reals)(?![A-Za-z])", r"\\mathbb{R} "),
        (r"\\(?:wedge)(?![A-Za-z])", r" \\land "),
        (r"\\(?:vee)(?![A-Za-z])", r" \\lor "),
        (r",?\s*\\text\{\s*,?\s*(and|or)\s*,?\s*\}", lambda m: r" \land " if m[1] == "and" else r" \lor "),
        (
            r",?\s+(and|or)\s+(?=[-+\d.(\\\[{A-Za-z$|])",
            lambda m: r" \land " if m[1] == "and" else r" \lor ",
        ),
        (r"(?<![A-Za-z\\])(?:infinity|infty|oo)(?![A-Za-z])", r"\\infty"),
        (r"\+\s*\\infty", r"\\infty"),
        (r"(?<![A-Za-z\\])(?:np|math)\.(?=[a-z])", r"\\"),
        (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\times "),
        (r"(?<![A-Za-z0-9}])(\d{1,3})C(\d{1,3})(?![\dA-Za-z])", r"\\binom{\1}{\2}"),
        (r"\\text\{\s*([-+=])\s*\}", r"\1"),
        (r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]{1,40}\})\s*(\d)", r"\1{\2}"),
        (r"\\frac\s+\{", r"\\frac{"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (
            r"(?<![A-Za-z0-9}])(?:\{\s*\})?[_^]\s*(?:\{\s*(\w{1,6})\s*\}"
            r"|(\w))\s*([CP])\s*_\s*(?:\{\s*(\w{1,6})\s*\}|(\w))",
            lambda m: _chosen(m[1] or m[2], m[3], m[4] or m[5]),
        ),
        (r"\s+", " "),
    )
]


_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?\.?")
_KNOWN = frozenset(
    words(
        "frac dfrac tfrac cfrac sqrt pi sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln "
        "lg exp alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu "
        "xi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi "
        "Psi Omega le leq ge geq ne neq lt gt in infty int to times cdot div pm mp cup cap triangle angle "
        "circ text mathrm mathbf mathbb binom choose left right lfloor rfloor lceil rceil sum prod lim "
        "approx equiv pmod mod bmod overline bar hat vec dot ddot tilde boxed quad qquad degree prime "
        "emptyset varnothing land lor setminus mid dots ldots cdots begin end min max gcd det deg ell "
        "partial nabla hbar langle rangle lvert rvert vert lbrace rbrace big Big bigg Bigg bigl bigr star "
        "ast top perp parallel sim cong because therefore Rightarrow rightarrow leftarrow implies iff "
        "forall exists not notin subset subseteq operatorname displaystyle textstyle large Large color "
        "textcolor underline boldsymbol textbf textit mathcal mathit mathsf mbox hbox tag phantom hspace "
        "vspace limits small tiny huge Huge dbinom tbinom leqslant geqslant overrightarrow widehat "
        "widetilde stackrel underbrace overbrace oint iint arg Re Im sup inf ker dim Pr coth sech csch "
        "arccot arcsec arccsc arsinh arcosh artanh intercal leftrightarrow Leftrightarrow longrightarrow "
        "aleph Box square blacksquare checkmark dagger bullet oplus otimes wedge vee bf it rm emph fbox "
        "smallmatrix array pmb colorbox Bbb backslash smallsetminus mathopen mathclose"
    )
)
_SUBSCRIPT_FONT = re.compile(r"_\{\s*\\(?:rm|bf|it|sf|tt)\s+(\w+)\s*\}")
_RUN_ON = re.compile(r"\\([A-Za-z]{3,})")


def _parted(match: re.Match[str]) -> str:
    r"""\pir, from a text that lost its spaces, is \pi r."""
    name = match[1]
    if name in _KNOWN or name.startswith(("begin", "end", "text", "math")):
        return match[0]
    for length in range(len(name) - 1, 1, -1):
        if name[:length] in _PARTED:
            return f"\\{name[:length]} {name[length:]}"
    return match[0]


_PARTED = frozenset(
    words(
        "pi sin cos tan cot sec csc log ln alpha beta gamma delta theta lambda mu phi psi omega rho sigma "
        "tau le leq ge geq ne neq times cdot triangle angle cup cap circ pm"
    )
)


def clean(answer: str) -> str:
    r"""The answer in one way of writing; its meaning is kept.

    Example:
        >>> clean(r"$\left( \dfrac 12,\, 12{,}000 \right]$.")
        '( \\frac{1}{2}, 12000 ]'
        >>> clean(r"\textbf{42}\,"), clean("1½"), clean(r"x \text{ or } y")
        ('\\text{42}', '1\\frac{1}{2}', 'x \\lor y')
    """
    if _PLAIN_NUMBER.fullmatch(answer):
        return answer.rstrip(".")
    answer = _characters(answer.strip().strip('*` "'))
    answer = _without_ends(answer)
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")):
        if answer.startswith(opening) and answer.endswith(closing):
            answer = answer[2:-2]
    answer = re.sub(r"(?<!\\)\$", "", answer)
    answer = _SUBSCRIPT_FONT.sub(r"_{\\mathrm{\1}}", answer)
    answer = _opened(_RUN_ON.sub(_parted, answer) if "\\" in answer else answer)
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    if "_" in answer and "^" in answer and not re.search("[A-Za-z]", _COUNTED.sub("", _ANY_COMMAND.sub("", answer))):
        answer = _COUNTED.sub(_counted, answer)
    return _without_ends(answer)


# C_5^2 counts choices; beside other letters C_5 may be the name of a constant.
_COUNTED = re.compile(
    r"(?<![A-Za-z\\])(?:\\text\{\s*)?([CPA])(?:\s*\})?\s*(?:_\s*(?:\{\s*(\d{1,3})\s*\}|(\d))\s*\^\s*(?:\{\s*(\d{1,3})\s*\}|(\d))"
    r"|\^\s*(?:\{\s*(\d{1,3})\s*\}|(\d))\s*_\s*(?:\{\s*(\d{1,3})\s*\}|(\d)))"
)
_ANY_COMMAND = re.compile(r"\\(?!text)[A-Za-z]+")


def _counted(match: re.Match[str]) -> str:
    below, above = match[2] or match[3] or match[8] or match[9], match[4] or match[5] or match[6] or match[7]
    return _chosen(below, match[1], above) if int(below) >= int(above) else match[0]


def _chosen(n: str, kind: str, k: str) -> str:
    return rf"\binom{{{n}}}{{{k}}}" if kind == "C" else rf"(\frac{{({n})!}}{{(({n})-({k}))!}})"


def _without_ends(answer: str) -> str:
    """Without the punctuation and the spacing around it; an ellipsis and a decimal point stay."""
    while True:
        shorter = re.sub(r"^(?:[\s,;:]|\.(?!\d))+", "", answer)
        shorter = re.sub(r"(?:(?<!\\)[\s,;:]|(?<![.\\])\.|(?<!\\)\\[,;:! ]?)$", "", shorter)
        shorter = re.sub(r"(?<!\\)\\q?quad$|\\\\$|\\checkmark$", "", shorter)
        if shorter == answer:
            return answer
        answer = shorter


def _characters(text: str) -> str:
    if text.isascii():
        return text
    text = re.sub(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    text = re.sub(r"[₀-₉ₙₖ]+", lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text).replace("√", r"\sqrt ")
    written = []
    for character in text:
        if character in _CHARACTERS:
            written.append(_CHARACTERS[character])
        elif character.isascii():
            written.append(character)
        else:
            plain = unicodedata.normalize("NFKC", character)
            top, slash, below = plain.partition("⁄")
            if slash and top.isdigit() and below.isdigit():
                plain = f"\\frac{{{top}}}{{{below}}}"
            written.append("".join(_CHARACTERS.get(each, each) for each in plain))
    return "".join(written)


# ---- commands with an argument ---------------------------------------------------------------------------------------

_COMMAND = re.compile(
    r"\\(boxed|fbox|begin|end|"
    + "|".join(sorted({*_FONTS.replace("*", "").split(), *_TEXTS.split(), *_DROPPED.split()}, key=len, reverse=True))
    + r")(?![A-Za-z])\*?\s*(?=\{|[A-Za-z0-9\\])"
)
_BOLD = ("mathbf", "boldsymbol", "bm", "pmb")
_ARROW = re.compile(r"\\(?:hat|widehat|vec|overrightarrow)\s*\{?\s*\Z")
_COMMAND_END = re.compile(r"\\[A-Za-z]+\Z")
_DROP, _FONT, _TEXT = (
    set(_DROPPED.split()),
    {*_FONTS.replace(" hbox*", "").split(), "boxed", "fbox"},
    set(_TEXTS.split()),
)


def _opened(text: str) -> str:
    """Fonts and colours taken off; every kind of text is one \\text{}; what only holds lines together is gone."""
    if "\\" not in text:
        return text
    if _LINES.search(text):
        text = _LINES.sub("", text).replace("&", " ")
        text = re.sub(r"\\\\(?:\[[^\]]*\])?\s*$", "", text.strip()).replace("\\\\", ", ")
    return _rewritten(text, 0)


def _rewritten(text: str, depth: int) -> str:
    if depth > 12:
        return text
    parts, at = [], 0
    for match in _COMMAND.finditer(text):
        if match.start() < at or match[1] in ("begin", "end"):
            continue
        inner, end = argument(text, match.end())
        if inner is None:
            continue
        parts.append(text[at : match.start()])
        at = end
        if match[1] in _DROP:
            # \color{red}{42} and \textcolor{red}{42}: the second argument stays where it is.
            continue
        before = text[: match.start()]
        written = _as_written(match[1], inner, depth, before.rstrip("\\,;:! ~")[-1:])
        if match[1] in _BOLD and inner.strip() == "i" and not _ARROW.search(before):
            written = r"\hat{i}"  # a unit vector, and no imaginary unit
        if _COMMAND_END.search(before) and written[:1].isalpha():
            written = " " + written
        parts.append(written)
    return "".join([*parts, text[at:]])


def _as_written(command: str, inner: str, depth: int, behind: str) -> str:
    inner = _rewritten(inner, depth + 1)
    if command in _FONT:
        return "{" + inner + "}" if len(inner.strip()) > 1 and not inner.strip().isdigit() else inner + " "
    bare = re.sub(r"\\[,;:! ]|\s", "", inner)
    if command in ("mathrm", "rm", "operatorname", "text", "textrm"):
        # Behind a number, min and sec are units.
        if bare in _FUNCTION_NAMES and not (bare in ("min", "sec", "deg") and re.match(r"[\d)}]", behind)):
            return f"\\{bare} "
        if bare in ("e", "i", "d") and command != "text":
            return bare + " "
        if bare in ("Re", "Im") or (command == "operatorname" and len(bare) > 1 and bare.isalpha()):
            return f"\\text{{{bare}}}"
    if "\\text{" in inner:
        inner = re.sub(r"\\text\{([^{}]*)\}", r"\1", inner)
    return f"\\text{{{inner}}}"
