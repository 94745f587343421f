"""A plan as people read it: the table of `cft plan`, and the line that the recipes' READMEs quote."""

from __future__ import annotations

from dataclasses import fields

from cft_trl.planning.memory import GIB, Memory
from cft_trl.planning.plan import Plan


def describe(plan: Plan) -> str:
    """The plan as text, a table of memory in the middle."""
    p, m, w, t, hw = plan, plan.memory, plan.work, plan.time, plan.hardware
    most = " at most" if w.at_most else ""
    full = " if every row is full" if w.at_most else ""
    sharding = {"single": "one process", "ddp": "DDP", "fsdp2": "FSDP2"}.get(p.step.strategy)
    sharding = sharding or f"ZeRO-{p.step.strategy[-1]}"
    dtype = {("fp32", "bf16"): "bf16 arithmetic, fp32 master weights"}.get((p.step.weights, p.step.arithmetic))
    lines = [
        f"PLANNED, NOT MEASURED: {p.model} on {hw.name}, {sharding}, {dtype or p.step.arithmetic}",
        "",
        f"parameters     {p.shape.parameters / 1e9:.2f} B"
        + (f", trained {p.step.trained / 1e6:.1f} M" if p.step.trained else ""),
        f"micro-batch    {p.step.rows} x {p.step.length:,} tokens"
        + (", checkpointing" if p.step.checkpointing else ", no checkpointing"),
        "",
        f"memory, GiB {'per GPU' if not hw.on_cpu else 'of the process'}",
    ]
    for field in fields(Memory):
        if field.name not in ("host", "moment"):
            lines.append(f"  {field.name:<14}{getattr(m, field.name) / GIB:8.2f}")
    lines += [
        f"  {'peak':<14}{m.peak / GIB:8.2f}   of {hw.memory_gib:.1f}: {'fits' if p.fits else 'DOES NOT FIT'}"
        f" (reached at: {m.moment})",
        *([f"  {'host memory':<14}{m.host / GIB:8.2f}"] if m.host else []),
        "",
        f"batch          {w.batch:,} {w.unit}, {w.tokens_per_step:,} tokens a step{most}",
        f"steps          {w.steps:,} for {w.rows:,} rows, {w.tokens / 1e6:,.1f} M tokens{most}",
        f"arithmetic     {t.model_flops:.2e} FLOPs, {t.hardware_flops:.2e} with recomputation{most}",
        f"time           about {duration(t.seconds)}{full}, {t.tokens_per_second:,.0f} tokens/s, limited by {t.limit};"
        " without start-up, saving and evaluation",
        f"  taken        {hw.utilisation:.0%} of {hw.peak(p.step.arithmetic) / 1e12:g} TFLOP/s"
        f" ({hw.status}: {hw.source}); {t.model_utilisation:.0%} without recomputation (MFU)",
    ]
    if hw.watts:
        lines.append(
            f"energy         about {t.kilowatt_hours:,.1f} kWh{full}, {hw.count} x {hw.watts:g} W, rated board power"
        )
    if not p.fits:
        lines += ["", "does not fit; what would:" if p.alternatives else "does not fit, nor does anything tried"]
        lines += [f"  {text}" for text in p.alternatives]
    return "\n".join(lines)


def one_line(plan: Plan) -> str:
    """The plan for a recipe's README.

    Example:
        planned, not measured: 1,048,576 tokens a step, 98 steps, 34.9 GiB of 79.6 per GPU, 31 min on 8 x H100, 2.9 kWh
        (if every row is full, at 45% of peak)
    """
    w, hw = plan.work, plan.hardware
    return (
        f"planned, not measured: {w.tokens_per_step:,} tokens a step, {w.steps:,} steps, "
        f"{plan.memory.peak / GIB:.1f} GiB of {hw.memory_gib:.1f} per GPU{'' if plan.fits else ' (DOES NOT FIT)'}, "
        f"{duration(plan.time.seconds)} on {hw.name}, {plan.time.kilowatt_hours:.1f} kWh"
        + (f" (if every row is full, at {hw.utilisation:.0%} of peak)" if w.at_most else "")
    )


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(42), duration(1900), duration(6000), duration(400_000)
        ('42 s', '32 min', '1.7 h', '4.6 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"
