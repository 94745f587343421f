"""Two processes end alike, with one line from one of them, and do not outlive their launcher."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from test_distributed import finish, launch_words, output_of, start, tiny, two  # noqa: F401 - a fixture among them

from cft_trl.training.checkpoints import newest_whole

PROCESS = """
import os, torch
from accelerate import Accelerator
from types import SimpleNamespace
from cft_trl.errors import CFTError
from cft_trl.training.finite import FiniteWatch

accelerator = Accelerator(cpu=True)
args = SimpleNamespace(output_dir=os.environ["FOLDER"], learning_rate=1e-3, fp16=False)
trainer = SimpleNamespace(accelerator=accelerator, args=args, state=SimpleNamespace(global_step=6))
watch, second = FiniteWatch(), accelerator.process_index == 1
watch.add(torch.tensor(1.0))
watch.check_step(trainer, 1.0)
watch.add(torch.tensor(float("nan") if second else 1.0))
model = torch.nn.Linear(2, 2)
for look in (lambda: watch.check_step(trainer, 1.0), lambda: watch.check_weights(trainer, model)):
    try:
        look()
        print("sound")
    except CFTError as error:
        print(str(error).partition(";")[0])
    model.weight.data.fill_(float("inf") if second else 1.0)
"""


@pytest.mark.slow
def test_what_one_process_sees_ends_all(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, text=True,
                         env={**os.environ, **world, "RANK": str(i), "LOCAL_RANK": str(i), "FOLDER": str(tmp_path)})
        for i in range(2)
    ]  # fmt: skip
    first, second = (process.communicate(timeout=240)[0].splitlines()[-2:] for process in processes)
    assert first == [
        "step 7: the loss is not finite in another process",
        "step 6: a weight is not finite in another process",
    ]
    assert second == ["step 7: the loss is nan", "step 6: a weight is inf"]


@pytest.mark.slow
def test_a_loss_that_is_nan_is_one_line_from_one_process(tiny, tmp_path):  # noqa: F811
    settings = {"learning_rate": 1e30, "save_steps": 1, "gradient_accumulation_steps": 2,
                "per_device_train_batch_size": 1, "eval_rows": 0}  # fmt: skip
    words = launch_words(two("cpu_ddp"), tmp_path, tiny, settings, witnessed=False)
    assert finish(start(words, tmp_path)) == 1  # the launcher's
    output = output_of(tmp_path)
    [line] = [line for line in output.splitlines() if line.startswith("cft:")]
    assert "training ended there and no model was written" in line
    assert "(process 1)" not in output
    assert "exitcode  : 2" in output
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.slow
def test_workers_end_with_a_killed_launcher_and_the_run_goes_on(tiny, tmp_path):  # noqa: F811
    settings = {"max_steps": 400, "save_steps": 5, "save_total_limit": 2, "eval_rows": 0,
                "per_device_train_batch_size": 1, "logging_steps": 100}  # fmt: skip
    words = launch_words(two("cpu_ddp"), tmp_path, tiny, settings, witnessed=False)
    launched = start(words, tmp_path)
    deadline = time.monotonic() + 300
    while newest_whole(tmp_path / "run")[0] is None and time.monotonic() < deadline:
        assert launched.poll() is None, output_of(tmp_path)
        time.sleep(0.1)
    workers = psutil.Process(launched.pid).children()
    assert len(workers) == 2
    launched.send_signal(signal.SIGKILL)
    launched.wait()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])
    checkpoint, damaged = newest_whole(tmp_path / "run")
    assert checkpoint
    assert damaged == []
    again = launch_words(two("cpu_ddp"), tmp_path, tiny, settings, witnessed=False)
    second = start(again, tmp_path)
    while f"going on from {checkpoint}" not in (said := output_of(tmp_path)) and time.monotonic() < deadline:
        assert second.poll() is None, said
        time.sleep(0.1)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
