"""At which commit a data set of the Hub is read: a branch is resolved once, and that commit is loaded and recorded.

commit = dataset_commit("openai/gsm8k", "main")      # "e53f048856ff4f594e959d75785d2c2d37b678ee"
read_at("gsm8k")                                     # the same, once `load_benchmark("gsm8k")` has read it
"""

from __future__ import annotations

from cft_trl.data.hub_commits import commit_now

_READ: dict[str, str] = {}


def dataset_commit(name: str, revision: str | None = None) -> str | None:
    """The commit that a data set's revision stands for now; where the Hub does not answer, the revision as it is.

    Args:
        name: Hub id.
        revision: Commit, tag or branch; None is the default branch.
    """
    return commit_now("dataset", name, revision) or revision


def note_read(benchmark: str, commit: str | None) -> None:
    """Notes where a benchmark was read: at a commit of the Hub, or (None) from a folder, which has none."""
    _READ.pop(benchmark, None)
    if commit:
        _READ[benchmark] = commit


def read_at(benchmark: str) -> str | None:
    """The commit at which this process last read a benchmark (or "processbench"); None for one from a folder."""
    return _READ.get(benchmark)
