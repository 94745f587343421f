r"""Grading answers: `strict` (mathematically equal) and `paper` (the published leniency, for comparison only).

    grade(r"... so the area is $\boxed{\frac{1}{2}}$.", "0.5")                        # True
    grade_many([("The answer is 3.", "3"), (r"\boxed{0}", "4e-5")], "strict")         # [True, False]
    grade_many([(r"\boxed{0}", "4e-5")], "paper")                                     # [True]: do not believe it

`strict` is this package's own reader and comparison (`comparison.py`) and needs mpmath only; `paper` reads with
math-verify, as the published figures were measured.

Reading mathematics can take for ever, inside C code that no Python signal interrupts, or all the memory there is. So
every item is graded in a worker process, which the kernel kills at the limit of CPU time and the parent at four times
as much wall time; the worker is replaced and the item counts as wrong. CPU time decides, for a busy machine must not
turn right answers into wrong ones. The workers are plain subprocesses that speak lines of JSON: they need no
`if __name__ == "__main__"`, work from threads and notebooks, and carry none of the parent's memory. They stay for the
next call and end with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cft_trl.environment import require
from cft_trl.errors import CFTError, nearest
from cft_trl.grading.answers import extract_answer
from cft_trl.grading.benchmarks import load_benchmark
from cft_trl.grading.notation import clean
from cft_trl.grading.structure import squash

__all__ = ["GRADERS", "SELF_TESTED", "extract_answer", "grade", "grade_many", "self_test"]

GRADERS = ("strict", "paper")

# Starting a worker imports sympy: a second when idle, much more on a busy machine.
_START_LIMIT_S = 180.0
_MEMORY_LIMIT = 4 * 2**30
_MAX_PREDICTION = 400_000
_WALL_PER_CPU = 4.0


def grade(prediction: str, gold: str, grader: str = "strict", *, limit_s: float = 5.0) -> bool:
    r"""Whether a generation's final answer equals the gold.

    Args:
        prediction: A generation (its answer is found by `extract_answer`) or a bare answer.
        gold: The benchmark's answer, bare.
        grader: "strict", or "paper" for comparison with published figures only.
        limit_s: Seconds of CPU time (four times as many of wall time) after which the answer counts as wrong.

    Raises:
        CFTError: An unknown grader, or math-verify, which "paper" reads with, is not installed.

    Example:
        >>> grade(r"Hence $x = \boxed{\sqrt{8}}$.", r"2\sqrt{2}")
        True
    """
    return grade_many([(prediction, gold)], grader, processes=1, limit_s=limit_s)[0]


def grade_many(
    pairs: Iterable[tuple[str, str]], grader: str = "strict", processes: int = 2, limit_s: float = 5.0
) -> list[bool]:
    """Grades many (prediction, gold) pairs in a pool; no item can raise or hang.

    Args:
        pairs: (prediction, gold) as in `grade`; a prediction of `None` is wrong.
        grader: "strict" or "paper".
        processes: How many workers grade at once.
        limit_s: Seconds of CPU time per item, and a fourth of its seconds of wall time.

    Returns:
        One bool per pair, in their order.

    Raises:
        CFTError: An unknown grader, math-verify (which "paper" needs) is not installed, or a limit or pool size that is
            not positive.

    Example:
        >>> grade_many([("x = 3", "3"), ("0", "0.01")])
        [True, False]
    """
    if grader not in GRADERS:
        raise CFTError(f"grader {grader!r} is unknown{nearest(str(grader), GRADERS)}; give strict or paper")
    if processes < 1 or limit_s <= 0:
        raise CFTError(f"grading needs processes >= 1 and limit_s > 0; got {processes} and {limit_s}")
    if grader == "paper":
        require("grade", "the paper grader", "math_verify")
    results: dict[int, bool] = {}
    todo: deque[tuple[int, str]] = deque()
    for index, (prediction, gold) in enumerate(pairs):
        if not prediction or not gold:
            results[index] = False
        else:
            # What is read of an over-long generation is its end, where the answer stands.
            text = str(prediction)[-_MAX_PREDICTION:]
            todo.append((index, json.dumps([text, str(gold)[:_MAX_PREDICTION], limit_s])))
    with _LOCK:
        _run(todo, results, grader, min(processes, max(len(todo), 1)), limit_s)
    return [results[index] for index in range(len(results))]


# ---- the self-test ---------------------------------------------------------------------------------------------------

SELF_TESTED = ("math", "math-500", "minerva-math", "gsm8k", "olympiadbench", "aime24", "amc23", "aime25", "theoremqa")


def self_test(
    folder: str | Path | None = None, names: Iterable[str] = SELF_TESTED, *, processes: int = 2, limit_s: float = 5.0
) -> dict[str, dict[str, Any]]:
    """Grades the benchmarks' own golds: each is right for itself and wrong for its neighbour.

    Args:
        folder: As for `load_benchmark`.
        names: Benchmarks with answers of mathematics.
        processes, limit_s: As for `grade_many`.

    Returns:
        For each name and grader, under "strict" and "paper": `own` (share of golds accepted for themselves),
        `respelled` (the same, spelled otherwise: no spaces, other fraction commands, sized brackets), `neighbour`
        (share of neighbouring golds, where they differ, that are refused), the counts `of` and `neighbours_of`, and
        `accepted_neighbours`, the first ten pairs. For "minerva-math" also `zero_for_small` ("0" accepted for golds
        under 0.05) and `five_percent_off` (1.05 times the gold accepted), each [accepted, of].

    Raises:
        CFTError: A benchmark that cannot be read.
    """
    report: dict[str, dict[str, Any]] = {}
    for name in names:
        golds = [row["gold"] for row in load_benchmark(name, folder)]
        neighbours = [pair for pair in zip(golds, golds[1:] + golds[:1], strict=True) if _key(pair[0]) != _key(pair[1])]
        report[name] = {}
        for grader in GRADERS:

            def accepted(pairs: Iterable[tuple[str, str]], grader: str = grader) -> list[bool]:
                boxed = [(f"The answer is $\\boxed{{{prediction}}}$.", gold) for prediction, gold in pairs]
                return grade_many(boxed, grader, processes, limit_s)

            wrong = accepted(neighbours)
            report[name][grader] = found = {
                "of": len(golds),
                "own": _share(accepted((gold, gold) for gold in golds)),
                "respelled": _share(accepted((_respelled(gold), gold) for gold in golds)),
                "neighbours_of": len(neighbours),
                "neighbour": 1.0 - _share(wrong),
                "accepted_neighbours": [pair for pair, hit in zip(neighbours, wrong, strict=True) if hit][:10],
            }
            if name == "minerva-math":
                values = {gold: value for gold in golds if (value := _plain_float(gold))}
                small = accepted(("0", gold) for gold in golds if abs(values.get(gold, 1.0)) < 0.05)
                off = accepted((repr(values[gold] * 1.05), gold) for gold in golds if gold in values)
                found["zero_for_small"] = [sum(small), len(small)]
                found["five_percent_off"] = [sum(off), len(off)]
    return report


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits) if hits else 1.0


def _key(gold: str) -> str:
    return squash(clean(gold))


def _respelled(gold: str) -> str:
    """The gold as another hand writes it; a space that ends a command stays."""
    gold = re.sub(r"\\[dt]?frac(?![A-Za-z])", lambda _: "\\dfrac" if "dfrac" not in gold else "\\frac", gold)
    gold = re.sub(r"(?<![A-Za-z])\s+(?![A-Za-z])", "", gold)
    return gold if "\\left" in gold else re.sub(r"^\((.*)\)$", r"\\left( \1 \\right)", gold)


def _plain_float(gold: str) -> float | None:
    try:
        return float(gold)
    except ValueError:
        return None


# ---- the pool --------------------------------------------------------------------------------------------------------


class _Worker:
    """A subprocess that answers one line with one line; `deadline` is when the item it holds, if any, is given up."""

    program = "from cft_trl.grading.grade import _serve; _serve({grader!r})"

    def __init__(self, grader: str) -> None:
        self.grader = grader
        paths = [str(Path(__file__).parents[2]), *(path for path in sys.path if path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.program.format(grader=grader)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert self.process.stdin is not None  # both are pipes
        assert self.process.stdout is not None
        self.questions, self.answers = self.process.stdin, self.process.stdout
        self.ready = False
        self.index: int | None = None
        self.deadline = time.monotonic() + _START_LIMIT_S

    def send(self, index: int, line: str, limit_s: float) -> bool:
        """Gives the worker an item; `False` when it is dead."""
        try:
            self.questions.write(line.encode() + b"\n")
            self.questions.flush()
        except OSError:
            return False
        self.index, self.deadline = index, time.monotonic() + _WALL_PER_CPU * limit_s
        return True

    def receive(self) -> bytes:
        """The line that the worker wrote; empty when it is dead. A line is short and flushed whole."""
        return self.answers.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.questions, self.answers):
            with contextlib.suppress(OSError):
                stream.close()


_WORKERS: list[_Worker] = []
_LOCK = threading.Lock()


@atexit.register
def _close() -> None:
    while _WORKERS:
        _WORKERS.pop().kill()


def _after_fork() -> None:
    """A forked child must not speak to its parent's workers."""
    global _LOCK
    _WORKERS.clear()
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _run(todo: deque[tuple[int, str]], results: dict[int, bool], grader: str, processes: int, limit_s: float) -> None:
    """Hands the items to the workers until every one has a result."""
    failed_starts = 0
    with selectors.DefaultSelector() as selector:

        def add() -> None:
            worker = _Worker(grader)
            _WORKERS.append(worker)
            selector.register(worker.answers, selectors.EVENT_READ, worker)

        def drop(worker: _Worker) -> None:
            selector.unregister(worker.answers)
            _WORKERS.remove(worker)
            worker.kill()

        def feed(worker: _Worker) -> None:
            if todo and not worker.send(*todo[0], limit_s):
                drop(worker)
            elif todo:
                todo.popleft()

        try:
            for dead in [worker for worker in _WORKERS if worker.process.poll() is not None]:
                _WORKERS.remove(dead)
                dead.kill()
            for worker in [worker for worker in _WORKERS if worker.grader == grader][:processes]:
                selector.register(worker.answers, selectors.EVENT_READ, worker)
                if worker.ready:
                    feed(worker)
            while todo or any(worker.index is not None for worker in _WORKERS):
                while todo and len(selector.get_map()) < processes:
                    add()
                busy = [key.data for key in selector.get_map().values()]
                wait = min((w.deadline for w in busy if w.index is not None or not w.ready), default=time.monotonic())
                for key, _ in selector.select(max(0.0, wait - time.monotonic())):
                    worker, line = key.data, key.data.receive()
                    if worker.ready and worker.index is not None:
                        # A worker that died (memory, C stack) has no line: the item is wrong, the worker replaced.
                        results[worker.index] = line == b"1\n"
                        worker.index = None
                    if not line:
                        failed_starts += not worker.ready
                        drop(worker)
                    else:
                        worker.ready = True
                        feed(worker)
                for worker in [w for w in busy if w in _WORKERS and time.monotonic() > w.deadline]:
                    if worker.index is not None:
                        results[worker.index] = False
                        drop(worker)
                    elif not worker.ready:
                        failed_starts += 1
                        drop(worker)
                if failed_starts > 3:
                    raise RuntimeError("the grading worker does not start: run python -c 'import mpmath, math_verify'")
        except BaseException:
            # After an interruption a worker may hold an item whose answer nobody waits for.
            _close()
            raise


def _serve(grader: str) -> None:
    """The worker of one grader: reads items from standard input, writes b"1\\n" or b"0\\n" to standard output."""
    lines, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    # math-verify prints; what it prints must not be taken for an answer.
    os.dup2(2, 1)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, resource.getrlimit(resource.RLIMIT_AS)[1]))
    # One worker knows one grader: the strict one need not load sympy.
    if grader == "strict":
        from cft_trl.grading.comparison import strict_equal as equal
    else:
        from cft_trl.grading.paper_grader import paper_equal as equal

    equal("x+1", "1+x")  # imports what is needed and builds tables before the clock runs
    answers.write(b"ready\n")
    for line in lines:
        text, gold, limit_s = json.loads(line)
        _kill_after(limit_s)
        hit = False
        # Whatever a library raises on strange text (recursion, memory, its own errors), the answer was not readable.
        with contextlib.suppress(Exception):
            answer = extract_answer(text, last_number=grader == "paper")
            right = extract_answer(gold) if "\\boxed" in gold else gold
            if answer and right:
                hit = equal(answer, right)
        _kill_after(0)
        answers.write(b"1\n" if hit else b"0\n")


def _kill_after(seconds: float) -> None:
    """Lets the kernel end this process after so much CPU time, in whatever code it is; 0 takes it back."""
    import signal

    if hasattr(signal, "setitimer"):
        # No handler: SIGPROF's default action needs no Python to run, and works when the parent is gone.
        signal.setitimer(signal.ITIMER_PROF, seconds)
