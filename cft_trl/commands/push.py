"""`cft push`: a trained model, or a built dataset, to the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypedDict

from cft_trl.commands.parser import CommandParser
from cft_trl.errors import CFTError

HELP = """\
Pushes a run's model to the Hub, with a card that is written from the run: data, settings, selection, evaluations,
hardware, time. Or a dataset that `cft build` made. What was sent already is not sent again.

examples:
  cft push runs/mine my-name/my-critic --dry-run
  cft push runs/mine my-name/my-critic --private
  cft push runs/mine my-name/my-critic --eval runs/eval-cft --eval runs/eval-base
  cft push runs/mine my-name/my-critic --checkpoint 40 --revision step-40
  cft push runs/datasets/metamath my-name/my-critiques            a folder of cft build

Sent are weights (safetensors), tokenizer, card, settings, metrics, plots, selection and evaluation scores; never
optimizer states, training_args.bin, journals, checkpoints or generations. After `cft select` the model is best/, and
the card says which step that is. The token: HF_TOKEN, or hf auth login.
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: A build that has not come to its end; else as what it calls.
    """
    parser = CommandParser("cft push", HELP)
    parser.add_argument("run", metavar="RUN", type=Path, help="output_dir of a training run, or a folder of cft build")
    parser.add_argument("repo", metavar="ORG/NAME", help="the repository; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make it private")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch to push to (default main)")
    parser.add_argument("--message", help="the commit's message")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes; nothing is sent")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--checkpoint", metavar="WHICH", help="best, last, or a step (default: best where one was chosen, else last)"
    )
    which.add_argument("--best", action="store_const", const="best", dest="checkpoint", help="as --checkpoint best")
    parser.add_argument(
        "--eval",
        action="append",
        default=[],
        metavar="OUT",
        dest="evaluations",
        help="a folder of cft eval or cft eval-critic, of this model or its base; several times for several "
        "(those inside RUN are found)",
    )
    options = parser.parse_args(argv)
    if (options.run / "stages").is_dir() and not (options.run / "README.md").is_file():
        raise CFTError(f"'{options.run}' is a build that has not come to its end; the same `cft build` goes on with it")
    dataset = (options.run / "statistics.json").is_file() and (options.run / "data").is_dir()
    return _push_dataset(options) if dataset else _push_model(options)


def _push_model(options: argparse.Namespace) -> int:
    from cft_trl.hub.push_model import prepare_push, send
    from cft_trl.hub.upload import check_push

    if not options.dry_run:
        check_push(options.repo)  # before weights are read for their checksums
    publication = prepare_push(
        options.run, options.repo, checkpoint=options.checkpoint, evaluations=options.evaluations
    )
    print(f"the weights are {publication.model} ({publication.folder})")
    _list(publication.sizes, options)
    if not options.dry_run:
        print(send(publication, options.repo, **_where(options)))
    return 0


def _push_dataset(options: argparse.Namespace) -> int:
    from cft_trl.hub.upload import check_push, check_repo_id, published_files, push_dataset

    if options.checkpoint or options.evaluations:
        raise CFTError(f"'{options.run}' is a dataset; --checkpoint and --eval belong to a model")
    check_repo_id(options.repo)
    _list({name: path.stat().st_size for name, path in published_files(options.run).items()}, options)
    if not options.dry_run:
        check_push(options.repo)
        print(push_dataset(options.run, options.repo, **_where(options)))
    return 0


class Where(TypedDict):
    """What a push of either kind is told of the repository."""

    private: bool
    revision: str | None
    message: str | None


def _where(options: argparse.Namespace) -> Where:
    return {"private": options.private, "revision": options.revision, "message": options.message}


def _list(sizes: dict[str, int], options: argparse.Namespace) -> None:
    total = _size(sum(sizes.values()))
    at = f"{options.repo}{f', branch {options.revision}' if options.revision else ''}"
    if not options.dry_run:
        print(f"pushing {len(sizes)} files, {total}, to {at}", flush=True)
        return
    width = max(map(len, sizes))
    for name, size in sizes.items():
        print(f"  {name:<{width}}  {_size(size):>9}")
    print(f"{len(sizes)} files, {total}; would go to {at}, nothing was sent")


def _size(count: int) -> str:
    """Bytes as people read them.

    Example:
        >>> _size(999), _size(538_090_408)
        ('999 B', '538.1 MB')
    """
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
