"""A checkpoint goes on under the launch it was written by, or where a step has the same rows; else it is refused."""

from __future__ import annotations

import json

import pytest
from test_runs import begun, edit, home, train_words  # noqa: F401 - fixtures among them

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.training.launched import check_launch_goes_on, launch_of, why_not

ALONE = {"kind": "one process", "processes": 1}


def launch(kind, processes):
    return {"kind": kind, "processes": processes}


def settings(rows, micro, **more):
    return {"per_device_train_batch_size": rows, "gradient_accumulation_steps": micro, **more}


@pytest.mark.parametrize(
    ("was", "is_now", "before", "now"),
    [
        (ALONE, ALONE, (4, 1), (4, 1)),
        (ALONE, ALONE, (4, 1), (2, 2)),
        (ALONE, launch("DDP", 2), (4, 1), (1, 2)),
        (launch("DDP", 8), launch("DDP", 4), (8, 8), (8, 16)),
        (launch("DDP", 4), ALONE, (2, 1), (8, 1)),
        (launch("ZeRO-3", 8), launch("ZeRO-3", 8), (8, 8), (8, 8)),
    ],
)
def test_the_same_rows_a_step_go_on(was, is_now, before, now):
    assert why_not(was, is_now, settings(*before), settings(*now)) is None


@pytest.mark.parametrize(
    ("was", "is_now", "before", "now", "told"),
    [
        (ALONE, launch("DDP", 2), (4, 1), (4, 1),
         "was written with 4 rows a step (4 x 1 x 1), here are 8 (4 x 1 x 2); set per_device_train_batch_size=2"),
        (launch("DDP", 8), launch("DDP", 4), (8, 8), (8, 8), "set gradient_accumulation_steps=16"),
        (launch("DDP", 2), ALONE, (3, 1), (4, 2), "set per_device_train_batch_size=3"),
        (launch("DDP", 3), launch("DDP", 2), (1, 1), (1, 1), "3 rows cannot be dealt out to 2 processes; launch"),
        (launch("ZeRO-2", 2), ALONE, (2, 1), (4, 1),
         "was written by ZeRO-2 in 2 processes, here is one process alone; launch it as it was begun "
         "(accelerate launch --config_file recipes/accelerate/zero2.yaml --num_processes 2)"),
        (launch("ZeRO-2", 2), launch("ZeRO-3", 2), (2, 1), (2, 1), "here is ZeRO-3 in 2 processes"),
        (launch("ZeRO-3", 8), launch("ZeRO-3", 4), (8, 8), (8, 16), "here is ZeRO-3 in 4 processes"),
        (launch("DDP", 2), launch("ZeRO-2", 2), (2, 1), (2, 1), "was written by DDP in 2 processes, here is ZeRO-2"),
        (launch("FSDP2", 2), launch("DDP", 2), (2, 1), (2, 1), "--config_file recipes/accelerate/fsdp2.yaml"),
        (ALONE, launch("FSDP2", 2), (4, 1), (2, 1), "launch it as it was begun (without a launcher)"),
        (launch("ZeRO-2", 2), launch("ZeRO-2", 2), (2, 1), (1, 2), "set per_device_train_batch_size=2 and grad"),
    ],
)  # fmt: skip
def test_what_would_not_be_exact_is_refused_with_what_would_be_right(was, is_now, before, now, told):
    assert told in why_not(was, is_now, settings(*before), settings(*now))


@pytest.mark.parametrize(
    "more",
    [
        {"train_sampling_strategy": "group_by_length"},
        {"train_sampling_strategy": "batch_rebalance"},
        {"dataloader_drop_last": True},
        {"accelerator_config": {"split_batches": True}},
    ],
)
def test_where_the_rows_of_a_step_hang_on_the_processes_nothing_else_goes_on(more):
    before, now = settings(4, 1, **more), settings(1, 2, **more)

    assert why_not(ALONE, launch("DDP", 2), before, now)
    assert why_not(ALONE, ALONE, before, before) is None


def files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_checkpoints_files_say_what_wrote_it(tmp_path):
    """As transformers 5.23, accelerate 1.15 and DeepSpeed 0.19.8 name them."""
    two = ("rng_state_0.pth", "rng_state_1.pth")
    assert launch_of(files(tmp_path / "weights", "model.safetensors")) is None
    assert launch_of(files(tmp_path / "alone", "optimizer.pt", "rng_state.pth")) == ALONE
    assert launch_of(files(tmp_path / "ddp", "optimizer.pt", *two)) == launch("DDP", 2)
    shard = "global_step2/"
    zero2 = (shard + "mp_rank_00_model_states.pt", shard + "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert launch_of(files(tmp_path / "zero2", *two, *zero2)) == launch("ZeRO-2", 2)
    zero3 = (shard + "zero_pp_rank_0_mp_rank_00_model_states.pt", zero2[1])
    assert launch_of(files(tmp_path / "zero3", *two, *zero3)) == launch("ZeRO-3", 2)
    assert launch_of(files(tmp_path / "fsdp", *two, "optimizer.bin")) == launch("FSDP2", 2)
    with pytest.raises(CFTError, match="was written by ZeRO-3 in 2 processes, here is one process alone"):
        check_launch_goes_on(tmp_path / "zero3", None, {"launch": ALONE})
    check_launch_goes_on(tmp_path / "ddp", None, {"launch": ALONE})  # nobody knows its rows a step
    check_launch_goes_on(tmp_path / "weights", None, {"launch": ALONE})


def test_a_run_says_in_its_settings_how_it_was_launched(home):  # noqa: F811
    assert json.loads((home / "run" / "settings.json").read_text())["launch"] == ALONE
    assert launch_of(home / "run" / "checkpoint-1") == ALONE


def test_one_line_and_exit_code_2(home, capsys):  # noqa: F811
    before = (home / "run" / "settings.json").read_text()
    edit(home / "run" / "settings.json", lambda told: told.update(launch=launch("ZeRO-2", 2)))
    assert main(train_words()) == 2
    assert "checkpoint-2' was written by ZeRO-2 in 2 processes, here is one process alone" in capsys.readouterr().err
    # Of a run before launches were written down the files tell.
    edit(home / "run" / "settings.json", lambda told: told.pop("launch"))
    files(home / "run" / "checkpoint-2", "global_step2/mp_rank_00_model_states.pt")
    assert main(train_words()) == 2
    assert "here is one process alone" in capsys.readouterr().err
    (home / "run" / "settings.json").write_text(before)
    assert main(train_words("--per_device_train_batch_size", "3")) == 2
    err = capsys.readouterr().err
    assert "was written with 1 rows a step (1 x 1 x 1), here are 3 (3 x 1 x 1); set per_device_train_b" in err
    assert err.count("\n") == 1


def test_elsewhere_too_a_checkpoint_is_looked_at(home, capsys):  # noqa: F811
    files(home / "run" / "checkpoint-1", "global_step1/zero_pp_rank_0_mp_rank_00_model_states.pt")
    words = train_words("--output_dir", "other", "--resume_from_checkpoint", "run/checkpoint-1")
    assert main(words) == 2
    assert "was written by ZeRO-3 in 1 process, here is one process alone" in capsys.readouterr().err
