r"""Matrices and vectors: pmatrix, bmatrix, array, [[1,2],[3,4]], \langle 1,2\rangle, i + 2j, times a number."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from cft_trl.grading import values
from cft_trl.grading.formulas import try_parse
from cft_trl.grading.structure import bracketed, closes_at_end, split_at, split_top

Equal = Callable[[str, str], bool]

_MATRIX = re.compile(
    r"(?P<before>.*?)(?P<open>[\[(|]?)\s*\\begin\{(?P<kind>[pbBvV]?(?:small)?matrix|array)\}(?:\{[^{}]*\})?(?P<body>.*)"
    r"\\end\{(?P=kind)\}\s*(?P<close>[\])|]?)\s*(?P<after>\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?)?(?:\s*/\s*(?P<below>\d+))?",
    re.DOTALL,
)


class Matrix(NamedTuple):
    """Rows of entries as texts; `vector` for what is written as a tuple and may stand as a row or a column."""

    rows: list[list[str]]
    determinant: bool = False
    vector: bool = False
    angled: bool = False


def same_matrix(p: str, g: str, equal: Equal) -> bool | None:
    """Two matrices entry by entry, a determinant beside a number; `None` when neither answer is one.

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    one, other = _computed(p), _computed(g)
    if one is None and other is None:
        return None
    for at, (matrix, bare) in enumerate(((one, g), (other, p))):
        if matrix and matrix.determinant and "\\begin" not in bare:
            value = _determinant(matrix.rows)
            return value is not None and (equal(value, bare) if at == 0 else equal(bare, value))
    one = one or _vector(p) or (_identity(p, other) if other else None)
    other = other or _vector(g) or (_identity(g, one) if one else None)
    if one is None or other is None or one.determinant != other.determinant:
        return False
    if one.vector or other.vector:
        first, second = _flat(one), _flat(other)
        if first is None or second is None or len(first) != len(second):
            return False
        return all(equal(a, b) for a, b in zip(first, second, strict=True))
    if [len(row) for row in one.rows] != [len(row) for row in other.rows]:
        return False
    return all(equal(a, b) for x, y in zip(one.rows, other.rows, strict=True) for a, b in zip(x, y, strict=True))


# ---- sums, products, determinants ------------------------------------------------------------------------------------

_WRITTEN = re.compile(r"\\begin\{([pb](?:small)?matrix)\}.*?\\end\{\1\}", re.DOTALL)
_PLACE = re.compile(r"@(\d)@")
_MAX_SIZE = 4


def _computed(answer: str) -> Matrix | None:
    r"""A matrix, or a sum or product of matrices that are written out: u + t v, AB, \det A."""
    found = _matrix(answer)
    if found is not None or "\\begin" not in answer:
        return found
    if match := re.fullmatch(r"\s*\\det(?![A-Za-z])\s*\(?\s*(.*?)\s*\)?\s*", answer, re.DOTALL):
        inner = _matrix(match[1])
        return inner._replace(determinant=True) if inner and not inner.vector else None
    written = [match[0] for match in _WRITTEN.finditer(answer)]
    if not 1 < len(written) < 10:
        return None
    numbers = iter(range(len(written)))
    masked = _WRITTEN.sub(lambda _: f"@{next(numbers)}@", answer)
    terms, signs = split_at(masked, re.compile(r"[+-]"))
    if terms and not terms[0]:
        terms = terms[1:]
    else:
        signs = ["+", *signs]
    total: list[list[str]] | None = None
    for term, sign in zip(terms, signs, strict=True):
        rows = _term(term, written)
        if rows is None or (total is not None and [len(r) for r in rows] != [len(r) for r in total]):
            return None
        zeros = [["0"] * len(row) for row in rows]
        total = [
            [f"{a} {sign} ({b})" for a, b in zip(x, y, strict=True)] for x, y in zip(total or zeros, rows, strict=True)
        ]
    return Matrix(total) if total else None


def _term(term: str, written: list[str]) -> list[list[str]] | None:
    """A matrix times a number, or a product of matrices in their order."""
    places = [int(place) for place in _PLACE.findall(term)]
    factor = re.sub(r"^\s*(?:\\cdot|\*)|(?:\\cdot|\\times|\*)\s*$", "", _PLACE.sub("", term).strip()).strip()
    if (
        not places
        or len(places) > 3
        or (factor and not _PLACE.sub("", term.split("@", 1)[0]).strip() and len(places) > 1)
    ):
        return None
    matrices = [matrix for place in places if (matrix := _matrix(written[place])) is not None]
    if len(matrices) < len(places):
        return None
    rows = matrices[0].rows
    for matrix in matrices[1:]:
        if any(len(row) != len(matrix.rows) for row in rows) or len({len(row) for row in matrix.rows}) != 1:
            return None
        columns = list(zip(*matrix.rows, strict=True))
        rows = [[" + ".join(f"({a}) \\cdot ({b})" for a, b in zip(row, column, strict=True)) for column in columns]
                for row in rows]  # fmt: skip
    if not factor:
        return rows
    scaled = _scaled(factor, rows, False)
    return scaled.rows if scaled else None


def _determinant(rows: list[list[str]]) -> str | None:
    """As a formula, along the first row."""
    size = len(rows)
    if size > _MAX_SIZE or any(len(row) != size for row in rows):
        return None
    if size == 1:
        return f"({rows[0][0]})"
    parts = []
    for at, entry in enumerate(rows[0]):
        minor = _determinant([[*row[:at], *row[at + 1 :]] for row in rows[1:]])
        parts.append(f"{'-' if at % 2 else '+'} ({entry}) \\cdot ({minor})")
    return "0 " + " ".join(parts)  # "(a) ..." alone might be an option


def _flat(matrix: Matrix) -> list[str] | None:
    if len(matrix.rows) == 1:
        return matrix.rows[0]
    return [row[0] for row in matrix.rows] if all(len(row) == 1 for row in matrix.rows) else None


def _matrix(answer: str) -> Matrix | None:
    answer = answer.strip()
    match = _MATRIX.fullmatch(answer)
    if match and "\\begin" not in match["body"] and "\\begin" not in match["before"]:
        rows = [[entry.strip() for entry in row.split("&")] for row in _lines(match["body"])]
        determinant = match["kind"][0] in "vV" or match["open"] == "|"
        if match["after"]:
            rows = [list(column) for column in zip(*rows, strict=False)]
        before = match["before"].strip()
        if match["below"]:
            before = f"\\frac{{{before or 1}}}{{{match['below']}}}"
        return _scaled(before, rows, determinant)
    if match_angle := re.fullmatch(r"\\langle(.*)\\rangle", answer, re.DOTALL):
        return Matrix([split_top(match_angle[1])], vector=True, angled=True)
    if answer.startswith("[") and (found := bracketed(answer)):
        inner = [bracketed(item) for item in split_top(found[1])]
        if len(inner) > 1 and all(item and item[0] == "[" and item[2] == "]" for item in inner):
            return Matrix([split_top(item[1]) for item in inner if item])
    if transposed := re.fullmatch(r"(.+?)\s*\^\s*\{?\s*(?:T|\\top)\s*\}?", answer, re.DOTALL):
        found = bracketed(transposed[1])
        if found and found[0] in "([" and found[2] in ")]":
            return Matrix([[item] for item in split_top(found[1])])
    return _units(answer)


def _lines(body: str) -> list[str]:
    body = re.sub(r"\\hline|\\cr(?![A-Za-z])", lambda m: "" if m[0] == r"\hline" else r"\\", body)
    return [line for line in re.split(r"\\\\(?:\[[^\]]*\])?", body) if line.strip()]


def _scaled(before: str, rows: list[list[str]], determinant: bool) -> Matrix | None:
    before = re.sub(r"\\cdot\s*$|\*\s*$", "", before.strip()).strip()
    if before in ("", "+"):
        return Matrix(rows, determinant)
    if determinant or (before != "-" and try_parse(before) is None):
        return None
    factor = "-1" if before == "-" else before
    return Matrix([[f"({factor}) \\cdot ({entry})" for entry in row] for row in rows])


def _vector(answer: str) -> Matrix | None:
    """(1, 2) and [1, 2] beside a matrix."""
    found = bracketed(answer)
    if found and (found[0], found[2]) in (("(", ")"), ("[", "]"), (r"\langle", r"\rangle")):
        return Matrix([split_top(found[1])], vector=True)
    return None


def _identity(answer: str, other: Matrix) -> Matrix | None:
    """A multiple of I, of the other matrix' size."""
    match = re.fullmatch(r"(.*?)\s*(?:\\cdot|\*)?\s*I(?:_\{?\d\}?)?", answer.strip(), re.DOTALL)
    size = len(other.rows)
    if not match or other.determinant or other.vector or any(len(row) != size for row in other.rows):
        return None
    factor = match[1].strip() or "1"
    factor = "-1" if factor == "-" else factor
    if try_parse(factor) is None:
        return None
    return Matrix([[factor if row == column else "0" for column in range(size)] for row in range(size)])


def _units(answer: str) -> Matrix | None:
    r"""i + 2j - k in unit vectors."""
    text = re.sub(r"\\(?:hat|vec|overrightarrow)\s*\{?\s*\\?([ijk])(?:math)?\s*\}?", r"\1", answer)
    marked = text != answer
    plain = re.search(r"(?<![A-Za-z\\])j(?![A-Za-z])|(?<=\d)j", text)
    if not (marked or plain) or not closes_at_end("(" + text + ")"):
        return None
    node = try_parse(text)
    if node is None or not node.symbols() <= {"j", "k"} or not (marked or "j" in node.symbols()):
        return None
    axes = ["i", "j", "k"] if "k" in node.symbols() else ["i", "j"]
    origin = dict.fromkeys(["i", "j", "k"], Fraction(0))
    entries = []
    for axis in axes:
        one, two = (values.at(node, {**origin, axis: Fraction(x)}) for x in (1, 2))
        if not isinstance(one, Fraction) or two != 2 * one or values.at(node, origin) != 0:
            return None
        entries.append(f"\\frac{{{one.numerator}}}{{{one.denominator}}}")
    return Matrix([entries], vector=True)
