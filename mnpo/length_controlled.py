"""Length-controlled win rates: what a model would win if its answers were as long as the baseline's.

AlpacaEval 2 (Dubois et al., 2404.04475). The judge's preference is a logistic regression on who answered, on the
difference of lengths and on how difficult the instruction is; the second term is then left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from mnpo.logistic import logistic
from mnpo.numerics import Array, as_array

#: The weight of a row of a gamed baseline, of which there are two: they teach what length alone is worth.
GAMED = 0.1


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers beside the baseline's, (N,) each.

    Attributes:
        preference: how likely the judge prefers the model's, from 0 to 1.
        length_model, length_baseline: in characters.
        difficulty: d_x of each instruction.
    """

    preference: Array
    length_model: Array
    length_baseline: Array
    difficulty: Array

    def __post_init__(self) -> None:
        names = ("preference", "length_model", "length_baseline", "difficulty")
        columns = {name: as_array(getattr(self, name), name) for name in names}
        shape = columns["preference"].shape
        if len(shape) != 1 or not shape[0] or any(column.shape != shape for column in columns.values()):
            raise ValueError("preference, lengths and difficulty must be lists of the same length, not empty")
        if columns["preference"].min() < 0 or columns["preference"].max() > 1:
            raise ValueError("preference must lie in [0, 1]")
        for name, column in columns.items():
            object.__setattr__(self, name, column)

    @property
    def length(self) -> Array:
        """tanh((len_baseline − len_model)/sd), sd over these answers (ddof 1); 0 where all are alike."""
        gap = self.length_baseline - self.length_model
        deviation = gap.std(ddof=1) if gap.size > 1 else 0.0
        return np.tanh(gap / deviation) if deviation > 0 else np.zeros_like(gap)

    @property
    def win_rate(self) -> float:
        """The raw win rate, from 0 to 1."""
        return float(self.preference.mean())


@dataclass(frozen=True)
class Coefficients:
    """p_x = σ(θ + φ·tanh(..) + γ·d_x)."""

    theta: float
    phi: float
    gamma: float

    def win_rate(self, difficulty: npt.ArrayLike) -> float:
        """Return the length-controlled win rate, mean_x σ(θ + γ d_x), from 0 to 1."""
        return float(expit(self.theta + self.gamma * as_array(difficulty, "difficulty")).mean())


def fit(model: Answers, gamed: list[Answers]) -> Coefficients:
    """Fit the regression by Newton's method, with soft labels.

    Args:
        model: whose θ is wanted.
        gamed: the baselines that answer with the same model at other lengths; they have no θ.

    Raises:
        ValueError: preferences that no finite coefficients fit best.
    """
    parts = [(model, 1.0, 1.0), *((one, 0.0, GAMED) for one in gamed)]
    table = np.concatenate(
        [np.stack([np.full(one.length.size, who), one.length, one.difficulty], 1) for one, who, _ in parts]
    )
    said = np.concatenate([one.preference for one, _, _ in parts])
    weights = np.concatenate([np.full(one.length.size, weight) for one, _, weight in parts])
    used = (
        np.abs(table).max(0) > 0
    )  # without differences of length, or of difficulty, nothing is known of them
    found = np.zeros(3)
    try:
        found[used] = logistic(table[:, used], said, weights)
    except ValueError as error:
        raise ValueError(f"{error}: the judge always prefers one side") from None
    return Coefficients(*found.tolist())


def standard_error(preference: npt.ArrayLike) -> float:
    """Return the standard error of a raw win rate, over instructions (ddof 1)."""
    values = as_array(preference, "preference")
    return float(values.std(ddof=1) / np.sqrt(values.size))
