"""How far preferences are from a Bradley–Terry model: cyclicity, cyclic triples and Condorcet winners.

docs/concepts.md, (17), says what they are. They are taken on the responses to one prompt, all pairs alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from mnpo.numerics import Array, as_array, as_weights
from mnpo.oracles import Pairwise

#: Probabilities nearer to 0 or 1 than this are taken as this: a certain win is a logit of 13.8.
CERTAIN = 1e-6
#: Steps of the bisection for a scale.
_HALVINGS = 12
#: Draws of a prompt's labels in each of them.
_REPETITIONS = 48
#: What rounding leaves of a cyclic part that is 0, as a share of ‖L‖².
_ROUNDING = 1e-20


@dataclass(frozen=True, eq=False)
class Cyclicity:
    """How non-transitive win matrices are, each (...,) for matrices (..., K, K).

    Attributes:
        share: ‖L − grad‖²/‖L‖² in [0, 1], 0 if and only if P is a Bradley–Terry model; 0 where all pairs are even.
        triples: the share of triples of responses that go round in a circle.
        winner: whether there is a Condorcet winner, a response that no other beats.
        utilities: g, (..., K): the gradient part of the logits is g_i − g_j.
    """

    share: Array
    triples: Array
    winner: npt.NDArray[np.bool_]
    utilities: Array


def cyclicity(wins: npt.ArrayLike, *, labels: int | None = None) -> Cyclicity:
    """Split the logits of P into a gradient and a cyclic part (HodgeRank; Jiang, Lim, Yao & Ye 2011).

    Args:
        wins: P(row ≻ column), (K, K) or (..., K, K), with P + Pᵀ = 1. Its logits are those of probabilities that
            are clipped to [`CERTAIN`, 1 − `CERTAIN`].
        labels: m, if P is the share of m binary labels of each pair. Then logits are log (w + ½)/(m − w + ½), w
            wins of m, which is finite where all labels agree.

    Raises:
        ValueError: fewer than three responses, numbers that are no probabilities, or m below 1.
    """
    matrix = as_wins(wins)
    return _of_logits(_logits(matrix, labels), matrix)


def transitive(utilities: npt.ArrayLike) -> Cyclicity:
    """Return what `cyclicity` says of Bradley–Terry models, from utilities of any scale, (..., K)."""
    known = as_array(utilities, "utilities")
    gaps = known[..., :, None] - known[..., None, :]
    return _of_logits(gaps, expit(gaps))


def labelled(utilities: npt.ArrayLike, labels: int, rng: np.random.Generator) -> Cyclicity:
    """Draw m binary labels of each pair from a Bradley–Terry model, and return how cyclic they are by noise alone.

    Args:
        utilities: g, (..., K); of what was labelled itself: see `denoised`.
        labels: m.
        rng: draws labels.

    Raises:
        ValueError: m below 1.
    """
    _check_labels(labels)
    known = as_array(utilities, "utilities")
    size = known.shape[-1]
    chances = expit(known[..., :, None] - known[..., None, :])
    upper = np.triu(np.ones((size, size), dtype=bool), 1)
    drawn = rng.binomial(labels, chances) / labels
    matrix = np.where(upper, drawn, np.where(upper.T, 1 - drawn.swapaxes(-1, -2), 0.5))
    return _of_logits(_logits(matrix, labels), matrix)


def denoised(
    utilities: npt.ArrayLike, labels: int, rng: np.random.Generator, *, together: bool = False
) -> Array:
    """Scale the gradient part of noisy logits so that labels drawn from it have a gradient part as large as theirs.

    Noise spreads utilities, and half a label more on each side draws them together. Without the scale labels of a
    fair coin would seem more cyclic than noise explains.

    Args:
        utilities: g of labels, (..., K).
        labels: m.
        rng: draws labels.
        together: whether one scale serves all prompts. A scale for each takes a prompt that is clear by luck for a
            clear one; one for all takes prompts that differ in how clear they are for alike.

    Returns:
        (..., K).
    """
    known = as_array(utilities, "utilities")
    wanted = (known**2).mean(axis=-1)
    wanted = np.asarray(wanted.mean()) if together else wanted
    seed = int(rng.integers(2**63))
    repeated = np.broadcast_to(known, (_REPETITIONS, *known.shape))

    def short(scale: Array) -> npt.NDArray[np.bool_]:
        drawn = labelled(scale[..., None] * repeated, labels, np.random.default_rng(seed))
        spread = (drawn.utilities**2).mean(axis=(0, -1))
        return np.asarray((spread.mean() if together else spread) < wanted)

    low, high = np.zeros(wanted.shape), np.full(wanted.shape, 8.0)
    noise_alone = ~short(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = short(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(noise_alone, 0.0, low)[..., None] * known


def strongest_cycle(wins: npt.ArrayLike) -> tuple[int, int, int] | None:
    """Return the circle i ≻ j ≻ k ≻ i of a matrix (K, K) whose closest pair is clearest; None without one."""
    matrix = as_array(wins, "wins")
    clear = np.where((matrix > 0.5) & ~np.eye(len(matrix), dtype=bool), matrix, 0.0)
    closest = np.minimum(np.minimum(clear[:, :, None], clear[None]), clear.T[:, None, :])
    best = int(closest.argmax())
    if not closest.flat[best]:
        return None
    i, j, k = (int(place) for place in np.unravel_index(best, closest.shape))
    return i, j, k


def disagreement(wins: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Array:
    """Return the share of pairs of responses that two annotators order differently, mean over pairs of annotators.

    Args:
        wins: (V, ..., K, K), of V annotators.
        weights: (V,); a pair of annotators counts as the product of theirs. All alike unless given.

    Returns:
        (...); 0 for one annotator. Who finds a pair even orders it like everybody.

    Raises:
        ValueError: weights that are no V numbers of at least 0.
    """
    matrix = as_array(wins, "wins")
    annotators, size = matrix.shape[0], matrix.shape[-1]
    shares = as_weights(weights, annotators, "weights")
    pairs = (1 - (shares**2).sum()) / 2
    if annotators < 2 or pairs <= 0:
        return np.zeros(matrix.shape[1:-2])
    first, second = np.triu_indices(size, 1)
    signs = np.sign(matrix[..., first, second] - 0.5)
    # Σ_{v<w} w_v w_w [s_v s_w = −1]: half the product of those who say 1 and those who say −1, either way.
    sides = [np.tensordot(shares, signs == side, axes=1) for side in (1, -1)]
    return np.asarray((sides[0] * sides[1]).mean(-1) / pairs)


def as_wins(wins: npt.ArrayLike) -> Array:
    """Return win matrices of at least three responses, checked, (..., K, K).

    Raises:
        ValueError: a hole (a pair that was not judged), fewer than three responses, or what `Pairwise` refuses.
    """
    given = np.asarray(wins)
    if given.dtype.kind == "f" and np.isnan(given).any():
        where = [int(place) for place in np.argwhere(np.isnan(given))[0]]
        raise ValueError(
            f"wins must have no holes; found a pair that was not judged, at index {where}; judge every pair"
        )
    shape = np.shape(given)
    matrix = Pairwise(given).matrix
    check_size(matrix.shape[-1])
    return matrix if len(shape) > 2 else matrix[0]


def check_size(responses: int) -> None:
    """Refuse prompts with too few responses.

    Raises:
        ValueError: fewer than three.
    """
    if responses < 3:
        raise ValueError(f"a prompt must have at least 3 responses, as a cycle needs them; found {responses}")


def _check_labels(labels: int) -> None:
    if isinstance(labels, bool) or not isinstance(labels, int | np.integer) or labels < 1:
        raise ValueError(f"labels must be an integer of at least 1; found {labels!r}")


def _logits(matrix: Array, labels: int | None) -> Array:
    if labels is None:
        kept = np.clip(matrix, CERTAIN, 1 - CERTAIN)
    else:
        _check_labels(labels)
        kept = (labels * matrix + 0.5) / (labels + 1)
    # 1 − P is taken from the transpose, where it stands with all its digits.
    logits = np.log(kept)
    return np.asarray(logits - logits.swapaxes(-1, -2))


def _of_logits(logits: Array, matrix: Array) -> Cyclicity:
    size = logits.shape[-1]
    utilities = logits.mean(-1)
    whole = (logits**2).sum((-2, -1))
    cyclic = ((logits - utilities[..., :, None] + utilities[..., None, :]) ** 2).sum((-2, -1))
    share = np.divide(cyclic, whole, out=np.zeros_like(whole), where=whole > 0)
    share[share < _ROUNDING] = 0.0
    beats = (matrix > 0.5).astype(np.float64)
    circles = np.einsum("...ij,...ji->...", beats @ beats, beats) / 3
    return Cyclicity(
        share=np.minimum(share, 1.0),
        triples=circles / (size * (size - 1) * (size - 2) / 6),
        winner=np.asarray((matrix >= 0.5).all(-1).any(-1)),
        utilities=utilities,
    )
