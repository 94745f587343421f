"""The files under recipes/ as files: they parse, hold what was published, and no launcher key is a typo.

A recipe of two lines, and what is looked at:

    learning_rate: 5.0e-6     a number (YAML reads 5e-6, without the dot, as text), and the published one
    eval_strategy: "no"       text (without the quotes YAML reads it as false)
"""

import re
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ACCELERATE = sorted((RECIPES / "accelerate").glob("*.yaml"))
OTHERS = ("accelerate", "experiments", "trl")  # of launchers, of `cft experiment`, of TRL's own trainers
RUNS = sorted(path for path in RECIPES.glob("*/*.yaml") if path.parent.name not in OTHERS)

GPUS = 8  # every published run is written for eight
LOCAL = "smollm2-135m"  # reproduces nothing

REQUIRED = {
    "model_name_or_path", "dtype", "dataset_name", "objective", "prompt_preset", "max_length", "over_length",
    "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "per_device_train_batch_size",
    "gradient_accumulation_steps", "gradient_checkpointing", "seed", "output_dir", "save_strategy", "eval_strategy",
}  # fmt: skip

# Published values, arXiv 2501.17703, 2506.03295 and 2505.11628. `batch` is the global batch; no entry: not published.
CFT_7B = {
    "bf16": True, "learning_rate": 5e-6, "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "batch": 512,
    "num_train_epochs": 1, "max_length": 2048, "save_strategy": "steps", "save_steps": 2, "prompt_preset": "paper",
    "objective": "cft", "dataset_name": "TIGER-Lab/WebInstruct-CFT", "dataset_config": "WebInstruct-CFT-50K",
    "over_length": "shorten_response",
}  # fmt: skip
SFT_7B = CFT_7B | {"objective": "sft", "sft_target": "response", "over_length": "drop"}
PUBLISHED = {
    "qwen2.5-math-7b/cft": CFT_7B | {"model_name_or_path": "Qwen/Qwen2.5-Math-7B"},
    "qwen2.5-math-7b/sft": SFT_7B | {"model_name_or_path": "Qwen/Qwen2.5-Math-7B"},
    "qwen2.5-math-7b/sft-verified": SFT_7B | {"sft_target": "right_only"},
    "qwen2.5-math-7b/one-shot": {
        "bf16": True,
        "learning_rate": 5e-6,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "batch": 512,
        "num_train_epochs": 50,
        "over_length": "drop",
        "save_strategy": "epoch",
        "prompt_preset": "paper",
        "objective": "cft",
        "dataset_name": "TIGER-Lab/One-Shot-CFT-Data",
        "dataset_train_split": "dsr_cft_p0",
    },
    "qwen2.5-math-7b/cgd": {"objective": "cgd", "learning_rate": 1e-6, "batch": 64, "num_train_epochs": 1},
    "qwen2.5-7b/cft": CFT_7B | {"model_name_or_path": "Qwen/Qwen2.5-7B"},
    "deepseek-math-7b/cft": CFT_7B | {"model_name_or_path": "deepseek-ai/deepseek-math-7b-base"},
    "qwen2.5-32b-instruct/cft-4k": CFT_7B
    | {"model_name_or_path": "Qwen/Qwen2.5-32B-Instruct", "dataset_config": "WebInstruct-CFT-4K"},
}


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys and says nothing."""


def _unique_mapping(loader, node, deep=False):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"key given twice among {keys}"
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_UniqueKeys.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def read(path: Path) -> dict:
    settings = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    assert isinstance(settings, dict)
    return settings


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_every_published_run_has_a_recipe_and_the_reverse():
    assert {label(path) for path in RUNS if path.parent.name != LOCAL} == set(PUBLISHED)
    local = {"cft", "cgd", "sft", "mixture", "code-review", "rubric"}
    assert {path.stem for path in RUNS if path.parent.name == LOCAL} == local


@pytest.mark.parametrize("path", RUNS, ids=label)
class TestRun:
    def test_has_the_required_fields_with_sane_types(self, path):
        settings = read(path)
        given = set(settings) | ({"dataset_name"} if "datasets" in settings else set())
        assert not REQUIRED - given
        numbers = ("learning_rate", "warmup_steps", "num_train_epochs", "max_length", "weight_decay")
        assert all(isinstance(settings[name], int | float) for name in numbers)
        assert {type(settings[name]) for name in ("save_strategy", "eval_strategy", "report_to")} == {str}
        assert settings["objective"] in ("cft", "cgd", "sft")
        assert ("sft_target" in settings) == (settings["objective"] == "sft")

    def test_names_its_own_output_folder(self, path):
        assert read(path)["output_dir"] == f"runs/{path.parent.name}-{path.stem}"

    def test_does_not_promise_to_resume_without_optimizer_states(self, path):
        settings = read(path)
        assert settings.get("save_only_model", False) != settings.get("resume", True)

    def test_opens_with_its_launch_command(self, path):
        head = path.read_text(encoding="utf-8").split("\n\n")[0]
        assert all(line.startswith("#") for line in head.splitlines())
        head = re.sub(r"\\\n# +", "", head)
        assert f"--config recipes/{path.relative_to(RECIPES)}" in head
        assert all((RECIPES.parent / name).is_file() for name in re.findall(r"recipes/\S+\.yaml", head))
        assert "by us" in head or "is ours" in head

    def test_is_in_the_tables(self, path):
        assert path.stem in (path.parent / "README.md").read_text(encoding="utf-8")
        assert path.parent.name in (RECIPES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("run", sorted(PUBLISHED))
def test_holds_the_published_values(run):
    settings = read(RECIPES / f"{run}.yaml")
    settings["batch"] = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"] * GPUS
    assert {name: settings.get(name) for name in PUBLISHED[run]} == PUBLISHED[run]


def test_the_mixture_is_the_cft_run_with_a_fifth_of_solutions():
    mixture, cft = (read(RECIPES / LOCAL / f"{name}.yaml") for name in ("mixture", "cft"))
    parts = mixture.pop("datasets")
    assert [part["weight"] for part in parts] == [0.8, 0.2]
    assert parts[0]["limit"] * 0.2 == parts[1]["limit"] * 0.8, "every row of both is drawn"
    assert (parts[0]["limit"], parts[0]["eval_rows"]) == (cft.pop("dataset_limit"), cft.pop("eval_rows"))
    for settings in (mixture, cft):
        settings.pop("output_dir")
    assert mixture == {name: value for name, value in cft.items() if name != "dataset_name"}


def test_smollm2_runs_share_all_but_the_target():
    runs = [read(RECIPES / LOCAL / f"{name}.yaml") for name in ("cft", "cgd", "sft")]
    for settings in runs:
        assert settings["use_cpu"] is True
        assert settings["dataset_name"] == "arithmetic"
        for name in ("objective", "sft_target", "over_length", "output_dir", "generated_rows"):
            settings.pop(name, None)
    assert runs[0] == runs[1] == runs[2]


# --- launchers ---


def _launcher_keys(group: str) -> set[str]:
    """Names `accelerate launch` knows in one group of its options; the config file's sections take just these."""
    groups = {found.title: found for found in launch_command_parser()._action_groups}
    return {action.dest for action in groups[group]._group_actions}


def test_the_launchers_are_all_there():
    assert {path.stem for path in ACCELERATE} == {
        "single_gpu", "multi_gpu", "zero2", "zero3", "fsdp2", "zero3_multinode", "fsdp2_multinode",
        "cpu_ddp", "cpu_zero2", "cpu_zero3",
    }  # fmt: skip


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
class TestLauncher:
    def test_loads_and_knows_every_key(self, path):
        read(path)
        config = load_config_from_file(str(path))  # raises on an unknown key of the top level
        assert not set(config.deepspeed_config) - _launcher_keys("DeepSpeed Arguments")
        assert not set(config.fsdp_config) - _launcher_keys("FSDP Arguments")

    def test_leaves_batch_and_clipping_to_the_recipe(self, path):
        section = load_config_from_file(str(path)).deepspeed_config
        assert not {"gradient_accumulation_steps", "gradient_clipping", "deepspeed_config_file"} & set(section)

    def test_processes_and_precision(self, path):
        config = load_config_from_file(str(path))
        nodes = 2 if "multinode" in path.stem else 1
        on_cpu = path.stem.startswith("cpu_")
        assert config.num_machines == nodes
        assert config.num_processes == (2 if on_cpu else 1 if path.stem == "single_gpu" else GPUS * nodes)
        assert (config.mixed_precision, config.use_cpu) == (("no", True) if on_cpu else ("bf16", False))

    def test_shards_as_named_and_saves_weights(self, path):
        config = load_config_from_file(str(path))
        kind, deepspeed, fsdp = config.distributed_type.value, config.deepspeed_config, config.fsdp_config
        if "zero" in path.stem:
            assert kind == "DEEPSPEED"
            assert deepspeed["zero_stage"] == int(re.search(r"zero(\d)", path.stem)[1])
            assert deepspeed["deepspeed_multinode_launcher"] == "standard"
            if deepspeed["zero_stage"] == 3:
                assert deepspeed["zero3_save_16bit_model"] is deepspeed["zero3_init_flag"] is True
        elif "fsdp" in path.stem:
            assert (kind, fsdp["fsdp_version"]) == ("FSDP", 2)
            assert fsdp["fsdp_state_dict_type"] == "FULL_STATE_DICT"
            assert fsdp["fsdp_reshard_after_forward"] is fsdp["fsdp_cpu_ram_efficient_loading"] is True
            assert fsdp["fsdp_activation_checkpointing"] is False  # gradient_checkpointing of the recipe does it
        else:
            # MULTI_CPU in the file would start one process
            assert kind == ("NO" if path.stem == "single_gpu" else "MULTI_GPU")
