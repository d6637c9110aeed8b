"""Keys that somebody gives and that nothing reads under what else is given: told before a run begins.

A typing error in a long run is not to be found after it. What a preset says is not the user's word, and a run whose
players or schedule change keys on the way is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from mnpo.llm.config import Config, Draft
from mnpo.llm.config.whole import Place
from mnpo.llm.models.folders import MODEL
from mnpo.llm.preferences.recipes import sampled_models
from mnpo.oracle_objectives import REGRESSION


class Reader(NamedTuple):
    """What reads some keys.

    Attributes:
        keys: their names.
        reads: whether it does, in a configuration.
        who: what they are for.
    """

    keys: tuple[str, ...]
    reads: Callable[[Config], bool]
    who: str


def _has_rule(config: Config) -> bool:
    return config.update.the_objective()[0].anchor == "rule"


def _looks_back(config: Config) -> bool:
    rule = config.update.the_rule() if _has_rule(config) and config.update.rule is not None else None
    return rule is not None and rule.depth > 1


#: Keys that only some configurations read, each said once.
READERS = (
    Reader(("rule", "target"), _has_rule, "for objectives of MNPO, such as objective=mnpo"),
    Reader(("past_models",), _looks_back, "for rules that look back, such as rule=td-mnpo"),
    Reader(
        ("opponent_generations",),
        lambda c: bool(_has_rule(c) and c.update.rule is not None and sampled_models(c.model, c.update)),
        "for rules whose advantage is against other policies",
    ),
    Reader(("top_p",), lambda c: c.sampling.temperature > 0, "for a temperature above 0"),
    Reader(("vllm",), lambda c: c.sampling.sampler == "vllm", "for sampler=vllm"),
    Reader(
        ("per_device_generation_batch_size",),
        lambda c: c.sampling.sampler != "vllm",
        "for sampler=transformers: vLLM makes batches itself",
    ),
    Reader(("eval_tau",), lambda c: c.evaluation.eval_gap is not False, "for the duality gap; eval_gap is false"),
    Reader(
        ("attributes", "attribute_weights"), lambda c: REGRESSION in c.oracle_fit.objectives,
        "for oracle_objective=regression",
    ),
    Reader(
        ("embedding_pairs",), lambda c: c.oracle_fit.oracle_kind == "embedding", "for oracle_kind=embedding"
    ),
    Reader(
        ("pairwise_template",), lambda c: c.oracle_fit.oracle_kind == "pairwise", "for oracle_kind=pairwise"
    ),
    Reader(
        ("annotator_parts", "annotator_labels"), lambda c: c.oracle_fit.per_annotator, "for per_annotator=true"
    ),
    Reader(
        ("test_sets",), lambda c: c.oracle_test.test_set_size > 0, "for cycles; test_set_size is 0"
    ),
    Reader(("against",), lambda c: bool(c.contest.entrants), "for tournaments"),
)  # fmt: skip


def idle(config: Config, given: Collection[Place]) -> Iterator[str]:
    """Yield a line for each key that is given and that nothing reads.

    Args:
        config: resolved.
        given: what the user's own file and words name.
    """
    if config.loop.players or config.loop.schedule:
        return
    usual = Draft({"output_dir": "-", "model_name_or_path": "-"}).resolved()
    sections = {place.key: place.section for place in given}
    for keys, reads, who in READERS:
        for key in keys:
            section = sections.get(key)
            if section is None or getattr(getattr(config, section), key) == getattr(
                getattr(usual, section), key
            ):
                continue
            if not reads(config):
                yield f"{key} has no effect here; it is {who}"


def whom_it_tests(config: Config) -> Iterator[str]:
    """Yield a line on whom an evaluation tests where nobody says and nothing was fitted."""
    home, policy = config.folders.home, config.model.model_name_or_path
    if config.evaluation.eval_model is None and not (home / MODEL).is_dir():
        yield f"nothing was fitted into {home}: {policy} itself is tested (model_name_or_path)"
