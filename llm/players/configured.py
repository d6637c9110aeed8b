"""The words of `mnpo llm tournament`: who plays, and the configuration that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnpo.common.given import user_path
from mnpo.llm.config import Config, Draft, is_configuration, load
from mnpo.llm.config.reading import is_override
from mnpo.llm.players.words import iterations, named

#: Where what is found goes, unless a word says otherwise.
OUTPUT = "runs/tournament"
#: What a run's own configuration says that is not the tournament's.
_OWN = ("folders", "loop")


def configured(words: Sequence[str]) -> Config:
    """Return the configuration that words stand for.

    Args:
        words: players (see `mnpo.llm.players.words.named`) and `key=value`; the first may be a preset or a YAML
            file. Without one, a run among the players gives its configuration: its oracles, how it samples, and its
            held-out prompts unless others are named.

    Raises:
        ValueError: a word that cannot be read.
    """
    given = [word for word in words if not is_override(word)]
    overrides = [word for word in words if is_override(word)]
    source = given.pop(0) if given and is_configuration(given[0]) else None
    run = next((word for word in given if iterations(word)), None)
    if source is not None:
        draft = Draft(load(source))
    elif run is not None:
        draft = _of_run(user_path(run), overrides)
    else:
        draft = Draft({"model": {"model_name_or_path": "none"}})
    if source is None:
        draft.sections["folders"] = {"output_dir": OUTPUT}
    for word in overrides:
        draft.read(word)
    if given:
        draft.sections["contest"]["entrants"] = named(given)
    config = draft.resolved()
    if len(config.contest.entrants) < 2:
        found = ", ".join(config.contest.entrants) or "none"
        raise ValueError(f"a tournament needs at least two players; found {found}")
    return config


def _of_run(run: Path, overrides: Sequence[str]) -> Draft:
    """Begin with a run's configuration: judged by whom it was evaluated by, on its held-out prompts."""
    config = load(str(run / "config.yaml"))
    draft = Draft(config)
    for section in _OWN:
        draft.sections[section] = {}
    held = not any(word.partition("=")[0].rpartition(".")[2] == "prompt_dataset_name" for word in overrides)
    draft.sections["tournament"] |= {
        "tournament_oracles": config.evaluation.eval_oracles,
        "tournament_prompts": "held-out" if held else "all",
        "tournament_generations": config.evaluation.eval_generations,
    }
    return draft
