"""The tab Learn: the method in a picture, what a reader should know before judging, and where everything is.

Texts written here are the project's own; what a worked example says goes through `rendering` like any other text.
"""

from __future__ import annotations

from html import escape

from cft_trl.demo.examples import Worked
from cft_trl.demo.rendering import to_html
from cft_trl.demo.views import chip, solution_html

_ARROW = '<div class="flow-arrow" aria-hidden="true">→</div>'


def _box(name: str, text: str, kind: str = "") -> str:
    return f'<div class="flow-box {kind}"><div class="flow-name">{name}</div><div class="flow-text">{text}</div></div>'


def _flow(title: str, sees: str, writes: str, note: str) -> str:
    return (
        f'<div class="flow"><div class="flow-title">{title}</div><div class="flow-row">{sees}{_ARROW}'
        f'{_box("Model", "", "model")}{_ARROW}{writes}</div><div class="flow-note">{note}</div></div>'
    )


PICTURE = (
    '<div class="picture">'
    + (
        _flow(
            "Supervised fine-tuning",
            _box("Question", "6 pencils in a box, 5 boxes, 4 given away. How many are left?"),
            _box("Answer, to imitate", "5 × 6 = 30, 30 − 4 = 26", "target"),
            "The model learns to write the answer it is shown; a wrong one is learnt as well.",
        )
        + _flow(
            "Critique fine-tuning",
            _box("Question", "6 pencils in a box, 5 boxes, 4 given away. How many are left?")
            + _box("Somebody's answer", "5 × 6 = <strong>35</strong>, 35 − 4 = 31"),
            _box(
                "Critique, to learn",
                "5 × 6 = 30, but here is 35. <strong>Conclusion: wrong</strong>",
                "target",
            ),
            "The model learns to say what is right and wrong with an answer, so the answers may be noisy.",
        )
        + _flow(
            "Afterwards",
            _box("Question", "A new one"),
            _box("Answer", "As any other model", "target"),
            "No critique is asked for; the published scores are those of plain answers.",
        )
    )
    + "</div>"
)

INTRODUCTION = """\
<div class="prose-block">
<h2>The method</h2>
<p>Critique fine-tuning (CFT) trains a language model to criticise solutions instead of imitating them. It is shown a
question and somebody's solution, and learns to write a critique by a stronger model, the teacher, which ends in
<em>Conclusion: right</em> or <em>Conclusion: wrong</em>. Only the critique's tokens are trained on.</p>
</div>"""

HONESTY = """\
<div class="prose-block">
<h2>What to expect</h2>
<ul>
<li>The authors report that Qwen2.5-Math-7B, trained on 50,000 critiques for about an hour on eight H100 GPUs, gains 4
to 10 points over supervised fine-tuning on six mathematics benchmarks.</li>
<li>A critique is not a proof. About a fifth of 50 inspected teacher critiques in the published data were flawed, and
the model learns from those as well.</li>
<li>The small model that this app starts with where nothing else is set has 135 million parameters. As it comes it
follows instructions loosely, gives hardly any verdict, and solves 1 of 100 GSM8K problems. Trained on arithmetic
critiques alone, as <code>recipes/smollm2-135m</code> does, it tells right from wrong in nine of ten short problems like
those here, often with numbers that do not add up, and asked for a solution it writes a critique: it has seen nothing
else. It is here because it runs on any machine.</li>
<li>In the published comparison plain answers score best (MATH, Qwen2.5-Math-7B at temperature 0.1: direct 78.8%,
two-stage 77.9%, single-pass 77.2%). The other two modes are here to be looked at.</li>
</ul>
</div>"""


def _link(address: str, name: str) -> str:
    return f'<a href="https://{address}" target="_blank" rel="noopener">{name}</a>'


LINKS = f"""\
<div class="prose-block">
<h2>Data, papers, code</h2>
<ul>
<li>{_link("huggingface.co/datasets/TIGER-Lab/WebInstruct-CFT", "WebInstruct-CFT")}: the published critiques, in sets of
4,000, 50,000 and 600,000</li>
<li>{_link("huggingface.co/datasets/TIGER-Lab/One-Shot-CFT-Data", "One-Shot-CFT-Data")}: many critiques of answers to
one question</li>
<li>{_link("arxiv.org/abs/2501.17703", "Critique Fine-Tuning")}, {_link("arxiv.org/abs/2506.03295", "One-Shot CFT")},
{_link("arxiv.org/abs/2505.11628", "Critique-Guided Distillation")}: the papers</li>
<li>{_link("github.com/TIGER-AI-Lab/CritiqueFineTuning", "CritiqueFineTuning")}: the authors' code;
{_link("github.com/huggingface/trl", "TRL")}: the library that cft-trl, which made this app, extends</li>
</ul>
</div>"""


def worked_html(number: int, worked: Worked) -> str:
    """One worked example: question, solution with its first wrong step, critique."""
    critique = worked.critique.removesuffix("[END]").rstrip()
    return (
        f'<div class="cft-view worked"><div class="worked-head"><span class="worked-number">{number}</span>'
        f'<span class="worked-title">{escape(worked.title)}</span>{chip(worked.verdict)}</div>'
        f'<div class="worked-what">{escape(worked.what)}</div>'
        f'<div class="part-name">Question</div><div class="text">{to_html(worked.query)}</div>'
        f"{solution_html(worked.solution, worked.wrong_step)}"
        f'<div class="part-name">Critique</div><div class="text">{to_html(critique)}</div></div>'
    )
