"""The same update rules on language models.

    from mnpo.llm import PairTrainer
    trainer = PairTrainer(model, args, train_dataset=data, processing_class=tokenizer, objective="dpo",
                          anchors={"reference": reference})
    trainer.train()

What is here for notebooks: docs/guides/notebooks.md. Names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnpo.llm.api import run_stage, train
    from mnpo.llm.config import Config
    from mnpo.llm.config import load as load_config
    from mnpo.llm.oracles.base import Question, TextOracle
    from mnpo.llm.training.logprobs import sequence_log_probs
    from mnpo.llm.training.losses import pair_losses
    from mnpo.llm.training.trainer import PairTrainer
    from mnpo.objectives import Pairs

__all__ = [
    "Config",
    "PairTrainer",
    "Pairs",
    "Question",
    "TextOracle",
    "load_config",
    "pair_losses",
    "run_stage",
    "sequence_log_probs",
    "train",
]

_HOMES = {
    "Config": "mnpo.llm.config",
    "PairTrainer": "mnpo.llm.training.trainer",
    "Pairs": "mnpo.objectives",
    "Question": "mnpo.llm.oracles.base",
    "TextOracle": "mnpo.llm.oracles.base",
    "load_config": "mnpo.llm.config.reading:load",
    "pair_losses": "mnpo.llm.training.losses",
    "run_stage": "mnpo.llm.api",
    "sequence_log_probs": "mnpo.llm.training.logprobs",
    "train": "mnpo.llm.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, there = _HOMES[name].partition(":")
    value = getattr(import_module(home), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
