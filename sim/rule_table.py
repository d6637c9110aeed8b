"""The update rules as a table, read off the rules themselves."""

from __future__ import annotations

from typing import Any

from mnpo.presets import RULES
from mnpo.rules import describe

#: The numbers with which the table is made: weights show as those of η = 1/2, τ = 0.1.
SAMPLE = {"eta": 0.5, "tau": 0.1}


def rule_rows() -> list[dict[str, Any]]:
    """Return name, paper, anchors, advantage, oracle calls and options of every rule, as plain data.

    `options` holds what a rule takes besides `eta` and `tau`: name -> help, type, choices, required, default.
    """
    rows = []
    for preset in RULES.values():
        rule = preset.build(**{key: value for key, value in SAMPLE.items() if key in preset.options})
        anchors = getattr(rule, "anchors", ())
        credits = getattr(rule, "advantage", ())
        refreshed = f"; reference refreshed every {rule.refresh}" if rule.refresh else ""
        rows.append(
            {
                "name": preset.name,
                "title": preset.title,
                "paper": preset.paper,
                "anchors": ", ".join(f"{describe(anchor)} {weight:g}" for anchor, weight in anchors)
                + refreshed
                or "none",
                "advantage": " + ".join(f"{weight:g} {describe(credit)}" for credit, weight in credits)
                or "accumulated regret",
                "oracle_calls": rule.oracle_calls,
                "unregularised": preset.unregularised,
                "options": {
                    name: option.as_dict() for name, option in preset.options.items() if name not in SAMPLE
                },
            }
        )
    return rows
