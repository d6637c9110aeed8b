"""What is said of the pairs that a run makes."""

from __future__ import annotations

from mnpo.llm.config import load
from mnpo.llm.preferences.recipes import BIASED, TAUGHT, taught
from mnpo.llm.training.tasks import Task


def test_records_say_what_pairs_teach() -> None:
    """Unbiased is said of those kinds of pairs alone that test_pairing.py beside this finds to be."""

    def said(*overrides: str) -> str:
        config = load("tiny", list(overrides))
        return taught(Task.configured(config.update), config.judging, config.sampling)

    assert said() == TAUGHT["win-rate"]
    assert said("target=label", "pairing=iid") == TAUGHT["label"]
    assert said("target=label", "pairing=iid", "labels=sampled") == TAUGHT["label"]
    for target in ("target=win-rate", "target=label"):
        assert said(target, "pairing=best-worst") == BIASED["best-worst"]
    assert said("pairing=third", "labels=hard") == BIASED["hard"]
    assert said("target=label", "labels=hard") == BIASED["hard"]
    without = {"dpo": "label", "sppo": "win", "rpo": "reward"}
    for objective, lesson in without.items():
        assert said(f"objective={objective}", "rule=null", "pairing=iid") == TAUGHT[lesson]
    assert said("temperature=0.8", "top_p=0.95").endswith("drawn at temperature 0.8, top-p 0.95")
