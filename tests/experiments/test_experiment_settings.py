"""An experiment's file: what is read from it, and what a mistake in it is told as."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_experiment import toy

from cft_trl.errors import CFTError
from cft_trl.experiments.settings import Arm, Experiment, read_experiment


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": [0, 1]}, r"experiment.seeds=\[0, 1\]: give at least 3, each once"),
        ({"seeds": [0, 1, 1]}, r"experiment.seeds=\[0, 1, 1\]: give at least 3, each once"),
        ({"learning_rates": [1e-3, 1e-3, 1e-2]}, "learning_rates=.*: give three different ones"),
        ({"baseline": "bse"}, r"experiment.baseline='bse': no arm of that name \(did you mean 'base'\?\)"),
        (
            {"arms": {"base": {"train": "nothing"}, "x": {"train": "ctf"}}},
            r"arms.x.train='ctf': unknown \(did you mean 'cft'",
        ),
        ({"arms": {"base": {}, "x": {"wrogn": 0.5}}}, r"section arms.x: unknown key 'wrogn' \(did you mean 'wrong'"),
        (
            {"arms": {"base": {}, "x": {"noise": 0.6, "noise_kind": "missed error"}}},
            "arms.x.noise=0.6: only 0.5 of the",
        ),
        ({"arms": {"base": {}, "a/b": {}}}, "arm 'a/b': give small letters"),
        (
            {"world": {"levels": [1], "unseen": ["bus_stap"]}},
            r"world.unseen='bus_stap': no template .*did you mean 'bus_stop'",
        ),
        ({"cpu": {"row": 3}}, r"section cpu: unknown key 'row' \(did you mean 'rows'"),
        ({"cpu": {"rows": 0}}, "cpu.rows=0: give a whole number from 1"),
        ({"cpu": {"batch": 8, "micro_batch": 3}}, "cpu.micro_batch=3: give a number that divides batch=8"),
        ({"question": None}, "question is missing"),
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line(tmp_path, changes, told):
    with pytest.raises(CFTError, match=told) as raised:
        toy(tmp_path, **changes)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "toy.yaml"))


@pytest.mark.parametrize("path", sorted(Path("recipes/experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_are_read(path):
    experiment = read_experiment(path)
    assert experiment.name == path.stem


def test_the_section_gpu_is_of_a_gpu(tmp_path):
    for at, given in enumerate(({}, {"gpu": None}, {"gpu": {"rows": 6}})):
        experiment = toy(tmp_path / str(at), **given)
        assert (experiment.cpu.device, experiment.gpu.device) == ("cpu", "gpu")
    assert toy(tmp_path, gpu={"device": "cpu"}).gpu.device == "cpu"
    arms = {"base": Arm(train="nothing"), "cft": Arm()}
    assert Experiment("mine", "Why?", "base", arms).gpu.device == "gpu"
