"""Plots of a run: what people would look at rather than read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Okabe and Ito's palette, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#888888"


def subplots(count: int, size: tuple[float, float]) -> tuple[Any, list[Any]] | None:
    """A figure and its axes, side by side; None where matplotlib is not installed.

    Args:
        count: How many axes.
        size: Of the figure, in inches: (width, height).
    """
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=size, constrained_layout=True, squeeze=False)
    return figure, list(axes[0])


def write_figure(figure: Any, path: Path) -> None:
    """Writes a figure into a PNG and lets go of it."""
    from matplotlib import pyplot as plt

    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_training(history: Sequence[Mapping[str, Any]], path: Path, majority_rate: float | None = None) -> bool:
    """Draws loss and verdict accuracy over steps from `trainer.state.log_history` into a PNG.

    Args:
        majority_rate: drawn as a dashed line, if given.

    Returns:
        False, and nothing is drawn, where matplotlib is not installed.
    """
    if (plots := subplots(2, (11, 4))) is None:
        return False
    figure, (left, right) = plots
    for prefix, colour, label in (("", BLUE, "training"), ("eval_", ORANGE, "held out")):
        # A mixture has both: the target loss is over all its parts.
        mixed = any(f"{prefix}target_loss" in entry for entry in history)
        _line(left, history, f"{prefix}{'target' if mixed else 'critique'}_loss", colour, label)
    left.set(title="Loss on the target", xlabel="step", ylabel="nats per token")
    for name, colour, label in (
        ("verdict_accuracy", BLUE, "training"),
        ("eval_verdict_accuracy", ORANGE, "held out"),
        ("eval_verdict_accuracy_right", GREEN, "held out, right"),
        ("eval_verdict_accuracy_wrong", GREY, "held out, wrong"),
    ):
        _line(right, history, name, colour, label)
    if majority_rate is not None:
        right.axhline(majority_rate, linestyle="--", color=GREY, linewidth=1, label="majority")
    right.set(title="Verdict accuracy (teacher-forced)", xlabel="step", ylabel="share", ylim=(-0.02, 1.02))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        if axes.has_data():
            axes.legend(frameon=False)
    write_figure(figure, path)
    return True


def plot_selection(selection: Mapping[str, Any], path: Path) -> bool:
    """Draws the score of each checkpoint with its 95% interval, the winner marked, from the content of selection.json.

    Returns:
        False, and nothing is drawn, where matplotlib is not installed.
    """
    if (plots := subplots(1, (6.5, 4))) is None:
        return False
    figure, [axes] = plots
    curve, winner = selection["curve"], selection["winner"]
    steps, scores = [point["step"] for point in curve], [point["score"] for point in curve]
    below = [point["score"] - point["interval_95"][0] for point in curve]
    above = [point["interval_95"][1] - point["score"] for point in curve]
    axes.errorbar(steps, scores, yerr=[below, above], color=BLUE, marker="o", markersize=4, linewidth=1.4, capsize=3)
    axes.plot([winner["step"]], [winner["score"]], marker="o", markersize=9, color=ORANGE, linestyle="", label="best")
    if selection["majority_rate"] is not None:
        axes.axhline(selection["majority_rate"], linestyle="--", color=GREY, linewidth=1, label="majority")
    name = f"{selection['benchmark']}, {selection['rows']} rows"
    axes.set(title=f"Checkpoints on {name}", xlabel="step", ylabel="share right, 95% interval")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    write_figure(figure, path)
    return True


def plot_arms(summary: Sequence[Mapping[str, Any]], path: Path, title: str, names: Mapping[str, str]) -> bool:
    """Draws an experiment: per measure and test set a line of each arm's means, a dot per seed, in both views.

    Args:
        summary: Of `cft_trl.experiments.results.summary`.
        path: The PNG.
        title: Above it.
        names: Measure -> what a panel calls it; others are not drawn.

    Returns:
        False, and nothing is drawn, where matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    measures = [name for name in summary[0]["measures"] if name.partition("_")[0] in names]
    arms = list(dict.fromkeys(line["arm"] for line in summary))
    wide = -(-len(measures) // 3)
    size = (4 * min(3, len(measures)) + 1, (0.34 * len(arms) + 1.2) * wide)
    figure, grid = plt.subplots(wide, min(3, len(measures)), figsize=size, constrained_layout=True, squeeze=False,
                                sharey=True)  # fmt: skip
    for axes, measure in zip(grid.flat, measures, strict=False):
        for line in summary:
            tokens = line["view"] == "tokens"
            place = arms.index(line["arm"]) + (-0.14 if tokens else 0.14)
            found, colour = line["measures"][measure], BLUE if tokens else ORANGE
            axes.plot(found["values"], [place] * len(found["values"]), "o", color=colour, markersize=3, alpha=0.45)
            label = f"equal {'target tokens' if tokens else 'rows'}" if line["arm"] == arms[0] else None
            axes.plot([found["mean"]], [place], "|", color=colour, markersize=13, markeredgewidth=2.4, label=label)
        name, _, of_set = measure.partition("_")
        axes.set(title=f"{names[name]}: {of_set}", xlim=(-0.02, 1.02), yticks=range(len(arms)), yticklabels=arms)
        axes.grid(alpha=0.25)
    grid.flat[0].invert_yaxis()
    grid.flat[0].legend(frameon=False, fontsize=8)
    for axes in list(grid.flat)[len(measures) :]:
        axes.axis("off")
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def _line(axes: Any, history: Sequence[Mapping[str, Any]], name: str, colour: str, label: str) -> None:
    points = [(entry["step"], entry[name]) for entry in history if name in entry]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, label=label, marker="o", markersize=3, linewidth=1.4)
