"""Colours are told apart by those who see them otherwise, and by everybody else."""

import itertools

import numpy as np

from mnpo.common.palette import MARKERS, OTHERS, PALETTE

#: What people without red cones, and without green ones, see (Viénot, Brettel & Mollon 1999), on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    "deuteranopia": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
}


def linear(colour):
    rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def test_no_two_colours_look_alike():
    for seen in DEFICIENCIES.values():
        for one, other in itertools.combinations(PALETTE, 2):
            assert np.abs(seen @ linear(one) - seen @ linear(other)).max() > 0.05, (one, other)


def test_every_colour_has_a_mark_of_its_own():
    assert len(MARKERS) == len(set(MARKERS)) == len(PALETTE)
    assert OTHERS not in PALETTE
