"""The words of `mnpo llm test-oracle`: which of them are oracles, and which are data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnpo.common.given import user_path
from mnpo.llm.config import Config, Draft, is_configuration, load
from mnpo.llm.config.parsing import NotYaml, parse
from mnpo.llm.config.reading import is_override
from mnpo.llm.oracles.cards import is_fitted
from mnpo.llm.oracles.kinds import names
from mnpo.llm.oracles.synthetic import NAMED

#: Where what is found goes, unless a word says otherwise.
OUTPUT = "runs/oracle-test"


def configured(words: Sequence[str]) -> Config:
    """Return the configuration that words stand for.

    Args:
        words: oracles (a folder with a fitted oracle or a model, a name, or keys and values in braces), data, and
            `key=value`; the first may be a preset or a YAML file.

    Raises:
        ValueError: a word that cannot be read.
    """
    given = [word for word in words if not is_override(word)]
    overrides = [word for word in words if is_override(word)]
    source = given.pop(0) if given and is_configuration(given[0]) else None
    if source is not None:
        draft = Draft(load(source, overrides))
    else:
        draft = Draft({"folders": {"output_dir": OUTPUT}, "model": {"model_name_or_path": "none"}})
        for word in overrides:
            draft.read(word)
    oracles = {name: spec for name, spec in map(_oracle, given) if spec is not None}
    if len(oracles) < sum(_oracle(word)[1] is not None for word in given):
        raise ValueError("two oracles have the same name; name them: {kind: .., name: .., ..}")
    data = [word for word in given if _oracle(word)[1] is None]
    if oracles:
        draft.sections["oracle_test"]["tested_oracles"] = oracles
    if data:
        draft.sections["oracle_test"]["tested_on"] = data
    config = draft.resolved()
    if not config.oracle_test.tested_oracles and config.judging.oracle is None:
        raise ValueError(
            "test-oracle needs an oracle: the folder that fit-oracle left, a name, or {kind: ..}"
        )
    if not config.oracle_test.tested_on and config.data.dataset_name is None:
        raise ValueError("test-oracle needs judgments: a file, a folder or a name on the Hub")
    return config


def _oracle(word: str) -> tuple[str, Any]:
    """Return an oracle's name and what says who it is; None for a word that is no oracle."""
    if word.startswith("{"):
        try:
            spec = parse(word)
        except NotYaml:
            spec = None
        if not isinstance(spec, dict):
            raise ValueError(f"cannot read the oracle {word}; expected {{kind: .., ..}}")
        return str(spec.get("name") or spec.get("model") or spec.get("kind")), spec
    if word in NAMED or word in names():
        return word, word
    path = user_path(word)
    if path.is_dir() and (is_fitted(path) or (path / "config.json").is_file()):
        return path.resolve().name, str(path) if is_fitted(path) else {"kind": "reward", "model": str(path)}
    return word, None
