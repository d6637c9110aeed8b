"""What a policy is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import COLUMNS, Section, key
from mnpo.llm.config.sampling import GENERATIONS


@dataclass(frozen=True, kw_only=True)
class Evaluation(Section):
    """What a policy is compared with, on held-out prompts."""

    eval_model: str | None = key(
        None, "what is tested; what fit left in output_dir unless given", scope="iteration", names_models=True
    )
    eval_opponents: dict[str, str] = key(
        {},
        "name: model; reference, previous and opponents unless given",
        scope="iteration",
        names_models=True,
    )
    eval_oracles: dict[str, Any] = key({}, "name: oracle; oracle unless given", scope="run")
    eval_generations: int = key(1, "responses to each held-out prompt", least=1, most=GENERATIONS)
    eval_gap: bool | None = key(
        None,
        "whether the duality gap is estimated: true, false, or where samples allow it and the oracle is on this "
        "machine or gives rewards",
    )
    eval_tau: float | None = key(None, "the τ of that gap; the rule's unless given", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.eval_opponents:
            if name in COLUMNS:
                raise ValueError(
                    f"eval_opponents must not be called {', '.join(COLUMNS)}, which name other columns of the "
                    f"held-out answers; found {name!r}"
                )
