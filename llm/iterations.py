"""What the loop derives for each iteration and player: a configuration of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnpo.llm.config import ALONE, Config, Draft
from mnpo.llm.config.whole import SECTIONS, Place, key_at, place_of
from mnpo.llm.oracles.panel import Panel, build

#: Player -> the policies π^0, π^1, .. so far.
Policies = dict[str, list[str]]


def config_of(config: Config, t: int, player: str, policies: Mapping[str, Sequence[str]]) -> Config:
    """Return the configuration of one iteration of one player.

    Args:
        config: the run.
        t: the iteration, from 1.
        player: its name.
        policies: player -> the policies π^0, .., π^{t−1} so far.

    Raises:
        ValueError: a key of `players` or `schedule` that does not fit.
    """
    draft = Draft(config)
    draft.sections["loop"] = {}
    for given in config.loop.players:
        if str(given.get("name")) == player:
            _change(
                draft, {key: value for key, value in given.items() if key != "name"}, f"player {player}: "
            )
    for start in sorted(config.loop.schedule):
        if start <= t:
            _change(draft, config.loop.schedule[start], f"schedule of iteration {start}: ")
    rivals = [name for name in policies if name != player]
    own = list(policies[player])
    folder = config.folders.home / f"iteration-{t}"
    folders, given_data = config.folders, config.data.dataset_name
    draft.sections["folders"] |= {
        "output_dir": str(folder if player == ALONE else folder / player),
        "samples_dir": str(folders.store("samples")),
        "answers_dir": str(folders.store("answers")),
        "scores_dir": str(folders.store("scores")),
        "encoded_dir": str(folders.store("encoded")),
    }
    draft.sections["model"] |= {
        "model_name_or_path": own[-1],
        "past_models": own[-2::-1],
        "opponent_models": [policies[name][-1] for name in rivals],
        "opponent_names": rivals,
    }
    draft.sections["sampling"]["stream"] = player
    prompts = config.prompts
    if prompts.prompt_dataset_name is None:
        draft.sections["prompts"] |= {
            "prompt_dataset_name": given_data,
            "prompt_dataset_config_name": prompts.prompt_dataset_config_name
            or config.data.dataset_config_name,
            "prompt_dataset_split": prompts.prompt_dataset_split or config.data.dataset_split,
        }
    draft.sections["prompts"] |= {
        "prompt_part": [t, config.loop.iterations] if config.loop.prompt_use == "split" else [1, 1],
    }
    if config.loop.first_pairs != "dataset" or t > 1:
        draft.sections["data"] |= {
            "dataset_name": None, "eval_size": 0, "eval_dataset_name": None, "eval_split": None,
        }  # fmt: skip
    resolved = draft.resolved()
    rule = resolved.update.the_rule()
    # MPO's reference is refreshed by the policy itself.
    since = 0 if rule is None or rule.refresh is None else (t - 1) // rule.refresh * rule.refresh
    reference = own[since] if since else resolved.model.reference_model_name_or_path or own[0]
    depth = 1 if rule is None else rule.depth
    return resolved.having(
        model={
            "reference_model_name_or_path": reference,
            # Those further back are of no use to the rule.
            "past_models": resolved.model.past_models[: depth - 1],
        }
    )


def with_rivals(config: Config, one: Config, player: str, policies: Mapping[str, Sequence[str]]) -> Config:
    """Say whom a player's new policy is compared with, and under which oracles: every player's.

    Args:
        config: the run.
        one: the player's iteration.
        player: its name.
        policies: as for `config_of`, with the new ones.
    """
    reference = config.model.reference_model_name_or_path or policies[player][0]  # MPO's own moves on
    rivals = {"reference": reference, "previous": policies[player][-2]}
    rivals |= {name: found[-1] for name, found in policies.items() if name != player}
    oracles = dict(config.evaluation.eval_oracles)
    if not oracles and config.loop.players:
        oracles = {
            str(given["name"]): given.get("oracle", config.judging.oracle) for given in config.loop.players
        }
    return one.having(
        evaluation={
            "eval_opponents": rivals,
            "eval_oracles": oracles,
            "eval_model": policies[player][-1],
        }
    )


def panel_of(config: Config) -> Panel:
    """Return who judges.

    Raises:
        ValueError: an oracle that cannot be built, or none.
    """
    return build(config.judging.oracle, trust_remote_code=config.model.trust_remote_code)


def check_scopes(config: Config) -> None:
    """Refuse keys where they cannot be given: those that the loop sets, and a player's that are the whole run's.

    Raises:
        ValueError: names the key.
    """
    for section, kind in SECTIONS.items():
        values: dict[str, Any] = getattr(config, section).as_dict()
        for name, value in values.items():
            if value and key_at(Place(section, name)).scope == "iteration" and _given(kind, name, value):
                raise ValueError(f"{name} is set by the loop and cannot be given here")
    for given in config.loop.players:
        _check_keys([key for key in given if key != "name"], f"player {given.get('name')}: ")
    for start, keys in config.loop.schedule.items():
        _check_keys(keys, f"schedule of iteration {start}: ")


def _given(kind: Any, name: str, value: Any) -> bool:
    """Whether a value is another one than the default."""
    return bool(value != getattr(kind, name, None))


def _check_keys(paths: Any, where: str) -> None:
    for path in paths:
        try:
            place = place_of(str(path))
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None
        scope = key_at(place).scope
        if scope != "player":
            what = "set by the loop" if scope == "iteration" else "the same for all players and iterations"
            raise ValueError(f"{where}{place.key} is {what} and cannot be given here")


def _change(draft: Draft, keys: Mapping[str, Any], where: str) -> None:
    _check_keys(keys, where)
    for path, value in keys.items():
        draft.set(path, value)
