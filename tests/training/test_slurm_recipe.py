"""recipes/slurm: the script under stand-ins for Slurm's and our commands, and once for real without Slurm.

What a stand-in leaves, one line of JSON a call: {"command": "accelerate", "words": ["launch", …], "node": "1"}
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, make_model

SCRIPT = REPOSITORY / "recipes/slurm/cft.sbatch"
RECIPE = "recipes/qwen2.5-math-7b/cft.yaml"

RECORDER = """\
#!{python}
import json, os, pathlib, sys
name = pathlib.Path(sys.argv[0]).name
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps({{"command": name, "words": sys.argv[1:], "node": os.environ.get("SLURM_NODEID")}}), file=calls)
sys.exit(name == os.environ.get("FAILS"))
"""
# srun as the script uses it: one task a node, each told its rank.
SRUN = """\
#!/bin/bash
while [ "$1" != bash ]; do [ "$1" = --nodes ] && nodes=$2; shift; done
for rank in $(seq 0 $((nodes - 1))); do SLURM_NODEID=$rank "$@" || exit $?; done
"""
SCONTROL = "#!/bin/bash\nprintf 'node-a\\nnode-b\\n'\n"
# sbatch runs what it is given, as its first --nodes and the environment say.
SBATCH = """\
#!/bin/bash
nodes=1
while [[ "$1" = --* ]]; do [ "$1" = --nodes ] && nodes=$2; shift 2; done
SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=$nodes SLURM_GPUS_ON_NODE=8 SLURM_JOB_NODELIST='node-[a-b]' bash "$@"
"""


@pytest.fixture
def slurm(tmp_path):
    """`slurm(words, **environment)` -> (exit code, calls)."""
    programs = tmp_path / "bin"
    programs.mkdir()
    texts = dict.fromkeys(("accelerate", "cft"), RECORDER.format(python=sys.executable))
    for name, text in (texts | {"srun": SRUN, "sbatch": SBATCH, "scontrol": SCONTROL}).items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    calls = tmp_path / "calls.jsonl"

    def run(words, **environment):
        calls.unlink(missing_ok=True)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "CALLS": str(calls), **environment}
        done = subprocess.run(shlex.split(words), cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        found = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        return done.returncode, found

    (tmp_path / "run").mkdir()
    return run


def test_the_shell_reads_it_and_slurm_finds_its_options_first():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    lines = SCRIPT.read_text().splitlines()
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options
    # Slurm stops reading options at the first line that is neither empty nor a comment.
    assert all(not line or line.startswith("#") for line in lines[: options[-1]])


def test_one_node_trains_selects_and_evaluates(slurm, tmp_path):
    run = tmp_path / "run"
    code, calls = slurm(f"sbatch {SCRIPT} {RECIPE} {run} --learning_rate 1e-5")
    assert code == 0
    train, *rest = calls
    text = shlex.join(train["words"])
    assert train["words"][0] == "launch"
    assert "--config_file recipes/accelerate/zero3.yaml --num_machines 1 --num_processes 8" in text
    assert f"recipes/cft.py --config {RECIPE} --output_dir {run} --learning_rate 1e-5" in text
    assert [shlex.join(call["words"]) for call in rest] == [
        f"select {run} --benchmark math-validation",
        f"eval {run}/best --tasks six --output {run}/evaluation",
        f"report {run}/evaluation --output {run}/report",
    ]


def test_two_nodes_are_launched_with_their_ranks_and_meet_at_the_first(slurm, tmp_path):
    code, calls = slurm(f"sbatch --nodes 2 {SCRIPT} {RECIPE} {tmp_path / 'run'}")
    assert code == 0
    launches = [call for call in calls if call["command"] == "accelerate"]
    assert [call["node"] for call in launches] == ["0", "1"]
    for call in launches:
        text = shlex.join(call["words"])
        assert f"--machine_rank {call['node']} " in text
        assert "zero3_multinode.yaml --num_machines 2 --num_processes 16 --main_process_ip node-a" in text
    ports = {shlex.join(call["words"]).split("--main_process_port ")[1].split()[0] for call in launches}
    assert ports == {"20077"}
    assert sum(call["command"] == "cft" for call in calls) == 3  # not once for each node


def test_launch_flags_are_accelerates(slurm, tmp_path):
    from accelerate.commands.launch import launch_command_parser

    _, calls = slurm(f"sbatch --nodes 2 {SCRIPT} {RECIPE} {tmp_path / 'run'}")
    options = launch_command_parser().parse_args(calls[1]["words"][1:])
    assert (options.machine_rank, options.num_machines, options.num_processes) == (1, 2, 16)
    assert options.training_script == "recipes/cft.py"


def test_a_stage_that_is_done_is_not_done_again(slurm, tmp_path):
    words = f"sbatch {SCRIPT} {RECIPE} {tmp_path / 'run'}"
    assert slurm(words, FAILS="cft")[0] == 1
    code, calls = slurm(words)
    assert code == 0
    assert {call["command"] for call in calls} == {"cft"}


def test_failed_training_stops_the_job_and_is_tried_again(slurm, tmp_path):
    words = f"sbatch {SCRIPT} {RECIPE} {tmp_path / 'run'}"
    code, calls = slurm(words, FAILS="accelerate")
    assert (code, len(calls)) == (1, 1)
    assert [call["command"] for call in slurm(words)[1]] == ["accelerate", "cft", "cft", "cft"]


def test_the_environment_changes_what_it_says(slurm, tmp_path):
    run = tmp_path / "run"
    _, calls = slurm(
        f"bash {SCRIPT} {RECIPE} {run}", LAUNCHER="recipes/accelerate/fsdp2.yaml", PROCESSES="4",
        SELECT="arithmetic-critic", TASKS="gsm8k:5", SELECT_FLAGS="--limit 3", EVAL_FLAGS="--backend vllm",
    )  # fmt: skip
    words = [shlex.join(call["words"]) for call in calls]
    assert "fsdp2.yaml --num_machines 1 --num_processes 4" in words[0]
    assert words[1].endswith("--benchmark arithmetic-critic --limit 3")
    assert words[2].endswith(f"--tasks gsm8k:5 --output {run}/evaluation --backend vllm")


def test_called_without_a_recipe_it_says_how(slurm):
    assert slurm(f"sbatch {SCRIPT}") == (2, [])


# --- hf jobs ---

BLOCKS = re.findall(r"^```\n(.*?)^```", (REPOSITORY / "recipes/README.md").read_text(), re.MULTILINE | re.DOTALL)
JOBS = [
    command for block in BLOCKS for command in re.split(r"^(?=hf )", block, flags=re.MULTILINE) if command[:3] == "hf "
]


@pytest.mark.parametrize("command", JOBS, ids=range(len(JOBS)))
def test_hf_jobs_commands_are_understood(command, tmp_path):
    """`--dry-run` reads a command as a submission would, and submits nothing."""
    words = shlex.split(command.replace("\\\n", " "))
    if words[2] in ("logs", "wait", "hardware"):
        done = subprocess.run([Path(sys.executable).with_name("hf"), *words[1:3], "--help"], capture_output=True)
        assert done.returncode == 0
        return
    position = words.index("run") + 1
    words = [*words[:position], "--dry-run", *words[position:]]
    hf = Path(sys.executable).with_name("hf")
    done = subprocess.run([hf, *words[1:]], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert "not submitted" in done.stdout + done.stderr


def test_there_are_hf_jobs_commands():
    assert any("--flavor h200x8" in command for command in JOBS)


@pytest.mark.slow
def test_the_whole_chain_without_slurm(shared_data, tokenizers, tmp_path):
    """A tiny model is trained, its checkpoints scored on held-out critiques, the best one evaluated."""
    tokenizer = tokenizers("chatml")
    make_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"model_name_or_path: {tmp_path / 'model'}\ndataset_name: arithmetic\ndataset_limit: 64\nuse_cpu: true\n"
        "bf16: false\nmax_steps: 4\nsave_steps: 2\nlearning_rate: 1.0e-3\nreport_to: none\nprompt_preset: compact\n"
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LAUNCHER": "recipes/accelerate/cpu_ddp.yaml",
        "PROCESSES": "2",
        "SELECT": "arithmetic-critic",
        "SELECT_FLAGS": "--limit 4 --max-new-tokens 8",
        "TASKS": "gsm8k:2",
        "EVAL_FLAGS": "--max-new-tokens 8 --dtype float32",
        "CFT_BENCHMARKS_DIR": str(shared_data / "benchmarks"),
        "OMP_NUM_THREADS": "1",
    }
    run = tmp_path / "run"
    done = subprocess.run(
        ["bash", SCRIPT, recipe, run], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert (run / "best" / "model.safetensors").is_file()
    assert {point["step"] for point in json.loads((run / "selection.json").read_text())["curve"]} == {2, 4}
    assert (run / "evaluation" / "evaluation.json").is_file()
    assert (run / "report" / "report.html").is_file()
