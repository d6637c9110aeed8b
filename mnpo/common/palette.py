"""Colours that colour-blind readers can tell apart (Okabe & Ito 2008), and marks to go with them."""

from __future__ import annotations

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
#: What is left over, or not named.
OTHERS = "#BBBBBB"
MARKERS = "osD^vP*X"
