"""Every objective on tensors against a formula written apart, in float64, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mnpo.llm.training.losses import pair_losses, swapped
from mnpo.objectives import OBJECTIVES, Pairs, objective


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bernoulli_kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def f_dpo(slope: Callable[[float], float]) -> Callable[[Any], float]:
    return lambda v: -math.log(sigma(0.1 * slope(math.exp(v.w - v.rw)) - 0.1 * slope(math.exp(v.l - v.rl))))


def odds(mean: float) -> float:
    return math.exp(mean) / (1 - math.exp(mean))


#: Spec §7, with the default parameters; plain numbers in, one pair at a time.
FORMULAS: dict[str, Callable[[Any], float]] = {
    "mnpo": lambda v: (v.w - v.l - v.anchor - v.target) ** 2,
    "mnpo-bwd": lambda v: bernoulli_kl(sigma(v.target), sigma(v.w - v.l - v.anchor)),
    "mnpo-fwd": lambda v: bernoulli_kl(sigma(v.w - v.l - v.anchor), sigma(v.target)),
    "inpo": lambda v: (v.w - v.l - 0.05 * (v.rw - v.rl) - 0.95 * (v.cw - v.cl) - 0.25) ** 2,
    "onpo": lambda v: (v.w - v.l - (v.cw - v.cl) - 0.25) ** 2,
    "sppo": lambda v: (v.w - v.cw - (v.pw - 0.5)) ** 2 + (v.l - v.cl - (v.pl - 0.5)) ** 2,
    "dno": lambda v: (
        -sigma(v.pw - v.pl) * math.log(sigma(v.w - v.cw - v.l + v.cl))
        - sigma(v.pl - v.pw) * math.log(sigma(v.l - v.cl - v.w + v.cw))
    ),
    "dno-prct": lambda v: -math.log(sigma(v.w - v.cw - v.l + v.cl)),
    "spin": lambda v: -math.log(sigma(v.w - v.cw - v.l + v.cl)),
    "dpo": lambda v: -math.log(sigma(0.1 * (v.w - v.rw - v.l + v.rl))),
    "ipo": lambda v: (v.w - v.rw - v.l + v.rl - 5.0) ** 2,
    "distill-dpo": lambda v: (v.w - v.rw - v.l + v.rl - (v.gw - v.gl)) ** 2,
    "rpo": lambda v: bernoulli_kl(sigma(v.gw - v.gl), sigma(0.1 * (v.w - v.rw - v.l + v.rl))),
    "rpo-sq": lambda v: (0.1 * (v.w - v.rw - v.l + v.rl) - (v.gw - v.gl)) ** 2,
    "rpo-fwd": lambda v: bernoulli_kl(sigma(0.1 * (v.w - v.rw - v.l + v.rl)), sigma(v.gw - v.gl)),
    "r-dpo": lambda v: -math.log(sigma(0.1 * (v.w - v.rw - v.l + v.rl) + 0.02 * (v.nw - v.nl))),
    "gshf": lambda v: -math.log(sigma(0.1 * (v.w - v.rw - v.l + v.rl) + v.uw - v.ul)),
    "f-dpo-reverse-kl": f_dpo(lambda u: math.log(u) + 1),
    "f-dpo-forward-kl": f_dpo(lambda u: -1 / u),
    "f-dpo-js": f_dpo(lambda u: math.log(2 * u / (1 + u))),
    "f-dpo-alpha": f_dpo(lambda u: (1 - u**-0.5) / 0.5),
    "kto": lambda v: (
        (1 - sigma(0.1 * (v.w - v.rw) - 0.1 * v.kl)) + (1 - sigma(0.1 * v.kl - 0.1 * (v.l - v.rl)))
    ),
    "mio": lambda v: (
        math.log(1 + math.exp(v.rw - v.w))
        + 0.5 * math.log(1 + math.exp(v.w - v.rw))
        + 0.5 * math.log(1 + math.exp(v.l - v.rl))
    ),
    "simpo": lambda v: -math.log(sigma(2 * v.w / v.nw - 2 * v.l / v.nl - 1)),
    "cpo": lambda v: -math.log(sigma(0.1 * (v.w - v.l))) - v.w,
    "orpo": lambda v: -v.w / v.nw - 0.1 * math.log(sigma(math.log(odds(v.w / v.nw) / odds(v.l / v.nl)))),
    "slic-hf": lambda v: max(0.0, 1 - (v.w - v.l)) - v.w,
    "rrhf": lambda v: max(0.0, v.l / v.nl - v.w / v.nw) - v.w,
}
PARAMETERS = {"r-dpo": {"alpha": 0.02}}
#: A letter of the formulas -> a field of Pairs.
FIELDS = {
    "w": "policy_w", "l": "policy_l", "rw": "reference_w", "rl": "reference_l", "cw": "current_w", "cl": "current_l",
    "nw": "length_w", "nl": "length_l", "gw": "reward_w", "gl": "reward_l", "pw": "win_w", "pl": "win_l",
    "uw": "gamma_w", "ul": "gamma_l", "anchor": "anchor", "target": "target", "kl": "kl",
}  # fmt: skip


def draw(size: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def uniform(low: float, high: float, count: int = size) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

    values = {
        field: uniform(-12, -6) for key, field in FIELDS.items() if key in ("w", "l", "rw", "rl", "cw", "cl")
    }
    values |= {f"length_{side}": uniform(3, 30).round() for side in "wl"}
    values |= {f"reward_{side}": uniform(-2, 2) for side in "wl"}
    values |= {f"win_{side}": uniform(0, 1) for side in "wl"}
    values |= {f"gamma_{side}": uniform(0, 1) for side in "wl"}
    return {**values, "anchor": uniform(-2, 2), "target": uniform(-1, 1), "kl": uniform(0, 2, 1)[0]}


class Numbers:
    """One pair as plain numbers, by the letters of the formulas."""

    def __init__(self, values: dict[str, Tensor], place: int) -> None:
        for letter, field in FIELDS.items():
            tensor = values[field]
            setattr(self, letter, float(tensor if tensor.dim() == 0 else tensor[place]))


def test_every_objective_is_checked() -> None:
    assert set(FORMULAS) == set(OBJECTIVES)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_loss_is_its_formula(name: str) -> None:
    values = draw()
    found = pair_losses(objective(name), PARAMETERS.get(name, {}), Pairs(**values))
    expected = [FORMULAS[name](Numbers(values, place)) for place in range(6)]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_gradient_is_that_of_its_loss(name: str) -> None:
    values = draw()
    preference = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)

    def loss(policy_w: Tensor, policy_l: Tensor) -> Tensor:
        pairs = Pairs(**{**values, "policy_w": policy_w, "policy_l": policy_l})
        return pair_losses(objective(name), PARAMETERS.get(name, {}), pairs, preference)

    policy = [values[f"policy_{side}"].clone().requires_grad_() for side in "wl"]
    assert torch.autograd.gradcheck(loss, policy, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["dpo", "ipo", "mnpo", "inpo", "simpo"])
def test_a_soft_preference_is_the_mean_over_labels(name: str) -> None:
    """P = 1 is the label itself, P = 0 the opposite one, and in between the loss is linear in P."""
    pairs = Pairs(**draw())
    chosen, ones = objective(name), torch.ones(6, dtype=torch.float64)
    hard = pair_losses(chosen, {}, pairs)
    other = pair_losses(chosen, {}, swapped(pairs))
    torch.testing.assert_close(pair_losses(chosen, {}, pairs, ones), hard)
    torch.testing.assert_close(pair_losses(chosen, {}, pairs, 0 * ones), other)
    torch.testing.assert_close(pair_losses(chosen, {}, pairs, 0.3 * ones), 0.3 * hard + 0.7 * other)


def test_soft_labels_move_the_target() -> None:
    """Over labels with P(y_w ≻ y_l) = p the squared loss with target η/2 has its minimum at h = η (p − 1/2)."""
    values, p, eta = draw(), 0.8, 2.0
    h = torch.tensor(eta * (p - 0.5), dtype=torch.float64, requires_grad=True)
    pairs = Pairs(policy_w=h + values["anchor"], policy_l=0.0, anchor=values["anchor"], target=eta / 2)
    loss = pair_losses(objective("mnpo"), {}, pairs, torch.full((6,), p, dtype=torch.float64)).sum()
    (slope,) = torch.autograd.grad(loss, h)
    assert abs(float(slope)) < 1e-12


def test_far_values_stay_finite() -> None:
    """Log-ratios of thousands, as long responses have them, give finite losses and gradients."""
    for name in ("dpo", "mnpo-bwd", "mnpo-fwd", "kto", "mio", "dno", "simpo"):
        w = torch.tensor([-4000.0, -10.0], dtype=torch.float64, requires_grad=True)
        far = {"policy_w": w, "policy_l": torch.tensor([-10.0, -4000.0], dtype=torch.float64)}
        pairs = Pairs(**{**draw(2), **far})
        losses = pair_losses(objective(name), {}, pairs)
        losses.sum().backward()
        assert torch.isfinite(losses).all(), name
        assert torch.isfinite(w.grad).all(), name
