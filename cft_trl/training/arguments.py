"""Where the rows of a training run come from, and what is done beside the training: the settings that are not TRL's."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import ScriptArguments


@dataclass
class CFTScriptArguments(ScriptArguments):
    """Where the rows come from, beside the settings of TRL's own scripts.

    Args:
        dataset_name: Hub id, file, folder, or `arithmetic` (the embedded source).
        datasets: several datasets in place of `dataset_name`, each with an objective and a weight of its own (see
            `cft_trl.training.parts.PartSettings`): a list of mappings; as a flag paths, or mappings in YAML's words.
        dataset_columns: house column -> column of the data, as a mapping or as `verdict=label,query=problem`.
        append_verdict: writes a row's verdict as the last line of a critique that does not state it.
        dataset_revision: commit, tag or branch on the Hub.
        dataset_limit: uses the first so many rows (`arithmetic`: generates so many).
        eval_rows: so many rows are held out for evaluation (`arithmetic`: other problems, by construction); of each
            part of `datasets` that says nothing else.
        dataset_seed: draws the held-out rows, and the problems of `arithmetic`.
        generated_rows: after training, so many of the held-out rows are critiqued freely and the verdicts scored
            against the rows' own (objective `cft`, one process).
        arithmetic_levels: levels of difficulty, 0 to 3.
        resume: goes on from the newest complete checkpoint in output_dir.
        select_benchmark: every checkpoint is scored on this as it is saved and the best is kept as `best`:
            `math-validation`, `arithmetic-critic` or a file (see `cft select --help`).
        select_limit: a seeded sample of so many of its problems.
        select_keep: how many of the best checkpoints are kept, beside what `save_total_limit` keeps.
        select_exhaustive: every checkpoint answers all of its problems; otherwise one that will hardly be the best any
            more stops after 25, 37, 56, … of them, by an exact test against the best so far (see `cft select --help`).
        early_stopping_patience: ends training after so many evaluations in a row (of `selection`: checkpoints) that
            were no better than the best before them; the model that is saved is the last, `select_benchmark` keeps
            the best.
        early_stopping_on: what has to get better: `loss`, `verdict_accuracy`, or `selection`, the score of
            `select_benchmark`.
        early_stopping_threshold: by so much it has to be better to count.
    """

    datasets: list[str] | None = field(  # of a file it holds mappings; the parser reads a flag's words by this type
        default=None, metadata={"help": "Several datasets: paths, or {path: …, objective: …, weight: …}."}
    )
    dataset_columns: dict | str | None = field(default=None, metadata={"help": "Columns, e.g. verdict=label."})
    append_verdict: bool = field(default=False, metadata={"help": "Append the verdict line where it is missing."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit, tag or branch on the Hub."})
    dataset_limit: int | None = field(default=None, metadata={"help": "Use so many rows."})
    eval_rows: int = field(default=0, metadata={"help": "Rows held out for evaluation."})
    generated_rows: int = field(default=0, metadata={"help": "Held-out rows critiqued freely after training."})
    dataset_seed: int = field(default=0, metadata={"help": "Seed of the held-out rows and of arithmetic."})
    arithmetic_levels: list[int] = field(default_factory=lambda: [1], metadata={"help": "Levels, 0 to 3."})
    select_benchmark: str | None = field(default=None, metadata={"help": "Score checkpoints on it, keep the best."})
    select_limit: int | None = field(default=None, metadata={"help": "Use so many of its problems."})
    select_keep: int = field(default=1, metadata={"help": "Keep so many of the best checkpoints."})
    select_exhaustive: bool = field(default=False, metadata={"help": "Score each checkpoint on all problems."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "End training after so many evaluations without a better one."}
    )
    early_stopping_on: str = field(default="loss", metadata={"help": "loss, verdict_accuracy or selection."})
    early_stopping_threshold: float = field(default=0.0, metadata={"help": "Better by so much, to count."})
    resume: bool = field(default=True, metadata={"help": "Go on from the newest complete checkpoint."})
