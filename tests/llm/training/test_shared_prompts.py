"""Prompts that are computed once, and rows that are packed: what separate sequences give, forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnpo.llm.data.batches import Tree, laid_out
from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_model
from mnpo.llm.training.collator import Rows
from mnpo.llm.training.logprobs import attach, log_probs_of
from mnpo.llm.training.masks import _lengths

FAMILIES = ("gemma2", "llama", "gpt2", "mistral")


def draw(lengths: list[tuple[int, list[int]]]) -> list[Tree]:
    generator = torch.Generator().manual_seed(1)

    def ids(size: int) -> list[int]:
        return torch.randint(6, 1000, (size,), generator=generator).tolist()

    return [(ids(prompt), [ids(size) for size in sizes]) for prompt, sizes in lengths]


#: Norms and rotations are float32 in every model; a wrong mask moves log-probabilities by more than 0.01.
CLOSE = {"rtol": 2e-6, "atol": 2e-6}
#: Prompts of 1 to 40 tokens with one to four responses.
TREES = draw([(7, [5, 3]), (2, [12, 1, 30, 4]), (40, [1, 60]), (1, [20]), (30, [8, 8])])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nn.Module]:
    """Float64, with windows shorter than the sequences, and attention that matters."""
    from transformers import AutoModelForCausalLM, MistralConfig

    parent = tmp_path_factory.mktemp("models")
    found = {name: load_model(tiny.build(f"tiny:{name}", parent), dtype="float64") for name in FAMILIES[:3]}
    torch.manual_seed(0)
    mistral = MistralConfig(
        vocab_size=1024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=16,
    )  # fmt: skip
    found["mistral"] = AutoModelForCausalLM.from_config(mistral).double()
    found["gemma2"].config.sliding_window = 16
    for layer in found["gemma2"].model.layers:
        if getattr(layer.self_attn, "sliding_window", None) is not None:
            layer.self_attn.sliding_window = 16
    with torch.no_grad():
        for model in found.values():
            for name, weight in model.named_parameters():
                if weight.ndim == 2:
                    weight.mul_(5 if "emb" in name or "wte" in name else 3)
    return {name: model.eval() for name, model in found.items()}


def alone(model: nn.Module, trees: list[Tree]) -> Tensor:
    """Each response with its prompt by itself, from all logits."""
    found = []
    for prompt, responses in trees:
        for response in responses:
            ids = torch.tensor([[*prompt, *response]])
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
            tokens = logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])
            found.append(tokens.sum())
    return torch.stack(found)


def gradients(model: nn.Module, logps: Tensor) -> list[Tensor]:
    model.zero_grad()
    (logps * torch.linspace(-1, 2, len(logps), dtype=logps.dtype)).sum().backward()
    return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


def assert_same(both: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Gradients, to a share of each weight's largest."""
    for theirs, mine in both:
        assert float((mine - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_of_separate_sequences(
    models: dict[str, nn.Module], family: str, attention: str, packed: bool
) -> None:
    plain = models[family]
    plain.set_attn_implementation("eager")
    ours = copy.deepcopy(plain)
    ours.set_attn_implementation(attention if family != "gemma2" else "eager")
    attach(ours, chunk=7)
    expected = alone(plain, TREES)
    found = log_probs_of(ours, laid_out(TREES, packed=packed))
    torch.testing.assert_close(found, expected, **CLOSE)
    apart = [(prompt, [response]) for prompt, responses in TREES for response in responses]
    separate = log_probs_of(ours, laid_out(apart, packed=packed))
    torch.testing.assert_close(separate, expected, **CLOSE)
    for ours_found in (found, separate):
        both = zip(gradients(plain, alone(plain, TREES)), gradients(ours, ours_found), strict=True)
        assert_same(both)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_mask_would_be_noticed(models: dict[str, nn.Module], family: str) -> None:
    batch = laid_out(TREES)
    assert batch.branch is not None
    assert batch.position_ids is not None
    shifted = torch.arange(batch.input_ids.shape[1]).expand_as(batch.position_ids)
    ours = copy.deepcopy(models[family])
    right = log_probs_of(ours, batch)
    for wrong in (batch._replace(branch=0 * batch.branch), batch._replace(position_ids=shifted)):
        assert float((log_probs_of(ours, wrong) - right).abs().max()) > 1e-2
    if family in ("gemma2", "mistral"):
        ours.config.sliding_window = 1000
        assert float((log_probs_of(ours, batch) - right).abs().max()) > 1e-2


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_with_gradient_checkpointing_and_lora(models: dict[str, nn.Module], family: str) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    plain: Any = get_peft_model(copy.deepcopy(models[family]), settings).train()
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # a shared prompt has one mask of dropout, separate ones have two
    ours = copy.deepcopy(plain)
    attach(ours, chunk=7)
    ours.gradient_checkpointing_enable()
    ours.enable_input_require_grads()
    expected, found = alone(plain, TREES), log_probs_of(ours, laid_out(TREES))
    torch.testing.assert_close(found, expected, **CLOSE)
    both = list(zip(gradients(plain, expected), gradients(ours, found), strict=True))
    assert both
    assert_same(both)


def test_flex_attention_takes_the_same_mask(models: dict[str, nn.Module]) -> None:
    """Its block mask, written out, is the dense one."""
    from torch.nn.attention.flex_attention import create_mask

    from mnpo.llm.training import masks

    batch = laid_out(TREES, packed=True)
    assert batch.group is not None
    assert batch.branch is not None
    assert batch.position_ids is not None
    for window in (None, 9):
        block = masks._block_mask(batch.group, batch.branch, batch.position_ids, window)
        dense = masks._mask("sdpa", batch.group, batch.branch, batch.position_ids, window, torch.float32)
        length = batch.group.shape[1]
        assert torch.equal(create_mask(block.mask_mod, 1, 1, length, length, device="cpu"), dense)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_reads_whole_blocks(tmp_path: Path) -> None:
    """Rows are padded to blocks that it computes; values are those of eager attention on the rows as they are."""
    values = {}
    # What compiles needs a GPU; uncompiled it computes the same on a CPU, forward only.
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        for attention in ("eager", "flex_attention"):
            home = tiny.build("tiny:gemma2", tmp_path)
            model = load_model(home, dtype="float32", attn_implementation=attention).eval()
            widths = []
            model.get_input_embeddings().register_forward_hook(
                lambda *a, w=widths: w.append(a[1][0].shape[1])
            )
            apart = [(prompt, [response]) for prompt, responses in TREES for response in responses]
            batches = (laid_out(TREES), laid_out(TREES, packed=True), laid_out(apart))
            values[attention] = [log_probs_of(model, batch) for batch in batches]
            assert [width % 128 == 0 for width in widths] == [attention == "flex_attention"] * 3
    assert_same(list(zip(values["eager"], values["flex_attention"], strict=True)))


def test_what_flash_attention_is_told_of_packed_sequences() -> None:
    apart = [(prompt, [response]) for prompt, responses in TREES for response in responses]
    batch = laid_out(apart, packed=True)
    told = _lengths(batch.position_ids)
    sizes = [len(prompt) + len(response) for prompt, (response,) in apart]
    assert told["cu_seq_lens_q"].diff().tolist() == sizes
    assert told["max_length_k"] == max(sizes)
    assert told["attention_mask"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"_attn_implementation": "flash_attention_2"},
            "share_prompts: attention flash_attention_2 takes no mask",
        ),
        (
            {"layer_types": ["chunked_attention"]},
            "share_prompts: LlamaForCausalLM has layers of chunked_attention",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(
    models: dict[str, nn.Module], change: dict[str, Any], message: str
) -> None:
    model = copy.deepcopy(models["llama"])
    for name, value in change.items():
        setattr(model.config, name, value)
    with pytest.raises(ValueError, match=message):
        Rows.of(model, True, False)
    assert Rows.of(model, None, False) == Rows(shared=False)
    assert Rows.of(models["llama"], None, True) == Rows(shared=True, packed=True)


def test_a_model_that_does_not_say_which_layers_slide_is_refused(models: dict[str, nn.Module]) -> None:
    model = copy.deepcopy(models["llama"])
    model.config.sliding_window = 5
    with pytest.raises(ValueError, match="share_prompts: LlamaForCausalLM does not say which of its layers"):
        Rows.of(model, True, False)


def test_mixtures_of_experts_and_opt_are_scored() -> None:
    """Their heads ask their bodies for more than hidden states."""
    from transformers import AutoModelForCausalLM, MixtralConfig, OPTConfig

    torch.manual_seed(0)
    mixtral = MixtralConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    opt = OPTConfig(
        vocab_size=1024, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2, dropout=0.0,
        word_embed_proj_dim=32,
    )  # fmt: skip
    for config in (mixtral, opt):
        model = AutoModelForCausalLM.from_config(config).eval()
        expected = alone(model, TREES)
        for packed in (False, True):
            found = log_probs_of(model, laid_out(TREES, packed=packed))
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-4)


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        laid_out([([], [[5, 6]])])


def test_a_model_with_attention_of_its_own_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, BloomConfig

    bloom = AutoModelForCausalLM.from_config(BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="packing: BloomForCausalLM does not leave its attention"):
        Rows.of(bloom, None, True)
    assert Rows.of(bloom, None, False) == Rows()
