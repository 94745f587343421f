"""`cft recipes`: the folders that the documentation's commands name, for who has installed the package."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from cft_trl.commands.parser import CommandParser
from cft_trl.errors import CFTError

FOLDERS = ("recipes", "hub_datasets", "space")

HELP = """\
Copies recipes/ (a YAML file per training run, accelerate configs, a Slurm script), hub_datasets/ (a recipe per dataset)
and space/ (the Space's three files) into a folder, so that the documentation's commands work as they are written. A
clone of the repository has them already. Files of your own that are in the way are left as they are and named.

examples:
  cft recipes                                here
  cft recipes ~/cft                          there
  cft train --config recipes/smollm2-135m/cft.yaml
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: Files of other content are in the way, or the folder cannot be written.
    """
    parser = CommandParser("cft recipes", HELP)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where to copy them (default: here)")
    parser.add_argument("--force", action="store_true", help="replace files that differ")
    options = parser.parse_args(argv)
    wanted = {path: options.folder / path for path in shipped_files()}
    origin = shipped_folder()
    if origin.resolve() == options.folder.resolve():
        print(f"{origin} holds them already")
        return 0
    differing = [
        target for path, target in wanted.items() if target.exists() and not filecmp.cmp(origin / path, target, False)
    ]
    if differing and not options.force:
        names = ", ".join(map(str, differing[:3])) + (", …" if len(differing) > 3 else "")
        raise CFTError(
            f"{len(differing)} files there are others than ours ({names}); nothing was copied; give --force to replace "
            "them, or another folder"
        )
    try:
        for path, target in wanted.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / path, target)
    except OSError as error:
        raise CFTError(f"'{options.folder}' cannot be written ({error.strerror}); give another folder") from None
    print(f"{len(wanted)} files in {', '.join(str(options.folder / name) for name in FOLDERS)}")
    return 0


def shipped_folder() -> Path:
    """Where they lie: inside an installed package, beside it in a clone.

    Raises:
        CFTError: An installation that has neither.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "_shipped", package.parent):
        if all((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise CFTError("this installation came without its recipes; install the wheel, or clone the repository")


def shipped_files() -> list[Path]:
    """Every file, by its path from the folder."""
    folder = shipped_folder()
    found = [path for name in FOLDERS for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return [path.relative_to(folder) for path in found if "__pycache__" not in path.parts]
