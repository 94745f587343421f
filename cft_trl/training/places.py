"""Where a run may write: not over the dataset or the model it is made from, not while another run does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import glob
from itertools import takewhile
from pathlib import Path

from cft_trl.data.folders import check_writable, locked, why_not_written
from cft_trl.errors import CFTError
from cft_trl.sources.described import is_described
from cft_trl.training.launch import agree_on
from cft_trl.training.runs import lies_in_run

_LOCK = "_lock"  # what begins with "_" is not pushed to the Hub
_GIVE = "give another --output_dir"


@contextmanager
def held_folder(output: Path) -> Iterator[None]:
    """Makes the run's folder and holds it: the first process does, for all. A full disk is told in one line.

    A run that is refused before it has written anything leaves no folder behind that was not there.

    Raises:
        CFTError: it cannot be written, or another run holds it; in every process.
    """
    was_there = output.exists()
    check_writable(output)
    with ExitStack() as held:
        agree_on(lambda: held.enter_context(locked(output, "run", _GIVE, _LOCK)))
        try:
            yield
        except CFTError:
            if not was_there and [path.name for path in output.iterdir()] == [_LOCK]:
                (output / _LOCK).unlink(missing_ok=True)
                with suppress(OSError):
                    output.rmdir()
            raise
        except Exception as error:
            reason = why_not_written(error)
            if reason is None:
                raise
            where = getattr(error, "filename", None) or output
            raise CFTError(
                f"{where}: cannot be written ({reason}); make room and give the same command again"
            ) from error


def check_output(output: Path, dataset: str | None, model: str | None) -> None:
    """Refuses an output folder that holds something else: a dataset, or the model that the run begins with.

    Args:
        output: the run's folder, there or not.
        dataset, model: names as in the settings; those that are no paths here are on the Hub or built in.

    Raises:
        CFTError: training would overwrite it, or the dataset would be read with the run's files in it.
    """
    here = output.resolve()
    if dataset and not Path(dataset).exists() and (folder := _folder_of_glob(dataset, here)):
        raise CFTError(f"output_dir={output} is a folder that '{dataset}' reads from; give the run a folder of its "
                       f"own, e.g. {suggested(folder)}")  # fmt: skip
    if dataset and Path(dataset).exists():
        rows = Path(dataset).resolve()
        if rows.is_dir() and (here == rows or rows in here.parents):
            raise CFTError(f"output_dir={output} lies in the dataset's folder '{dataset}', which training would spoil; "
                           f"give another one, e.g. {suggested(rows)}")  # fmt: skip
        if rows.is_file() and here == rows.parent:
            raise CFTError(f"output_dir={output} is the folder of '{dataset}'; give the run a folder of its own, "
                           f"e.g. {suggested(here)}")  # fmt: skip
    if model and lies_in_run(model, output):
        holds = "is the folder of" if Path(model).resolve() == here else "is the folder of the run that holds"
        raise CFTError(f"output_dir={output} {holds} the model that the run begins with, which it would "
                       f"overwrite; give another one, e.g. {suggested(here)}")  # fmt: skip
    if is_dataset(output):
        raise CFTError(f"output_dir={output} holds a dataset, whose card training would overwrite; give another one, "
                       f"e.g. {suggested(here)}")  # fmt: skip


def _folder_of_glob(pattern: str, output: Path) -> Path | None:
    """The folder of a glob's files that a run's folder is, or below which it would be read with them."""
    if not any(sign in pattern for sign in "*?["):
        return None
    fixed = Path(*takewhile(lambda part: not any(sign in part for sign in "*?["), Path(pattern).parts)).resolve()
    if "**" in pattern:
        return fixed if output == fixed or fixed in output.parents else None
    return output if output in {Path(file).resolve().parent for file in glob(pattern)} else None


def is_dataset(folder: Path) -> bool:
    """Whether a folder is what `cft build`, `cft pull` or `save_to_disk` leave: Parquet below data/, a card that says
    which files are the rows, or tables with their state."""
    with suppress(CFTError):  # a card that cannot be read says nothing
        if is_described(folder):
            return True
    saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
    return saved or any((folder / "data").glob("*.parquet"))


def suggested(folder: Path) -> str:
    """A folder beside one that is taken, in the words of the command line.

    Example:
        >>> suggested(Path("runs/mine"))
        'runs/mine-cft'
    """
    beside = folder.with_name(f"{folder.name}-cft")
    try:
        return str(beside.relative_to(Path.cwd()))
    except ValueError:
        return str(beside)
