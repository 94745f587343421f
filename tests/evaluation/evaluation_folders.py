"""Evaluation folders without a model: what `cft eval` would leave, with answers drawn at random.

make_evaluation(tmp_path / "base", {"gsm8k": (0.4, 200)})        # right on about 40% of 200 problems
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cft_trl.evaluation.generations import summarise, write_generations

PROMPT = {"system": "Think, then box the answer.", "stop": ["[END]"], "max_new_tokens": 512, "digest": "d1"}


def make_rows(
    task: str, skill: float, problems: int, *, samples: int = 1, mode: str = "direct", seed: int = 0
) -> list[dict[str, Any]]:
    """Generations of one task. A problem is as hard in every run; luck is the run's own."""
    luck, rows = random.Random(f"{seed}-{task}"), []
    for at in range(problems):
        hardness = random.Random(f"{task}-{at}").random()
        for sample in range(samples):
            strict = 0.7 * hardness + 0.3 * luck.random() < 0.15 + 0.7 * skill
            cut = luck.random() < 0.08
            verdicts = [luck.choice(["right", "wrong", None]) for _ in range(2)]
            rows.append(
                {
                    "task": task, "id": f"{task}-{at}", "sample": sample, "query": f"Problem {at}?", "gold": str(at),
                    "prompt": "[]", "text": f"So \\boxed{{{at if strict else -1}}}.",
                    "finish_reason": "length" if cut else "stop", "prompt_tokens": 90,
                    "completion_tokens": 512 if cut else int(luck.lognormvariate(5, 0.4)),
                    "extracted": None if cut else str(at), "strict": strict,
                    "paper": strict or luck.random() < 0.05, "mode": mode,
                    "rounds": 2 if mode == "two_stage" else 1,
                    "meta": {"verdicts": verdicts} if mode == "two_stage" else {},
                }
            )  # fmt: skip
    return rows


def make_evaluation(
    folder: Path, tasks: Mapping[str, tuple[float, int]], *, rows: Mapping[str, list] | None = None, **settings: Any
) -> Path:
    """Writes a folder; `tasks` gives skill and number of problems, `settings` replace entries of evaluation.json."""
    mode, samples, seed = (settings.get(k, d) for k, d in (("mode", "direct"), ("samples", 1), ("seed", 0)))
    graders = settings.get("graders", ["strict", "paper"])
    summaries = {}
    for task, (skill, problems) in tasks.items():
        made = (rows or {}).get(task) or make_rows(task, skill, problems, samples=samples, mode=mode, seed=seed)
        write_generations(folder / "generations" / f"{task}.parquet", made)
        summaries[task] = summarise(made, graders)
    told = {
        "model": "owner/model", "revision": None, "backend": "transformers", "mode": mode, "prompt": PROMPT,
        "limit": None, "samples": samples, "temperature": 0.0, "top_p": 1.0, "seed": seed, "graders": graders,
        "tasks": summaries, "machine": "x86_64, 2 cores, no GPU", "versions": {"math-verify": "0.5.2"},
        "date": "2026-11-21", "seconds": 12.3, **settings,
    }  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(told), encoding="utf-8")
    return folder
