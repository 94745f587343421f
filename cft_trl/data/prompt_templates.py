r"""Prompts of one's own: Jinja2 templates, compiled in a sandbox and tried on a probe row before anything is paid for.

    Review this change.                                  variables of both:   query, response, steps, ending, words,
                                                                              right_from, right, wrong
    Task:                                                of a teacher's:      reference_answer
    {{ query }}                                          of a student's for   critique
                                                         objective cgd:
    Code:
    {{ response }}

    {{ ending }}

`query` and `response` are texts. `steps` are the response's lines, or its "Step 1: ..." paragraphs; `ending` is the
sentence that says how a critique ends with these verdict words; `words` are they, from the worst to the best;
`right` and `wrong` are there where there are two. What a row holds is put in as it is, never read as a template.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.errors import CFTError, nearest

if TYPE_CHECKING:
    import jinja2

RIGHT_WRONG = Verdicts(("wrong", "right"), "right")
TEMPLATE_VARIABLES = {
    "query": "the question; of a conversation its turns, as `User: ...` and `Assistant: ...`",
    "response": "the response that is criticised",
    "steps": "its steps, a list: the paragraphs that begin `Step 1:`, else its lines",
    "ending": "the sentence that says how a critique has to end",
    "words": "the verdict words, a list from the worst to the best",
    "right_from": "the first of them with which a response counts as right",
    "right": "the word for right, where there are two words",
    "wrong": "the word for wrong, where there are two words",
    "reference_answer": "a teacher's only: the known right answer with `show_reference: true`, else empty",
    "critique": "a student's only, with objective cgd: the critique at hand",
}
_PROBES = {
    "query": "What is probe-q7 of\n{{ 1 }} probe-q8?",
    "response": "Step 1: probe-r1 is 3.\nStep 2: probe-r2 is 4.",
    "critique": "probe-c1 fails.",
    "reference_answer": "probe-a1",
}
# What of each has to be in the prompt; the response may come step by step, with other numbers.
_PROBE_MARKS = {
    "query": ("What is probe-q7 of", "{{ 1 }} probe-q8?"),
    "response": ("probe-r1 is 3.", "probe-r2 is 4."),
    "critique": ("probe-c1 fails.",),
}
_STEP = re.compile(r"^[ \t>#*_]*step[ \t]*\d+\b", re.IGNORECASE | re.MULTILINE)
_MOST = 200_000  # characters of a template's file


def response_steps(response: str) -> list[str]:
    r"""A response's steps: what begins with "Step 1:", "**Step 2**" and so on where there are two such lines, or the
    first is one; else its lines. Empty ones do not count.

    Example:
        >>> response_steps("Plan.\nStep 1: 2 + 2 = 4\nso 4.\nStep 2: done"), response_steps("a = 1\n\nb = 2")
        (['Plan.', 'Step 1: 2 + 2 = 4\nso 4.', 'Step 2: done'], ['a = 1', 'b = 2'])
    """
    begins = [match.start() for match in _STEP.finditer(response)]
    if len(begins) < 2 and begins != [0]:
        return [line for line in response.split("\n") if line.strip()]
    places = [*([0] if response[: begins[0]].strip() else []), *begins, len(response)]
    return [response[one:other].strip() for one, other in pairwise(places)]


def numbered(steps: Sequence[str]) -> str:
    r"""A solution's steps with their numbers; those that bring "Step 2" themselves keep it.

    Example:
        >>> numbered(["2 + 2 = 4", "So 4."])
        'Step 1: 2 + 2 = 4\nStep 2: So 4.'
    """
    return "\n".join(
        step if re.match(rf"[\W_]*step\W*{place}\b", step, re.IGNORECASE) else f"Step {place}: {step}"
        for place, step in enumerate(steps, 1)
    )


def is_template(given: str) -> bool:
    """Whether a setting's text is a template, and not the path of its file.

    Example:
        >>> is_template("Check {{ response }}"), is_template("student.jinja")
        (True, False)
    """
    return any(sign in given for sign in ("{{", "{%", "\n"))


def template_beside(given: str, folder: Path) -> Path | None:
    """The file in a folder that a setting names; None where it is a template's text, or there is no such file."""
    return folder / given if not is_template(given) and _is_file(folder / given) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for a file, or with a null byte
        return False


def read_template(given: str, where: str = "prompt", folder: Path | None = None) -> str:
    """A template's text, from its file or as it is given.

    Args:
        given: A file's path, or the text itself: what has `{{`, `{%` or a line break is text.
        where: What errors begin with.
        folder: Where a relative path is looked for first: that of the file that names it.

    Raises:
        CFTError: The file is not there, cannot be read or is empty.
    """
    if is_template(given):
        return given
    places = [Path(os.path.expanduser(given))]  # which leaves what it does not know
    if folder is not None and not places[0].is_absolute():
        places.insert(0, folder / given)
    path = next((place for place in places if _is_file(place)), None)
    given = given if len(given) <= 80 else given[:79] + "…"
    if path is None:
        looked = f" (looked in {folder} and here)" if folder else ""
        raise CFTError(f"{where}={given}: no such file{looked}; give a Jinja2 template's path, or its text")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CFTError(f"{where}={given}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not text.strip() or len(text) > _MOST:
        raise CFTError(f"{where}={given}: {'empty' if not text.strip() else f'more than {_MOST:,} characters'}; "
                       "give a Jinja2 template")  # fmt: skip
    return text


def render(
    template: str, row: Mapping[str, Any], verdicts: Verdicts | None = None, *, where: str = "prompt", **more: str
) -> str:
    r"""A template with a row's texts.

    Args:
        template: Its text.
        row: With `query` and `response`.
        verdicts: The verdict words; None for right and wrong.
        where: What errors begin with.
        more: Further variables.

    Raises:
        CFTError: The template fails on this row.

    Example:
        >>> render("{{ query }}\n{% for step in steps %}{{ loop.index }} {{ step }}\n{% endfor %}",
        ...        {"query": "2+2?", "response": "2+2 = 4\nSo 4."})
        '2+2?\n1 2+2 = 4\n2 So 4.\n'
    """
    import jinja2

    verdicts = verdicts or RIGHT_WRONG
    values = {
        "query": row["query"],
        "response": row["response"],
        **({"steps": response_steps(row["response"])} if "steps" in template else {}),
        **_of_words(verdicts),
        **more,
    }
    try:
        return _compiled(template).render(values)
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, OverflowError) as error:
        row_name = f" (row {row['id']})" if row.get("id") else ""
        raise CFTError(f"{where}{row_name}: the template fails: {error}") from None


def check_template(
    template: str,
    verdicts: Verdicts | None = None,
    *,
    where: str = "prompt",
    also: Sequence[str] = (),
    ends: bool = False,
) -> None:
    """Compiles a template and tries it on a row.

    Args:
        template: Its text.
        verdicts: The verdict words; None for right and wrong.
        where: What errors begin with.
        also: Which of the variables that not every prompt has this one has.
        ends: Whether it has to say how a critique ends, as a teacher's does.

    Raises:
        CFTError: It is no template, names an unknown variable, leaves out query or response (or the critique of cgd),
            or does not ask for a verdict that could be read.
    """
    import jinja2
    from jinja2 import meta

    verdicts = verdicts or RIGHT_WRONG
    known = {"query", "response", "steps", *_of_words(verdicts), *also}
    try:
        used = meta.find_undeclared_variables(_environment().parse(template))
        _compiled(template)
    except jinja2.TemplateSyntaxError as error:
        raise CFTError(f"{where}, line {error.lineno}: no Jinja2 template: {error.message}") from None
    except jinja2.TemplateError as error:
        raise CFTError(f"{where}: no Jinja2 template: {error}") from None
    for name in sorted(used):
        if name not in known:
            what = TEMPLATE_VARIABLES.get(name)
            told = f"not here ({what})" if what else f"unknown{nearest(name, known)}"
            raise CFTError(f"{where}: variable {name!r} is {told}; known: {', '.join(sorted(known))}")
    text = render(template, _PROBES, verdicts, where=where, **{name: _PROBES[name] for name in also})
    if not ends:  # a student's is tried on a row of empty texts too: what the prompt alone costs is counted by it
        empty = {"query": "", "response": ""}
        render(template, empty, verdicts, where=f"{where}, with an empty response", **dict.fromkeys(also, ""))
    for name in ("query", "response", *(["critique"] if "critique" in also else [])):
        lacking = [
            line for line in _PROBES[name].split("\n") if line not in text and line.partition(": ")[2] not in text
        ]
        if lacking or any(mark not in text for mark in re.findall(r"probe-\w+", _PROBES[name])):
            raise CFTError(f"{where}: it leaves out the {name}, or changes it; write {{{{ {name} }}}}")
    if ends and ("Conclusion:" not in text or any(word not in text for word in verdicts.words)):
        raise CFTError(
            f"{where}: it does not ask for a last line {verdicts.line(verdicts.right_from)!r} with the words "
            f"{', '.join(verdicts.words)}, so no verdict could be read; write {{{{ ending }}}}"
        )


def _of_words(verdicts: Verdicts) -> dict[str, Any]:
    pair = {} if verdicts.graded else {"right": verdicts.words[1], "wrong": verdicts.words[0]}
    return {"ending": verdicts.ending, "words": verdicts.words, "right_from": verdicts.right_from, **pair}


@cache
def _environment() -> jinja2.Environment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    del made.filters["random"]  # the same row has to become the same prompt every time
    return made


@cache
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)
