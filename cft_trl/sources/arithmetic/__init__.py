"""Arithmetic word problems with exact answers, made from templates: the data source that needs no download.

    >>> from cft_trl.sources.arithmetic import arithmetic_records
    >>> row = next(arithmetic_records(1, seed=0, levels=(1,)))
    >>> row["source"], row["verdict"] in ("right", "wrong")
    ('arithmetic', True)

Read in this order: template.py (what a problem is), level0.yaml to level3.yaml (the problems), bank.py (reads them),
solution.py (how an answer is written), corrupt.py (how it goes wrong), records.py (the rows).
"""

from .bank import TEMPLATES
from .corrupt import KINDS, corrupt, corrupt_as
from .records import SPLITS, arithmetic_records, as_record, problems, split_of
from .solution import STYLES, Solution, right_solution, write
from .template import Problem, Step, Template

__all__ = [
    "KINDS",
    "SPLITS",
    "STYLES",
    "TEMPLATES",
    "Problem",
    "Solution",
    "Step",
    "Template",
    "arithmetic_records",
    "as_record",
    "corrupt",
    "corrupt_as",
    "problems",
    "right_solution",
    "split_of",
    "write",
]
