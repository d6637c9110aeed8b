"""Sequence log-probabilities against the plain computation with all logits."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnpo.llm.data.batches import padded
from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_model
from mnpo.llm.training.logprobs import _TokenLogProbs, attach, sequence_log_probs

FAMILIES = ("gemma2", "llama", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("models")
    return {family: tiny.build(f"tiny:{family}", parent) for family in FAMILIES}


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Four sequences of different lengths, prompts and responses."""
    generator = torch.Generator().manual_seed(1)
    lengths = [(7, 5), (2, 12), (30, 1), (1, 20)]
    draw = [
        [torch.randint(6, 1000, (size,), generator=generator).tolist() for size in pair] for pair in lengths
    ]
    return padded([(prompt, response) for prompt, response in draw], 0, "cpu")


def naive(model: nn.Module, ids: Tensor, attention: Tensor, response: Tensor) -> Tensor:
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
    tokens = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (tokens * response[:, 1:]).sum(1)


def with_lora(model: nn.Module) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    )
    return adapted.eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("chunk", [3, None], ids=["small-chunks", "one-chunk"])
def test_values_and_gradients_are_those_of_the_full_logits(
    folders: dict[str, Path], family: str, lora: bool, chunk: int | None
) -> None:
    plain: nn.Module = load_model(folders[family])
    with torch.no_grad():  # spread the logits, so that the soft-cap of Gemma-2 bends them
        for name, weight in plain.named_parameters():
            if "embed" in name or "wte" in name or "lm_head" in name:
                weight.mul_(20)
    ours: nn.Module = copy.deepcopy(plain)
    if lora:
        plain, ours = with_lora(plain), with_lora(ours)
    attach(ours, chunk=chunk)
    inputs = batch()
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    expected, found = naive(plain, *inputs), sequence_log_probs(ours, *inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    trained = [
        (n, p, q)
        for (n, p), q in zip(plain.named_parameters(), ours.parameters(), strict=True)
        if p.requires_grad
    ]
    assert trained
    assert all((p.grad is None) == (q.grad is None) for _, p, q in trained)
    largest = max(float(p.grad.abs().max()) for _, p, _ in trained if p.grad is not None)
    for name, p, q in trained:
        if p.grad is not None and q.grad is not None:
            assert float((p.grad - q.grad).abs().max()) <= 1e-5 * largest, name


def test_soft_cap_matters(folders: dict[str, Path]) -> None:
    """The comparison above would notice a head without its soft-cap."""
    model = load_model(folders["gemma2"])
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)
    attach(model)
    with torch.no_grad():
        capped = sequence_log_probs(model, *batch())
        model.config.final_logit_softcapping = None
        free = sequence_log_probs(model, *batch())
    assert float((capped - free).abs().max()) > 1e-2


def test_padding_and_company_change_nothing(folders: dict[str, Path]) -> None:
    model = load_model(folders["llama"])
    attach(model, chunk=4)
    ids, attention, response = batch()
    with torch.no_grad():
        together = sequence_log_probs(model, ids, attention, response)
        for row in range(4):
            size = int(attention[row].sum())
            alone = sequence_log_probs(
                model, *(tensor[row : row + 1, :size] for tensor in (ids, attention, response))
            )
            torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-5, atol=1e-4)


def test_gradient_checkpointing_and_autocast_change_nothing_but_precision(folders: dict[str, Path]) -> None:
    model = load_model(folders["gemma2"])
    attach(model, chunk=8)
    model.train()
    inputs = batch()
    sequence_log_probs(model, *inputs).sum().backward()
    weight = model.get_input_embeddings().weight
    plain, weight.grad = weight.grad.clone(), None
    model.activation_checkpointing_enable()
    sequence_log_probs(model, *inputs).sum().backward()
    torch.testing.assert_close(weight.grad, plain, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = sequence_log_probs(model, *inputs)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, sequence_log_probs(model, *inputs), rtol=0.02, atol=0.5)


def test_the_gradient_of_a_token_is_that_of_its_log_softmax() -> None:
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 6, 3, 3, 1])
    assert torch.autograd.gradcheck(lambda z: _TokenLogProbs.apply(z, target), logits)


def test_the_model_stays_what_it_was(folders: dict[str, Path], tmp_path: Path) -> None:
    """With `attach` a model still answers as before, and saves what `from_pretrained` loads."""
    plain, model = load_model(folders["gemma2"]), load_model(folders["gemma2"])
    attach(model)
    ids, attention, _ = batch()
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=attention).logits
        assert torch.equal(model(input_ids=ids, attention_mask=attention).logits, expected)
        model.save_pretrained(tmp_path)
        again = load_model(tmp_path)
        assert type(again) is type(plain)
        assert torch.equal(again(input_ids=ids, attention_mask=attention).logits, expected)


def test_no_array_is_of_the_size_of_all_logits(folders: dict[str, Path]) -> None:
    """Neither pass allocates anything near (batch, length, vocabulary)."""
    model = load_model(folders["llama"])
    attach(model, chunk=16)
    ids = torch.randint(6, 1000, (2, 400))
    mask = torch.zeros_like(ids)
    mask[:, 8:] = 1
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, Tensor) and tensor.shape[-1:] == (1024,):
                    largest = max(largest, tensor.numel())
            return out

    with Watch():
        sequence_log_probs(model, ids, torch.ones_like(ids), mask).sum().backward()
    assert 0 < largest <= 16 * 1024 + 1024 * 128  # a chunk's logits; the head's own gradient is (1024, 128)


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear is not a causal language model"):
        attach(nn.Linear(2, 2))


SHARDED = """
import sys, torch, torch.distributed as dist
from pathlib import Path
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from mnpo.llm.training.logprobs import attach, log_probs_of
from mnpo.llm.models.loading import load_model
from mnpo.llm.data.batches import laid_out
rank, folder, store = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
batch = laid_out([([5, 6, 7], [[8, 9, 10, 11], [15]]) if rank == 0 else ([12, 13], [[14] * 30, [16] * 9])])
whole, model = load_model(folder), load_model(folder)
attach(whole, chunk=4)
expected = log_probs_of(whole, batch)
(expected.sum() / 2).backward()
mesh = init_device_mesh("cpu", (2,))
attach(model, chunk=4, synchronise=True)
for layer in model.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
found = log_probs_of(model, batch)
torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
found.sum().backward()
for (name, p), q in zip(whole.named_parameters(), model.parameters(), strict=True):
    dist.all_reduce(p.grad)
    torch.testing.assert_close(q.grad.full_tensor(), p.grad, rtol=1e-4, atol=1e-5, msg=name)
print("same")
"""


def test_sharded_parameters_give_the_same_values_and_gradients(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Under FSDP, with a shared prompt and unequally many response tokens on two processes."""
    arguments = [str(folders["gemma2"]), str(tmp_path / "store")]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SHARDED, str(rank), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert "same" in out, err[-2000:]
