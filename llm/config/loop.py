"""How iterations follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import RESERVED, Section, key

#: The one player of a game whose players are alike.
ALONE = "policy"


@dataclass(frozen=True, kw_only=True)
class Loop(Section):
    """The iterations and players of mnpo llm train."""

    iterations: int = key(3, "how many iterations, T", scope="run", least=1, most=1000)
    first_pairs: str = key(
        "sampled", "what iteration 1 trains on: sampled pairs, or dataset, those of dataset_name", scope="run",
        choices=("sampled", "dataset"),
    )  # fmt: skip
    prompt_use: str = key(
        "split", "split over the iterations, or all in each", scope="run", choices=("split", "all")
    )
    players: list[dict[str, Any]] = key(
        [], "of a heterogeneous game: [{name, oracle, ..}, ..], with any keys that differ from the run's",
        scope="run",
    )  # fmt: skip
    schedule: dict[int, dict[str, Any]] = key(
        {}, "iteration: keys that change from then on, such as {2: {rule.eta: 100}}", scope="run"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(player, dict) for player in self.players):
            raise ValueError("players must be a list of keys and values: [{name: a, oracle: ..}, ..]")
        if not all(isinstance(t, int) and isinstance(keys, dict) for t, keys in self.schedule.items()):
            raise ValueError("schedule must give keys for iterations: {2: {rule.eta: 100}}")
        for start in self.schedule:
            if not 1 <= start <= self.iterations:
                raise ValueError(f"schedule names iterations from 1 to {self.iterations}; found {start}")
        self.player_names()

    def player_names(self) -> list[str]:
        """Return the players' names.

        Raises:
            ValueError: players without names, with names that are no folder names, or that share one.
        """
        if not self.players:
            return [ALONE]
        if len(self.players) < 2:
            raise ValueError("players must be at least 2, or left out for players that are alike; found 1")
        names = [str(player.get("name", "")) for player in self.players]
        for name in names:
            taken = name in RESERVED or name.startswith(("past-", "opponent-", "external-"))
            if taken or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(
                    f"each player needs a name of letters and digits, not one in use; found {name!r}"
                )
        if len(set(names)) < len(names):
            raise ValueError(f"players must have different names; found {', '.join(names)}")
        return names
