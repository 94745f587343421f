"""What sharding gets wrong and is put right: gradients of a gathered head, copies of a tied one, rounded outputs."""

from __future__ import annotations

import importlib
import socket
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as processes
from conftest import REPOSITORY, make_model, make_tokenizer
from peft import LoraConfig, PeftModel, get_peft_model
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import AutoModelForCausalLM

from cft_trl.training.fsdp2 import averaged_gradients, settle_fsdp2, untie_trained_copies, without_tied_copies

LORA = {"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}


def gathered_gradient(rank: int, port: int, results) -> None:
    """Of one of two processes with other rows: the gradient of a weight that is sharded and gathered whole."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    original = DTensor.full_tensor
    weight = distribute_tensor(torch.arange(8.0).reshape(4, 2), init_device_mesh("cpu", (2,)), [Shard(0)])
    weight = torch.nn.Parameter(weight)
    rows = torch.tensor([[1.0, 0.0], [3.0, 2.0]])[rank]
    found = []
    for averaged in (False, True):
        weight.grad = None
        if averaged:
            with averaged_gradients():
                (weight.full_tensor() @ rows).sum().backward()
        else:
            (weight.full_tensor() @ rows).sum().backward()
        found.append(weight.grad.full_tensor().tolist())
    assert DTensor.full_tensor is original
    results[rank] = found
    dist.destroy_process_group()


def test_a_gathered_weights_gradient_is_the_mean_of_all_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with processes.get_context("spawn").Manager() as manager:
        results = manager.dict()
        processes.spawn(gathered_gradient, (port, results), nprocs=2)
        as_it_is, averaged = results[0]
        assert results[1] == results[0]
    assert averaged == [[2.0, 1.0]] * 4
    assert as_it_is == [[1.0, 0.0]] * 2 + [[3.0, 2.0]] * 2, "torch does it itself by now"


def tied_base(folder):
    make_model(make_tokenizer("chatml"), tie_word_embeddings=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_a_trained_copy_stays_on_its_own_when_accelerate_ties_again(tmp_path, module):
    base, ids = tied_base(tmp_path / "base"), torch.arange(5, 25)[None]

    def adapted():
        model = AutoModelForCausalLM.from_pretrained(base)
        torch.manual_seed(1)  # LoRA's own weights
        return get_peft_model(model, LoraConfig(**LORA, modules_to_save=[module])).eval()

    def train(model):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(
                        0.1 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                    )
        return model(ids).logits

    expected = train(adapted())
    model = adapted()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert untie_trained_copies(model)
    model.tie_weights()  # as accelerate does when it shards
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trained
    torch.testing.assert_close(train(model), expected)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    torch.testing.assert_close(loaded(ids).logits, expected)


def test_nothing_is_parted_where_no_copy_is_trained(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tied_base(tmp_path / "base"))
    assert not untie_trained_copies(model)
    adapted = get_peft_model(model, LoraConfig(**LORA))
    assert not untie_trained_copies(adapted)
    assert adapted.get_output_embeddings().weight is adapted.get_input_embeddings().weight
    untied = get_peft_model(make_model(make_tokenizer("chatml")), LoraConfig(**LORA, modules_to_save=["lm_head"]))
    assert not untie_trained_copies(untied)


def sharding(plugin=None):
    """As much of an accelerator with FSDP2 as is settled."""
    plugin = plugin or SimpleNamespace(mixed_precision_policy=None)
    state, gradients = SimpleNamespace(fsdp_plugin=plugin), SimpleNamespace(plugin_kwargs={"num_steps": 4})
    return SimpleNamespace(is_fsdp2=True, state=state, gradient_state=gradients)


@pytest.mark.parametrize(("given", "kept"), [(None, True), ({}, True), ({"sync_each_batch": False}, False)])
def test_gradients_are_sharded_between_micro_batches_unless_one_wants_them_whole(given, kept):
    accelerator = sharding()
    settle_fsdp2(accelerator, torch.nn.Linear(1, 1), given)
    assert accelerator.gradient_state.plugin_kwargs == {"num_steps": 4, "sync_each_batch": kept}


def test_outputs_are_left_as_they_come(tmp_path):
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
    plugin = SimpleNamespace(mixed_precision_policy=policy)
    accelerator = sharding(plugin)
    settle_fsdp2(accelerator, torch.nn.Linear(1, 1))
    assert plugin.mixed_precision_policy == MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, None)
    plugin.mixed_precision_policy = None  # mixed_precision: no
    settle_fsdp2(accelerator, torch.nn.Linear(1, 1))
    assert plugin.mixed_precision_policy is None


def test_a_tied_head_is_saved_once(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tied_base(tmp_path / "base"))
    gathered = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = without_tied_copies(model, gathered)
    assert gathered.keys() - kept.keys() == {"lm_head.weight"}
    model.save_pretrained(tmp_path / "saved", state_dict=kept)
    loaded, told = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not told["missing_keys"]
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    gathered["lm_head.weight"] += 1  # of its own after all
    assert without_tied_copies(model, gathered).keys() == gathered.keys()
    untied = make_model(make_tokenizer("chatml"))
    assert without_tied_copies(untied, dict(untied.state_dict())).keys() == untied.state_dict().keys()
    assert without_tied_copies(model, None) is None


# ---- two processes ----


@pytest.fixture(scope="module")
def matrix():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "benchmarks"))
        yield importlib.import_module("distributed_matrix")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", ["fsdp2/lora+modules/untied/padded", "fsdp2/lora+modules/tied/padded"])
def test_two_processes_train_and_save_what_one_does(matrix, tmp_path, cell):
    cell, numbers = matrix.Cell(cell, tmp_path), {}
    one = cell._alone()
    run = cell._launch("run", cell.launcher, cell.batch)
    assert [process["kind"] for process in run.processes] == ["FSDP", "FSDP"]
    assert cell._compare(run, one, numbers) == "exact", numbers
    assert cell._judge(run, numbers) == "exact", numbers


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_losses_in_bf16_have_all_their_digits(matrix, tmp_path):
    """`loss` is TRL's mean of what the head returns, `critique_loss` ours: 1e-3 apart where outputs are rounded."""
    cell = matrix.Cell("fsdp2/full/untied/padded", tmp_path)
    launcher = list(cell.launcher)
    launcher[launcher.index("--mixed_precision") + 1] = "bf16"
    run = cell._launch("run", launcher, {**cell.batch, "bf16": True, "save_strategy": "no"})
    assert [process["kind"] for process in run.processes] == ["FSDP", "FSDP"]
    for entry in run.steps.values():
        assert entry["loss"] == pytest.approx(entry["critique_loss"], rel=1e-6)
