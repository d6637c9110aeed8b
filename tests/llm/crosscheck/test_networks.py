"""The networks say what is in their set of responses, with the probabilities that they are taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mnpo.llm.crosscheck.executor import Executor
from mnpo.llm.crosscheck.finite import NETWORKS, ResponseSet, make_network
from mnpo.llm.models.loading import load_model
from support import random_policies


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_policy_is_the_models_own_distribution(kind: str, tmp_path: Path) -> None:
    """Sequence probabilities, multiplied up token by token from plain logits; what is not in the set is left over."""
    responses = ResponseSet(2, 6)
    wanted = random_policies(np.random.default_rng(0), 2, 6)
    executor = Executor(kind, responses, tmp_path)
    policy = executor.teach("taught", wanted)
    model = load_model(Path(policy.folder))
    lengths = {len(answer) for _, answer in responses.requests}
    assert lengths == {3, 4, 5, 6}
    found = []
    for prompt, answer in responses.requests:
        ids, total = list(prompt), 0.0
        for token in answer:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
            total += float(logits.log_softmax(-1)[token])
            ids.append(token)
        found.append(total)
    chances = np.exp(found).reshape(2, 6)
    assert policy.outside == pytest.approx(1 - chances.sum(1), abs=1e-6)
    assert np.exp(policy.log_policy) == pytest.approx(chances / chances.sum(1, keepdims=True), abs=1e-6)
    assert np.abs(np.exp(policy.log_policy) - wanted).max() < 0.03
    assert policy.outside.max() < (0.2 if kind == "gemma2" else 1e-6)


def test_free_logits_are_the_softmax(tmp_path: Path) -> None:
    """The distribution over whole responses is the softmax of the weights, whatever prefixes they share."""
    responses = ResponseSet(3, 7)
    policy = Executor("softmax", responses, tmp_path).teach("p", np.full((3, 7), 1 / 7))
    weights = load_model(Path(policy.folder)).model.network.weight.double().log_softmax(-1)
    assert policy.log_policy == pytest.approx(weights.detach().numpy(), abs=1e-6)


def test_sizes_and_kinds_that_there_are_no_networks_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 to 50 responses; found 1 and 51"):
        ResponseSet(1, 51)
    assert len(set(ResponseSet(1, 50).texts)) == 50
    with pytest.raises(ValueError, match="did you mean 'softmax'"):
        make_network("softmx", ResponseSet(1, 3), np.full((1, 3), 1 / 3), tmp_path / "x")
    with pytest.raises(ValueError, match=r"policy must have shape \(1, 3\); found \(1, 2\)"):
        make_network("softmax", ResponseSet(1, 3), np.full((1, 2), 0.5), tmp_path / "x")
