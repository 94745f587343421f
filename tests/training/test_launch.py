"""Launches that would train something else than was asked for are refused, by what accelerate really sets up.

environment(["--num_processes", "2", "--cpu"])     what `accelerate launch` gives the script: no WORLD_SIZE, …
set_up(use_cpu=True)                               what the Trainer's arguments make of it, without any process
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate.commands import launch as accelerate_launch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from conftest import REPOSITORY

from cft_trl import CFTConfig, CFTError
from cft_trl.training.launch import check_launch

LAUNCHERS = REPOSITORY / "recipes" / "accelerate"
ENDED_BY_TEARDOWN = 70
LAUNCHER_VARIABLES = ("ACCELERATE_", "MASTER_", "FSDP_", "OMPI_", "PMI_", "MV2_", "TORCHELASTIC_")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No launcher in the environment, no GPU, no settings of the user's own; all as before afterwards."""
    names = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "KMP_AFFINITY", "KMP_BLOCKTIME"}
    names |= {name for name in os.environ if name.startswith(LAUNCHER_VARIABLES)}
    before = dict(os.environ)
    for name in names:
        os.environ.pop(name, None)
    monkeypatch.setattr(accelerate_launch, "default_config_file", str(tmp_path / "none.yaml"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    yield
    os.environ.clear()
    os.environ.update(before)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def environment(monkeypatch):
    """`environment(words)` puts in force what `accelerate launch WORDS script.py` would give its first process."""

    def give(words):
        given = {}

        def simple(args):
            given.update(accelerate_launch.prepare_simple_launcher_cmd_env(args)[1])

        def torchrun(prepare):
            def run(args):
                made = prepare(args)
                given.update(made[1] if isinstance(made, tuple) else made)
                count = str(args.num_processes)
                given.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE=count, MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")

            return run

        monkeypatch.setattr(accelerate_launch, "simple_launcher", simple)
        multi, deepspeed = accelerate_launch.prepare_multi_gpu_env, accelerate_launch.prepare_deepspeed_cmd_env
        monkeypatch.setattr(accelerate_launch, "multi_gpu_launcher", torchrun(multi))
        monkeypatch.setattr(accelerate_launch, "deepspeed_launcher", torchrun(deepspeed))
        parser = accelerate_launch.launch_command_parser()
        accelerate_launch.launch_command(parser.parse_args([*map(str, words), "script.py"]))
        os.environ.update(given)

    return give


@pytest.fixture
def set_up(monkeypatch, tmp_path):
    """`set_up(**settings)` -> a real CFTConfig; the process group is only pretended."""
    pretended = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *args, **kwargs: pretended.append(kwargs))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *args: int(os.environ["WORLD_SIZE"]))
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *args: int(os.environ["RANK"]))

    def make(**settings):
        return CFTConfig(str(tmp_path / "out"), report_to="none", bf16=False, **settings)

    return make


def pretend(kind: DistributedType, processes: int, **fields):
    """Stands for the arguments of a Trainer on a machine that is not here."""
    state = SimpleNamespace(distributed_type=kind, num_processes=processes)
    return SimpleNamespace(**{"distributed_state": state, "deepspeed_plugin": None, "fsdp": None, **fields})


def launcher(name: str) -> list:
    return ["--config_file", LAUNCHERS / f"{name}.yaml"]


@pytest.mark.parametrize(
    "words",
    [
        ["--num_processes", "2", "--cpu"],
        ["--num_processes", "2"],
        [*launcher("cpu_zero2"), "--cpu"],
        [*launcher("single_gpu"), "--num_processes", "2"],
        [
            "--num_machines",
            "2",
            "--num_processes",
            "2",
            "--main_process_ip",
            "10.0.0.1",
            "--main_process_port",
            "29500",
        ],
    ],
    ids=["--cpu", "no --multi_gpu", "--cpu with a file", "type NO", "two nodes without --multi_gpu"],
)
@pytest.mark.parametrize("use_cpu", [True, False])
def test_one_process_in_place_of_several(environment, set_up, words, use_cpu):
    environment(words)
    with pytest.raises(CFTError, match=r"asked for several processes and started one .* If one is right, unset"):
        check_launch(set_up(use_cpu=use_cpu))


def test_a_file_of_type_multi_cpu_starts_one_process(environment, set_up, tmp_path):
    settings = yaml.safe_load((LAUNCHERS / "cpu_ddp.yaml").read_text()) | {"distributed_type": "MULTI_CPU"}
    (tmp_path / "multi_cpu.yaml").write_text(yaml.safe_dump(settings))
    environment(["--config_file", tmp_path / "multi_cpu.yaml"])
    with pytest.raises(CFTError, match="asked for several processes and started one"):
        check_launch(set_up(use_cpu=True))


def test_ddp_without_use_cpu_makes_independent_copies(environment, set_up):
    environment(launcher("cpu_ddp"))
    args = set_up()
    assert args.world_size == 1
    with pytest.raises(CFTError, match=r"started 2 processes but each would train its own copy; .* set use_cpu=true"):
        check_launch(args)


def test_ddp_with_only_gloo_connects_no_gradients(environment, set_up):
    environment(launcher("cpu_ddp"))
    args = set_up(ddp_backend="gloo")
    assert args.world_size == 2
    with pytest.raises(CFTError, match="2 processes were started but nothing connects their gradients"):
        check_launch(args)


def test_copies_started_by_mpi(set_up):
    os.environ.update(OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    with pytest.raises(CFTError, match="started 2 processes but each would train its own copy"):
        check_launch(set_up())


@pytest.mark.parametrize("name", ["cpu_zero2", "cpu_zero3"])
def test_accelerates_cpu_variable_turns_deepspeed_off(environment, name):
    environment(launcher(name))
    args = pretend(DistributedType.MULTI_CPU, 2, deepspeed_plugin=object())
    check_launch(args)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    with pytest.raises(
        CFTError, match="DeepSpeed was asked for but ACCELERATE_USE_CPU in the environment turns it off"
    ):
        check_launch(args)


def test_deepspeed_without_use_cpu_makes_independent_copies(environment):
    environment(launcher("cpu_zero2"))
    with pytest.raises(CFTError, match="started 2 processes but each would train its own copy"):
        check_launch(pretend(DistributedType.DEEPSPEED, 1, deepspeed_plugin=object()))


@pytest.mark.parametrize("variable", [True, False])
def test_fsdp_on_a_cpu_would_be_ddp(environment, set_up, variable):
    environment([*launcher("fsdp2"), "--num_processes", "2", "--mixed_precision", "no"])
    if variable:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    args = set_up(use_cpu=not variable)
    assert args.world_size == 2
    with pytest.raises(CFTError, match="FSDP was asked for but training would run as MULTI_CPU"):
        check_launch(args)


def test_fsdp_of_the_settings_is_looked_at_too(set_up):
    with pytest.raises(CFTError, match="FSDP was asked for but training would run as NO"):
        check_launch(set_up(use_cpu=True, fsdp=True))


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (["--num_processes", "1"], pretend(DistributedType.NO, 1)),
        (["--num_processes", "1", "--cpu"], pretend(DistributedType.NO, 1)),
        (launcher("single_gpu"), pretend(DistributedType.NO, 1)),
        (launcher("multi_gpu"), pretend(DistributedType.MULTI_GPU, 8)),
        (launcher("zero2"), pretend(DistributedType.DEEPSPEED, 8, deepspeed_plugin=object())),
        (launcher("zero3"), pretend(DistributedType.DEEPSPEED, 8, deepspeed_plugin=object())),
        (launcher("fsdp2"), pretend(DistributedType.MULTI_GPU, 8)),  # becomes FSDP once the Accelerator is made
        (launcher("fsdp2"), pretend(DistributedType.FSDP, 8)),
        ([*launcher("fsdp2_multinode"), "--main_process_ip", "127.0.0.1"], pretend(DistributedType.MULTI_GPU, 16)),
    ],
    ids=lambda value: "" if not isinstance(value, list) else getattr(value[-1], "stem", str(value[-1])),
)
def test_proper_launches_pass(environment, words, args):
    environment(words)
    check_launch(args)


def test_two_cpu_processes_pass(environment, set_up):
    environment(launcher("cpu_ddp"))
    args = set_up(use_cpu=True)
    assert (args.world_size, args.distributed_state.distributed_type) == (2, DistributedType.MULTI_CPU)
    check_launch(args)


def test_accelerates_cpu_variable_is_as_good_as_use_cpu_under_ddp(environment, set_up):
    environment(launcher("cpu_ddp"))
    os.environ["ACCELERATE_USE_CPU"] = "true"
    check_launch(set_up())


def test_no_launcher_passes(set_up):
    check_launch(set_up(use_cpu=True))
    os.environ.update(MASTER_ADDR="10.0.0.1", MASTER_PORT="29500")  # left over from some other job
    check_launch(set_up(use_cpu=True))


def test_the_recipe_ends_with_2_in_one_line(environment, tmp_path):
    """The script itself refuses, before it looks for the model."""
    environment(["--num_processes", "2", "--cpu"])
    flags = ["--model_name_or_path", tmp_path / "none", "--dataset_name", "arithmetic", "--dataset_limit", "4",
             "--output_dir", tmp_path / "out", "--use_cpu", "true", "--bf16", "false"]  # fmt: skip
    run = subprocess.run(
        [sys.executable, "recipes/cft.py", *map(str, flags)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.splitlines()[-1].startswith("cft: accelerate was asked for several processes and started one")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("processes", "ending", "code", "said"),
    [
        ("2", "return 0", 0, ""),
        ("2", "return 2", 2, ""),
        ("2", "raise RuntimeError('a defect')", ENDED_BY_TEARDOWN, "a defect"),
        ("1", "return 0", ENDED_BY_TEARDOWN, ""),
    ],
)
def test_what_python_tears_down_last_changes_no_exit_code(processes, ending, code, said):
    """As a thread of gloo does now and then; what others want to do at the exit and what was printed stays."""
    script = f"""
import atexit, os
from cft_trl import cli

class EndsTheProcess:
    def __del__(self, leave=os._exit):
        leave({ENDED_BY_TEARDOWN})

def trains(argv):
    atexit.register(print, "uploaded")
    print("trained")
    {ending}

kept_to_the_end, cli.main = EndsTheProcess(), trains
cli.entry()
"""
    run = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "WORLD_SIZE": processes},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == code
    assert said in run.stderr
    assert run.stdout.split() == ["trained", "uploaded"]


LAUNCHER = """
import os, subprocess, sys
environment = {**os.environ, **({"TORCHELASTIC_RUN_ID": "none"} if "elastic" in sys.argv else {})}
worker = "import time; from cft_trl.training.launch import end_with_launcher as end; end(0.05); "
worker += "print('on', flush=True); time.sleep(120)"
subprocess.run([sys.executable, "-c", worker], env=environment)
"""


@pytest.mark.parametrize(("words", "ends"), [(["elastic"], True), (["accelerate.commands.launch"], True), ([], False)])
def test_a_worker_ends_with_its_launcher_and_not_with_a_shell(words, ends):
    """`kill -9` of the launcher; the worker is a child of it and holds the pipe open while it lives."""
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, *words], cwd=REPOSITORY, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, start_new_session=True, text=True)  # fmt: skip
    try:
        assert launcher.stdout.readline() == "on\n"
        launcher.kill()
        launcher.wait()
        ready, _, _ = select.select([launcher.stdout], [], [], 60 if ends else 1)
        assert bool(ready) is ends
        if ends:
            assert launcher.stdout.read() == ""
            assert launcher.stderr.read() == "cft: the launcher is gone; its processes end\n"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)


def test_a_worker_whose_launcher_was_killed_while_it_started_ends_at_once():
    """It is then the child of a process of the system: here of a shell, in the place of process 1."""
    worker = "import time; from cft_trl.training.launch import end_with_launcher as end; end(0.05); time.sleep(120)"
    shell = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1"; echo "code $?"', sys.executable, worker], cwd=REPOSITORY,
        env={**os.environ, "TORCHELASTIC_RUN_ID": "none"}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert shell.stderr == "cft: the launcher is gone; its processes end\n"
    assert shell.stdout == "code 1\n"


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_a_stop_is_told_by_one_process(rank, lines, monkeypatch, capsys):
    from cft_trl import cli

    def stopped(argv):
        raise KeyboardInterrupt

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(cli, "_run", stopped)
    assert cli.main([]) == 130
    assert capsys.readouterr().err.count("cft: stopped") == lines


@pytest.mark.parametrize(("rank", "told"), [("0", 1), ("1", 0)])
def test_a_warning_is_told_once_by_one_process(rank, told):
    script = """
import logging, sys, warnings
from cft_trl import cli

def trains(argv):
    import torch
    from deepspeed.utils import logger
    for count in range(3):
        logger.warning(f"gradients {count}")
        warnings.warn("old name", FutureWarning)
        warnings.filterwarnings("default", message=f"another {count}")
    logger.error("an error")
    return 0

cli.main = trains
cli.entry([])
"""
    pytest.importorskip("deepspeed")
    run = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "WORLD_SIZE": "2", "RANK": rank},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    assert (said.count("gradients"), said.count("FutureWarning"), said.count("an error")) == (told, told, 1)
