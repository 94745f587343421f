"""Critique Fine-Tuning for TRL: train language models to critique noisy answers.

    from cft_trl import CFTConfig, CFTTrainer

    trainer = CFTTrainer("Qwen/Qwen2.5-Math-7B", CFTConfig("out"), train_dataset=rows)

Names are imported when first used, so that `import cft_trl` stays instant.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "CFTConfig": "cft_trl.training.config",
    "CFTError": "cft_trl.errors",
    "CFTTrainer": "cft_trl.training.trainer",
    "DataCollatorForCritique": "cft_trl.training.collator",
    "DatasetPart": "cft_trl.training.mixture",
    "parse_verdict": "cft_trl.data.verdict",
    "to_messages": "cft_trl.data.records",
    "to_records": "cft_trl.data.records",
    "to_webinstruct_cft": "cft_trl.data.records",
}

__all__ = [*_LAZY, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cft_trl' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
