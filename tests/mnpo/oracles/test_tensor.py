"""Tables over all responses."""

import numpy as np
from made_oracles import build

from mnpo import DenseTensor
from support import random_policies


def test_the_tensor_of_an_oracle_answers_as_it_does():
    rng = np.random.default_rng(2)
    oracle, _ = build("weak", rng, 3)
    policies = random_policies(rng, 4, 1, 3)
    tensor = DenseTensor.from_oracle(oracle, 4)
    assert tensor.exchangeable
    np.testing.assert_allclose(
        tensor.win_probabilities(policies), oracle.win_probabilities(policies), atol=1e-15
    )
