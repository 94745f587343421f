"""`cft pull`: a dataset or a model of the Hub as a folder here."""

from __future__ import annotations

from pathlib import Path

from cft_trl.commands.parser import CommandParser

HELP = """\
Fetches a dataset or a model from the Hub into a folder, checks every file against the checksums that the Hub and the
card state, and writes down the commit. The folder needs no network afterwards.

examples:
  cft pull my-name/my-critiques                                      into my-critiques/
  cft pull my-name/my-critiques --revision v1 --output data/v1       a tag, a branch, or a commit
  cft pull my-name/my-critic --repo-type model --output runs/critic
  cft train --dataset_name my-critiques --output_dir runs/mine       what was pulled is used by its folder
  cft solve runs/critic "What is 12 x 4 - 6?"

The same command goes on with a download that was cut off, and changes nothing where the copy is whole already. Pickles
(.bin, .pt, …) are left out: reading one runs the code in it. A private repository wants a token: HF_TOKEN, or
hf auth login.
"""


def run(argv: list[str]) -> int:
    parser = CommandParser("cft pull", HELP)
    parser.add_argument("repo", metavar="ORG/NAME", help="the repository")
    parser.add_argument("--repo-type", choices=("dataset", "model"), help="default: whichever there is")
    parser.add_argument("--revision", help="commit, tag or branch (default main)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the folder (default NAME)")
    options = parser.parse_args(argv)
    from cft_trl.hub.pull import pull

    pulled = pull(options.repo, repo_type=options.repo_type, revision=options.revision, output=options.output)
    size = sum(file["bytes"] for file in pulled.files.values())
    done = "fetched and checked" if pulled.fetched else "there already and whole"
    print(f"{pulled.folder}: {len(pulled.files)} files, {size / 1e6:.1f} MB, {done}")
    print(f"{pulled.repo_type} {pulled.repo_id} at commit {pulled.commit}")
    if pulled.replaced:
        told = "; ".join(f"{len(names)} {kind} ({names[0]}{', …' * (len(names) > 1)})"
                         for kind, names in pulled.changes.items())  # fmt: skip
        print(f"in place of commit {pulled.replaced}: {told or 'the same files'}")
    if pulled.left_out:
        print(f"left out, for they are pickles: {', '.join(pulled.left_out)}")
    use = (
        f"cft train --dataset_name {pulled.folder} …"
        if pulled.repo_type == "dataset"
        else f"cft solve {pulled.folder} …"
    )
    print(f"next: {use}")
    return 0
