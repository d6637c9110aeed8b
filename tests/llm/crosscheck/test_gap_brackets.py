"""The bracket of the duality gap on networks whose gap is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mnpo import Game, Pairwise, dual_gap
from mnpo.gap_estimates import Verdicts, bootstrap, estimate
from mnpo.llm.crosscheck.executor import Executor
from mnpo.llm.crosscheck.finite import ResponseSet
from support import random_policies

TAU, CONTEXTS, SIZE = 0.05, 4, 12


def test_a_gemma_is_bracketed_and_the_bracket_closes(tmp_path: Path) -> None:
    """A policy and a reference, both Gemma-2: K draws of each against the gap of their own distributions."""
    rng = np.random.default_rng(0)
    executor = Executor("gemma2", ResponseSet(CONTEXTS, SIZE), tmp_path)
    log_policy, log_reference = (
        executor.teach(name, random_policies(rng, CONTEXTS, SIZE)).log_policy
        for name in ("policy", "reference")
    )
    matrix = rng.random((CONTEXTS, SIZE, SIZE))
    wins = (matrix + 1 - matrix.swapaxes(1, 2)) / 2
    game = Game(Pairwise(wins), 2, TAU, np.exp(log_reference))
    exact = float(dual_gap(game, np.exp(log_policy)))
    widths = []
    for count in (8, 32, 128):
        context = np.repeat(np.arange(CONTEXTS), 40)  # the same four prompts, drawn for again and again
        drawn = [
            np.stack([rng.choice(SIZE, p=np.exp(log_p[x]), size=count) for x in context])
            for log_p in (log_policy, log_reference)
        ]
        y, at = np.concatenate(drawn, axis=1), context[:, None]
        said = Verdicts(1.0, wins=wins[at[:, :, None], y[:, :, None], y[:, None, :count]][:, :, None])
        found = estimate((log_policy - log_reference)[at, y], [said], TAU)
        low, high = bootstrap([found.plug_in, found.split], rng)
        assert high[0] >= exact >= low[1]
        assert found.plug_in.mean() > exact > found.split.mean()
        widths.append(found.plug_in.mean() - found.split.mean())
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
