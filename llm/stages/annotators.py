"""Everybody who judges in a diagnosis."""

from __future__ import annotations

from typing import Any

from mnpo.common.digests import data_digest
from mnpo.llm.config import Judging, Loop
from mnpo.llm.oracles.panel import Member, Panel, build


def annotators(judging: Judging, loop: Loop, *, trust_remote_code: bool = False) -> tuple[list[str], Panel]:
    """Return everybody who judges, and their names: the oracle's members, or all players' oracles'.

    Raises:
        ValueError: an oracle that cannot be built, or none.
    """
    specs: dict[str, Any] = {"": judging.oracle}
    if loop.players:
        specs = {
            str(given["name"]): given.get("oracle", given.get("judging.oracle", judging.oracle))
            for given in loop.players
        }
    members: dict[str, tuple[str, Member]] = {}
    for player, spec in specs.items():
        panel = build(spec, trust_remote_code=trust_remote_code)
        for member in panel.members:
            share = member.weight / len(specs)
            # Players who share an oracle are one annotator.
            content = data_digest([member.oracle.key(), member.oracle.scale])
            name = member.oracle.name
            if player:
                name = player if len(panel.members) == 1 else f"{player}/{name}"
            if content in members:
                name, known = members[content]
                share += known.weight
            members[content] = name, Member(member.oracle, share)
    names = [name for name, _ in members.values()]
    return names, Panel("annotators", tuple(member for _, member in members.values()))
