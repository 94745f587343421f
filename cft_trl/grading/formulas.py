r"""Reading one formula: cleaned LaTeX, or what people type instead, into a small tree; nothing is simplified.

    parse(r"\frac{1}{2}x^2")     # mul(div(1, 2), pow(x, 2))
    parse("1 1/2")               # add(1, div(1, 2)): a mixed number; "3 4" is no formula

It is our own because a grader must not read more than is written: `I_1` is a name and not the imaginary unit, `x'` is
not `x`, and two numbers beside each other are not one. What it cannot read raises `Unreadable`, and such answers are
equal only as texts. Recursive descent; one pass over the tokens; brackets nest to a bounded depth.
"""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

from cft_trl.grading.nodes import (
    FUNCTIONS,
    GREEK,
    INVERSES,
    MARKED,
    Node,
    Tokens,
    Unreadable,
    application,
    based_value,
    derivative,
    inside,
    mixed,
    negative,
    typed_function,
)
from cft_trl.grading.operators import OPERATORS

_MAX_DEPTH = 60


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    r"""The tree of a cleaned formula.

    Raises:
        Unreadable: The text is no formula.

    Example:
        >>> parse(r"2x").op, parse("I_{1}").value, parse(r"\log_2 8").value
        ('mul', 'I_1', 'log')
    """
    if len(text) > 2000:
        raise Unreadable("too long")
    return _FormulaParser(text).whole()


class _FormulaParser(Tokens):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.bars = 0

    def node_argument(self) -> Node:
        if self.peek() == "{":
            return self.group("{", "}")
        text = self.raw_argument()
        return _FormulaParser(text).whole()

    # ---- sums, products, powers ----

    def whole(self) -> Node:
        if not self.tokens:
            raise Unreadable("empty")
        found = self.expression()
        if self.peek() == r"\choose":
            self.take()
            found = Node("fn", (found, self.expression()), "binom")
        if self.at < len(self.tokens):
            raise Unreadable(f"unexpected {self.peek()!r}")
        return found

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unreadable("too deep")
        sign = self.take() if self.peek() in ("+", "-") else "+"
        terms = [negative(self.term()) if sign == "-" else self.term()]
        while self.peek() in ("+", "-"):
            sign = self.take()
            term = self.term()
            terms.append(negative(term) if sign == "-" else term)
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def term(self) -> Node:
        left = self.factor()
        while True:
            token = self.peek()
            if token in ("*", r"\cdot", r"\times", r"\bullet"):
                self.take()
                left = Node("mul", (left, self.factor()))
            elif token in ("/", r"\div"):
                self.take()
                left = Node("div", (left, self.factor()))
            elif token in (r"\bmod", r"\mod"):
                self.take()
                left = Node("fn", (left, self.factor()), "mod")
            elif self.starts_factor():
                before = self.tokens[self.at - 1]
                if self.kind() in ("number", "mixed") and before.kind in ("number", "mixed"):
                    raise Unreadable("two numbers side by side")
                left = Node("mul", (left, self.power()))
            else:
                return left

    def starts_factor(self) -> bool:
        token, kind = self.peek(), self.kind()
        if kind in ("number", "mixed", "word"):
            return True
        if kind == "command":
            name = token[1:]
            return (
                name in FUNCTIONS
                or name in GREEK
                or name in MARKED
                or name in ("frac", "sqrt", "pi", "binom", "lfloor", "lceil", "text", "infty", "sum", "prod", "angle",
                            "triangle", "mathbb", "overparen", "int", "lim")
            )  # fmt: skip
        return token in ("(", "[", "{") or (token == "|" and not self.bars)

    def factor(self) -> Node:
        if self.peek() in ("+", "-"):
            sign = self.take()
            found = self.factor()
            return negative(found) if sign == "-" else found
        return self.power()

    def power(self) -> Node:
        base = self.postfix(self.atom())
        while self.peek() == "^":
            self.take()
            base = self.postfix(self.raised(base))
        return base

    def raised(self, base: Node) -> Node:
        if self.peek() in ("*", r"\ast", r"\dagger", r"\top", r"\perp"):
            return Node("call", (base,), f"^{self.take()}")
        if self.peek() in ("+", "-"):
            sign = self.take()
            exponent = self.atom()
            return Node("pow", (base, negative(exponent) if sign == "-" else exponent))
        if self.peek() == "{" and (marked := re.fullmatch(r"\s*(\*|\\dagger|\\top|\+|-)\s*", self.group_text())):
            self.raw_argument()
            return Node("call", (base,), f"^{marked[1]}")
        if self.kind() == "number":
            return Node("pow", (base, self.atom()))
        return Node("pow", (base, self.group("{", "}") if self.peek() == "{" else self.atom()))

    def postfix(self, base: Node) -> Node:
        while True:
            if self.peek() == "!":
                self.take()
                double = self.peek() == "!" and self.tokens[self.at].start == self.tokens[self.at - 1].end
                if double:
                    self.take()
                base = Node("fact", (base,), 2 if double else 1)
            elif self.peek() in (r"\%", "%"):
                self.take()
                base = Node("percent", (base,))
            elif self.peek() == "^" and self.at + 1 < len(self.tokens) and self.tokens[self.at + 1].text == r"\circ":
                self.at += 2
                base = Node("deg", (base,))
            elif self.peek() == "'" and base.op != "sym":
                self.take()
                base = Node("call", (base,), "'")
            else:
                return base

    # ---- atoms ----

    def group(self, opening: str, closing: str) -> Node:
        self.take(opening)
        bars, self.bars = self.bars, 0
        found = self.expression()
        if self.peek() == r"\choose":
            self.take()
            found = Node("fn", (found, self.expression()), "binom")
        self.take(closing)
        self.bars = bars
        return found

    def atom(self) -> Node:
        token, kind = self.peek(), self.kind()
        if kind == "number":
            return self.number(self.take())
        if kind == "mixed":
            return mixed(self.take())
        if kind == "word":
            return self.word()
        if kind == "command":
            return self.command()
        if token in ("(", "[", "{"):
            return self.group(token, {"(": ")", "[": "]", "{": "}"}[token])
        if token == "|":
            self.take()
            self.bars += 1
            found = self.expression()
            self.bars -= 1
            self.take("|")
            return Node("fn", (found,), "abs")
        raise Unreadable(f"unexpected {token!r}")

    def number(self, text: str) -> Node:
        if self.peek() != "_":
            if "e" in text.lower() and abs(int(re.split("[eE]", text)[1])) > 20_000:
                raise Unreadable("a number of too many digits")
            return Node("num", (), Fraction(text))
        self.take()
        base = re.sub(r"\\text\{\s*([^{}]*?)\s*\}", r"\1", self.raw_argument()).strip()
        return Node("based", (), based_value(text, base))

    def word(self) -> Node:
        """A run of letters: a known function or constant, else the first letter as a name."""
        token = self.tokens[self.at]
        run = token.text
        if known := typed_function(run):
            self.take()
            return self.function(known)
        if run in ("pi", "Pi", "PI") or run in GREEK:
            self.take()
            return Node("const", (), "pi") if run.lower() == "pi" else self.name(run)
        for name in ("sin", "cos", "tan", "log", "ln"):
            if run.startswith(name) and len(run) <= len(name) + 2:
                self.take_letters(len(name))
                return self.function(name)
        if len(run) > 5:
            raise Unreadable("a word")
        self.take_letters(1)
        return self.name(run[0])

    def name(self, letter: str) -> Node:
        """A letter with all that belongs to its name: index, primes; then its arguments, if it is a function."""
        name = letter
        if self.peek() == "_":
            self.take()
            index = re.sub(r"\\text\{([^{}]*)\}", r"\1", self.raw_argument())
            name += "_" + re.sub(r"[\s{}]|\\(?=[,;])", "", index)
        while self.peek() == "'":
            name += self.take()
        if name == "e":
            return Node("const", (), "e")
        if name == "i":
            return Node("const", (), "i")
        return self.applied(name)

    def applied(self, name: str) -> Node:
        r"""f(x) is f of x, and so are g(x), h(3), f^{-1}(x); a(b+c) is a product."""
        start, inverse = self.at, ""
        plain = name.rstrip("'").partition("_")[0]
        if self.peek() == "^" and plain in ("f", "g", "h", "F", "G", "H", "T"):
            self.take()
            if self.peek() == "{" and re.fullmatch(r"\s*-\s*1\s*", self.group_text()):
                self.raw_argument()
                inverse = "^-1"
            else:
                self.at = start
        if self.peek() == "(" and name in ("Gamma", "zeta"):
            of = self.group("(", ")")
            less = Node("add", (of, negative(Node("num", (), Fraction(1)))))
            return Node("fact", (less,), 1) if name == "Gamma" else Node("fn", (of,), "zeta")
        if self.peek() == "(":
            kind = application(name, inverse, inside(self.text, self.tokens[self.at].start) or "")
            if kind:
                given = tuple(self.arguments())
                return Node("fn", given, "binom") if kind == "binom" else Node("call", given, name + inverse)
        self.at = start
        return Node("sym", (), name)

    def arguments(self) -> list[Node]:
        opening = self.take()
        closing = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}.get(opening)
        if closing is None:
            raise Unreadable("arguments expected")
        found = [self.expression()]
        while self.peek() == ",":
            self.take()
            found.append(self.expression())
        self.take(closing)
        return found

    def command(self) -> Node:
        token = self.take()
        name = token[1:]
        if name in FUNCTIONS and name != "sqrt":
            return self.function(name)
        if name in GREEK:
            return self.name(name)
        if name in ("pi", "infty"):
            return Node("const", (), "pi" if name == "pi" else "inf")
        if name == "frac":
            return self.fraction()
        if name in MARKED:
            inner = re.sub(r"\s|^\{|\}$", "", self.raw_argument())
            mark = {"overline": "bar", "widehat": "hat", "widetilde": "tilde"}.get(name, name)
            if not re.fullmatch(r"\\?[A-Za-z]+(?:_\w|_\{\w+\})?", inner):
                raise Unreadable("a mark on a formula")
            return self.name(f"{mark} {re.sub(r'[{}]', '', inner)}")
        if name in ("angle", "triangle"):
            if self.kind() != "word":
                raise Unreadable("an angle has letters")
            return Node("sym", (), f"{name} {self.take()}")
        if name in OPERATORS:
            return OPERATORS[name](self, name)
        handler = {"sqrt": self.root, "text": self.named}.get(name)
        if handler:
            return handler(name)
        if name == "binom":
            return Node("fn", (self.node_argument(), self.node_argument()), "binom")
        if name in ("lfloor", "lceil"):
            found = self.expression()
            self.take(r"\rfloor" if name == "lfloor" else r"\rceil")
            return Node("fn", (found,), "floor" if name == "lfloor" else "ceil")
        raise Unreadable(f"unknown {token}")

    def fraction(self) -> Node:
        above, below = self.raw_argument(), self.raw_argument()
        if name := derivative(above, below):
            return Node("sym", (), name)
        return Node("div", (_FormulaParser(above).whole(), _FormulaParser(below).whole()))

    def root(self, name: str) -> Node:
        index = None
        if self.peek() == "[":
            index = self.group("[", "]")
        radicand = self.group("(", ")") if self.peek() == "(" else self.node_argument()
        return Node("fn", (radicand,) if index is None else (radicand, index), "sqrt")

    def named(self, name: str) -> Node:
        inner = self.raw_argument().strip()
        if inner in FUNCTIONS:
            return self.function(inner)
        if not re.fullmatch(r"[A-Za-z][A-Za-z ]{0,30}", inner):
            raise Unreadable("words")
        if len(inner) == 1:
            return self.name(inner)
        return self.name("text " + inner)

    def function(self, name: str) -> Node:
        if name == "sqrt":
            return self.root(name)
        if name in ("gcd", "lcm", "min", "max"):
            return Node("fn", tuple(self.arguments()), name)
        base, power = None, None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self.node_argument()
            else:
                power = Node("num", (), Fraction(self.take())) if self.kind() == "number" else self.node_argument()
        found = self.function_argument()
        if power is not None and power == Node("neg", (Node("num", (), Fraction(1)),)) and name in INVERSES:
            name, power = INVERSES[name], None
        if name == "log" and base is None:
            node = Node("fn", (found,), "log?")
        elif name == "lg":
            node = Node("fn", (found, Node("num", (), Fraction(10))), "log")
        else:
            node = Node("fn", (found,) if base is None else (found, base), name)
        return node if power is None else Node("pow", (node, power))

    def function_argument(self) -> Node:
        if self.peek() in ("(", "[", "{", "|"):
            return self.atom()
        if self.peek() in ("-", "+"):
            sign = self.take()
            found = self.function_argument()
            return negative(found) if sign == "-" else found
        found = self.power()
        while self.starts_factor() and self.peek() not in ("(", "[", "|", "{") and not self.at_function():
            found = Node("mul", (found, self.power()))
        return found

    def at_function(self) -> bool:
        token = self.peek().removeprefix("\\")
        return token in FUNCTIONS or self.peek() in (r"\sum", r"\prod") or token[:3] in ("sin", "cos", "tan", "log")


def try_parse(text: str) -> Node | None:
    """`parse`, or `None` for a text that is no formula."""
    with suppress(Unreadable, RecursionError, ValueError):
        return parse(text)
    return None
