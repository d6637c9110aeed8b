"""A token is the quantile of the model's truncated distribution at a uniform number."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from mnpo.llm.sampling.samplers import quantile


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (1.5, 0.35), (0.8, 0.999)])
def test_quantiles_are_draws_from_the_truncated_distribution(temperature: float, top_p: float) -> None:
    """Equally spaced numbers hit every token as often as its probability says; transformers says which remain."""
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) * 3
    logits[1, 5:] = -torch.inf
    logits[2, 3:9] = logits[2, 3]  # equal logits
    count = 20000
    numbers = (torch.arange(count) + 0.5) / count
    warped = TopPLogitsWarper(top_p)(
        torch.zeros(1, 1), TemperatureLogitsWarper(temperature)(torch.zeros(1, 1), logits)
    )
    for row, expected in zip(logits, warped.double().softmax(-1), strict=True):
        found = (
            torch.bincount(quantile(row.expand(count, -1), numbers, temperature, top_p), minlength=40) / count
        )
        assert (found - expected).abs().max() < 2 / count
        assert not bool((found[expected == 0] > 0).any())


def test_rounding_leads_to_no_token_that_cannot_be_drawn() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, -torch.inf, 5.0]])
    assert quantile(logits, torch.tensor([0.9, 0.9]), 0.0, 1.0).tolist() == [1, 0]
    nearly_one = torch.tensor([1 - 1e-16, 1 - 1e-16], dtype=torch.float64)
    for top_p in (1.0, 0.999999):
        assert set(quantile(logits, nearly_one, 1.0, top_p).tolist()) <= {0, 1, 2}
        assert quantile(logits, nearly_one, 1.0, top_p)[1] == 2
    with pytest.raises(ValueError, match="not numbers"):
        quantile(logits * torch.nan, nearly_one, 1.0, 1.0)
