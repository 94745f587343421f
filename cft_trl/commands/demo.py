"""`cft demo`: the app of the Space, on this machine or on the Hub."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import PRESET_OPTION, positive
from cft_trl.errors import CFTError, nearest
from cft_trl.models.adapters import OPTION_HELP

HELP = """\
Serves the app in which a reader solves, critiques and compares with a critique-tuned model; --deploy makes it a Space.

examples:
  cft demo                                                      SmolLM2-135M-Instruct, on this machine
  cft demo --model runs/mine --base-model smollm2-135m          http://127.0.0.1:7860
  cft demo --model m --endpoint http://localhost:8000/v1        a model behind vLLM or another server
  cft demo --rows runs/rows                                     rows of your own in the tab Browse
  cft demo --model ORG/MODEL --deploy ORG/SPACE --dry-run       the files that would be pushed
  cft demo --model ORG/MODEL --base-model ORG/BASE --deploy ORG/SPACE --hardware zero-a10g

Every option can also be an environment variable: CFT_MODEL, CFT_BASE_MODEL, CFT_ENDPOINT, CFT_MAX_NEW_TOKENS, ...
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: Flags that do not go together; else as what it calls.
    """
    parser = CommandParser("cft demo", HELP, usage="cft demo [--model MODEL] [options]")
    parser.add_argument("--model", help="folder, Hub id or smollm2-135m; with --endpoint the model's name there")
    parser.add_argument("--base-model", help="what it was trained from, for the tab Compare")
    parser.add_argument("--revision", help="commit, tag or branch of the model on the Hub")
    parser.add_argument("--base-revision", help="of the base model")
    parser.add_argument("--adapter-base", metavar="MODEL", help=OPTION_HELP)
    parser.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible, e.g. http://localhost:8000/v1")
    parser.add_argument("--base-endpoint", metavar="URL", help="the base model's, if it is another")
    parser.add_argument("--api-key-env", metavar="NAME", help="variable with the key (default OPENAI_API_KEY)")
    parser.add_argument("--extra", help="fields of each request to it, as '{reasoning_effort: low, temperature: null}'")
    parser.add_argument("--prompt-preset", metavar="PRESET", help=PRESET_OPTION)
    parser.add_argument("--rows", help="rows of critiques for the tab Browse: file, folder or Hub id")
    parser.add_argument("--rows-name", metavar="NAME", help="their configuration, of a dataset on the Hub")
    parser.add_argument("--rows-revision", metavar="REVISION", help="their revision on the Hub")
    parser.add_argument("--rows-limit", type=positive, help="the first so many of them (default 1000)")
    parser.add_argument("--max-new-tokens", type=positive, help="the most a visitor can ask for (default 512)")
    parser.add_argument("--concurrency", type=positive, help="texts written at once (default 1; 16 with an endpoint)")
    parser.add_argument("--queue-size", type=positive, help="requests that may wait (default 64)")
    parser.add_argument("--host", help="address to serve on (default 127.0.0.1; 0.0.0.0 for the network)")
    parser.add_argument("--port", type=positive, help="default: the first free one from 7860")
    parser.add_argument("--deploy", metavar="ORG/NAME", help="push the app to the Hub as this Space")
    parser.add_argument("--private", action="store_true", help="with --deploy: a private Space")
    parser.add_argument("--hardware", help="with --deploy: e.g. zero-a10g, t4-small (default: the free CPU)")
    parser.add_argument("--dry-run", action="store_true", help="with --deploy: list the files and push nothing")
    options = parser.parse_args(argv)
    from cft_trl.demo.settings import DemoSettings

    names = [field.name for field in fields(DemoSettings)]
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    settings = replace(DemoSettings.from_environment(), **given)
    if options.deploy:
        return _deploy(options, given)
    for name in ("private", "hardware", "dry_run"):
        if getattr(options, name):
            raise CFTError(f"--{name.replace('_', '-')} belongs to --deploy ORG/NAME")
    from cft_trl.demo.app import serve
    from cft_trl.demo.runtime import Runtime
    from cft_trl.environment import require

    require("space", "the app", "gradio")  # before it is said that anything is loaded
    models = " and ".join(Runtime(settings).names.values())
    print(f"loading {models} ...", file=sys.stderr)
    serve(settings, host=options.host, port=options.port)
    return 0


def _deploy(options: argparse.Namespace, given: dict[str, object]) -> int:
    from cft_trl.demo.deploy import deploy, space_files
    from cft_trl.demo.settings import variable
    from cft_trl.hub.upload import check_repo_id

    check_repo_id(options.deploy, "--deploy")
    for name in ("model", "base_model", "adapter_base"):
        value = given.get(name)
        if value and not options.endpoint and Path(str(value)).expanduser().is_dir():
            flag = f"--{name.replace('_', '-')}"
            raise CFTError(f"{flag} {value}: a Space cannot read this folder; push it (cft push) and give its Hub id")
    if "rows" in given and Path(str(given["rows"])).expanduser().exists():
        raise CFTError(f"--rows {given['rows']}: a Space cannot read this; push it (cft push) and give its Hub id")
    if Path(str(given.get("prompt_preset", "paper"))).expanduser().is_dir():
        raise CFTError(
            f"--prompt-preset {given['prompt_preset']}: a Space cannot read this folder; give a preset's name"
        )
    for name in ("endpoint", "base_endpoint"):
        if "@" in str(given.get(name, "")):
            raise CFTError(f"--{name.replace('_', '-')}: a Space's variables are public; give no password with it")
    if options.hardware:
        from huggingface_hub import SpaceHardware

        known = [kind.value for kind in SpaceHardware]
        if options.hardware not in known:
            raise CFTError(f"--hardware {options.hardware}: unknown{nearest(options.hardware, known)}")
    variables = {variable(name): str(value) for name, value in given.items()}
    if options.dry_run:
        files = space_files()
        for name, content in files.items():
            print(f"{len(content):>8,}  {name}")
        print(f"{len(files)} files, {sum(map(len, files.values())):,} bytes, would go to the Space {options.deploy}")
        for name, value in variables.items():
            print(f"with the variable {name}={value}")
        return 0
    url = deploy(options.deploy, variables, private=options.private, hardware=options.hardware)
    print(url)
    if options.endpoint:
        key = given.get("api_key_env", "OPENAI_API_KEY")
        print(f"if the endpoint wants a key: set it as the secret {key} under Settings", file=sys.stderr)
    return 0
