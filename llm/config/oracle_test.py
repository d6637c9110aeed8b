"""Which oracles are tested on which judgments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import Section, key


@dataclass(frozen=True, kw_only=True)
class OracleTest(Section):
    """What `mnpo llm test-oracle` tests."""

    tested_oracles: dict[str, Any] = key({}, "name: oracle; oracle unless given", scope="run")
    tested_on: list[str] = key([], "judgments; dataset_name unless given", scope="run")
    test_set_size: int = key(
        6,
        "responses to one prompt of which all pairs are asked about, to look for cycles; 0 for none",
        least=0,
        most=1000,
    )
    test_sets: int = key(200, "so many prompts at most are looked at for cycles", least=1)
    recalibrate: bool = key(
        False, "whether fitted oracles are given the scale that fits these judgments best"
    )
