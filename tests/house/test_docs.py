"""The pages of docs/: what can be typed is typed or parsed here; what is made from the code says what the code does."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY, make_model
from doc_blocks import BLOCKS, PAGES, blocks_of, check_command, commands_of
from space_app import browser

from cft_trl.cli import COMMANDS
from cft_trl.commands.completion_scripts import command_parser

DOCS = REPOSITORY / "docs"
LANGUAGES = {"bash", "python", "yaml", "jsonl", "jinja", "text", ""}  # without a name: text


@pytest.fixture(scope="module")
def tiny_folder(tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "model"
    make_model(tokenizers("chatml")).save_pretrained(folder)
    tokenizers("chatml").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def generator():
    import make_reference  # docs/ is on pytest's path

    return make_reference


def furnish(folder: Path, page: Path) -> None:
    """Puts what a reader of the page has by its end into a folder: the clone's recipes and the page's own files."""
    for name in ("recipes", "hub_datasets"):
        (folder / name).symlink_to(REPOSITORY / name)
    for block in blocks_of(page):
        if block.file:
            (folder / block.file).write_text(block.text)


# ---- blocks ----------------------------------------------------------------------------------------------------------


def test_there_are_blocks_of_known_languages_only():
    assert len(BLOCKS) > 30
    strange = [block.place for block in BLOCKS if block.language not in LANGUAGES]
    assert not strange, f"say what these are: {strange}"


def test_every_block_is_run_or_says_why_it_is_not():
    """Python is run, data are read; commands are typed in the walk, or a line above them says what they need."""
    silent = [block.place for block in BLOCKS if block.language == "bash" and not (block.runs or block.reason)]
    assert not silent
    both = [block.place for block in BLOCKS if block.language == "python" and block.reason]
    assert not both, "these have a reason not to run, but nothing that runs keeps them true"


LINES = [
    pytest.param(page, line, id=f"{block.place} {line[:40]}")
    for page in PAGES
    for block in blocks_of(page)
    if block.language == "bash"
    for line in commands_of(block)
]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_commands_are_understood(page, line, tmp_path, monkeypatch):
    furnish(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "cft eval runs/mine --taks six",
        "cft eval-critic runs/mine --limit none",
        "cft train --config recipes/no-such.yaml",
        "cft train --config recipes/smollm2-135m/cft.yaml --learning-rat 1",
        "cft build hub_datasets/metamath/recipe.yaml --set filter.agre=drop",
        "cft biuld x",
        "accelerate launch --config_file recipes/accelerate/none.yaml recipes/cft.py --config recipes/cft.py",
        "make everything",
        "pip install 'cft-trl[evaluation]'",
        "curl example.org",
    ],
)
def test_wrong_commands_are_noticed(line, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises((AssertionError, ValueError, SystemExit)):
        check_command(line)


PYTHON = [
    pytest.param(block, id=block.place)
    for block in BLOCKS
    if block.language == "python" and block.place.startswith("docs")  # README's: test_readme.py
]


@pytest.mark.parametrize("block", PYTHON)
def test_python_runs(block, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The model of two layers in place of the small one, and fewer rows: the code is what is tested.
    text = block.text.replace("smollm2-135m", tiny_folder).replace("(600,", "(12,")
    exec(compile(text, block.place, "exec"), {"__name__": "docs"})


DATA = [pytest.param(block, id=block.place) for block in BLOCKS if block.language in ("yaml", "jsonl")]


@pytest.mark.parametrize("block", DATA)
def test_files_are_what_their_readers_take(block, tmp_path):
    if block.language == "jsonl":
        from cft_trl.data.records import to_record

        for line in block.text.splitlines():
            row = json.loads(line)
            if "problem" not in row:  # a file that the page maps the columns of, which the walk does
                assert to_record(row, block.place)["query"]
        return
    furnish(tmp_path, REPOSITORY / block.place.partition(":")[0])  # a recipe may name other files of its page
    path = tmp_path / "file.yaml"
    path.write_text(block.text)
    if re.search(r"^source:", block.text, re.MULTILINE):
        from cft_trl.synthesis.recipe import read_recipe

        assert read_recipe(path).name
    else:
        check_command(f"cft train --config {path}")


# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["reference", "commands", "api"])
def test_what_is_written_from_the_code_is_up_to_date(page, generator):
    written = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert written == getattr(generator, page)(), "run: python docs/make_reference.py"


def test_each_line_of_what_begins_anew_has_its_test(generator):
    for line in generator.begin_anew():
        assert set(line) == {"command", "changed", "then", "test"}
        file, _, name = line["test"].partition("::")
        assert re.search(
            rf"^(?:async )?def {name}\(", next((REPOSITORY / "tests").rglob(file)).read_text(), re.MULTILINE
        ), line


def test_the_reference_knows_every_column_exit_code_and_command(generator):
    from cft_trl import cli
    from cft_trl.data.records import COLUMNS

    assert set(generator.COLUMNS) == set(COLUMNS)
    codes = {int(code) for code in re.findall(r"(?:^|; |: )(\d+) ", cli.__doc__.partition("Exit codes:")[2])}
    assert codes | {0} == set(generator.EXIT_CODES)
    for name in COMMANDS:
        assert f"\n## cft {name}\n" in (DOCS / "commands.md").read_text()


def test_every_flag_of_every_command_is_on_its_page():
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        part = page.partition(f"\n## cft {name}\n")[2].partition("\n## ")[0]
        if name == "train":
            assert "reference.md#settings-of-a-training-run" in part
            continue
        for action in command_parser(name)._actions:
            for flag in set(action.option_strings) - {"-h", "--help"}:
                assert re.search(rf"^\| `[^|]*{re.escape(flag)}\b", part, re.MULTILINE), f"cft {name}: {flag}"


def test_no_line_of_a_help_text_is_lost_on_its_page():
    page = " ".join(re.sub(r"[|`#\\*]|&lt;|<", " ", (DOCS / "commands.md").read_text(encoding="utf-8")).split()).lower()
    for name in COMMANDS:
        text = importlib.import_module(f"cft_trl.commands.{name.replace('-', '_')}").HELP
        for line in text.splitlines():
            for piece in re.split(r"\s{2,}", re.sub(r"[|`#\\*<]", "  ", line).strip()):
                assert piece.lower() in page, f"cft {name}: {piece}"


def test_what_can_be_imported_from_the_top_is_in_the_api(generator):
    import cft_trl

    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert not [name for name in cft_trl.__all__ if name != "__version__" and f"\n### {name}\n" not in page]


def test_every_setting_of_a_recipe_is_described():
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert len(rows) > 60
    assert not [name for name, text in rows if not text.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    named = re.findall(r"`((?:recipes|hub_datasets|cft_trl|benchmarks|notebooks|tests|docs|space)/[\w./-]+)`", text)
    missing = [name for name in named if not (REPOSITORY / name).exists()]
    assert not missing


# ---- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site in a folder, built as `make docs` builds it."""
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ, "CI": "1"})
    assert built.returncode == 0, built.stderr[-2000:]
    return folder


def test_the_site_is_built_strictly_and_fetches_nothing(site):
    pages = sorted(site.rglob("*.html"))
    assert {f"{page.stem}.html" for page in PAGES if page.parent == DOCS} <= {page.name for page in pages}
    for page in pages:
        # A reader's click may leave the page; nothing else does.
        rest = re.sub(r"<a\b[^>]*>", "", page.read_text())
        fetched = re.findall(r"(?:src|href)=[\"']?(https?:[^\"' >]+)", rest)
        assert not fetched + re.findall(r"unpkg|jsdelivr|googleapis|cdnjs", rest), page.name


def test_the_first_page_says_version_repository_and_how_to_install(site):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    page = (site / "index.html").read_text()
    assert f"Version {project['version']} " in page
    assert f'href="{project["urls"]["Source"]}"' in page
    assert "pip install" in re.sub(r"<[^>]+>", "", page)  # each word may have a colour of its own
    assert "{{" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


@contextlib.contextmanager
def opened(site, how):
    """The address of a page: in the folder, or served by a server of ours."""
    if how == "folder":
        yield site.as_uri()
        return
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing: the test's output is pytest's."""


@pytest.mark.parametrize("how", ["folder", pytest.param("served", marks=pytest.mark.slow)])
def test_the_search_finds_a_setting(site, how):
    with opened(site, how) as address, browser() as chromium:
        page = chromium.new_page()
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/index.html")
        page.locator("input[name=query]").click()
        page.keyboard.type("early_stopping_patience")
        page.wait_for_function("/matching document/.test(document.querySelector('.md-search-result__meta').innerText)")
        page.locator(".md-search-result__item a").first.click()
        page.wait_for_url(re.compile("reference"))
        assert not errors
        assert not [one for one in asked if not one.startswith((address, "data:", "blob:", "about:"))]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_scrolled_sideways(site, width):
    over = "[...document.querySelectorAll('pre > code')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": 800})
        for path in sorted(site.glob("*.html")):
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
            assert page.evaluate(over) == 0, path.name


# ---- the walk --------------------------------------------------------------------------------------------------------

WALKS = [page for page in PAGES if any(block.runs for block in blocks_of(page))]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", WALKS, ids=lambda path: path.name)
def test_a_walk_through_the_page(page, tmp_path):
    """Its files and marked commands, in order, in a folder of its own that is the home too; with the small model."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": os.environ.get("HF_HOME", str(Path.home() / ".cache" / "huggingface")),
        "HOME": str(tmp_path),
    }
    furnish(tmp_path, page)
    for block in blocks_of(page):
        if block.runs:
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert ran.returncode == 0, f"{block.place}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
