"""What can be refused before anything is computed: first what needs no heavy library, then the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mnpo.common.given import check_file, user_path
from mnpo.cyclicity import check_size
from mnpo.llm.config import Config
from mnpo.llm.config.whole import Place, key_at
from mnpo.llm.data.made import PREFIX
from mnpo.llm.iterations import check_scopes, config_of, panel_of
from mnpo.llm.oracles.panel import panels_of
from mnpo.llm.preferences.recipes import check
from mnpo.llm.stages.annotators import annotators
from mnpo.llm.stages.gaps import plans
from mnpo.llm.stages.records import NO_JUDGMENTS, NO_PAIRS, NO_SPLITS, PREFERENCES
from mnpo.llm.training.tasks import Task

if TYPE_CHECKING:
    from mnpo.llm.models.job import Job


def check_stage(name: str, config: Config) -> None:
    """Refuse what a stage by itself would refuse later, as far as that takes no time.

    Raises:
        ValueError: says what is wrong.
    """
    _check_places(config)
    if name in ("score", "fit"):
        Task.configured(config.update).anchors(config.model.policies())
    if name == "annotate" or (name == "sample" and config.judging.oracle is not None):
        check(config.model, config.sampling, config.judging, config.update, panel_of(config))
    if name == "evaluate":
        _check_evaluation(config)
    if name == "fit-oracle":
        phases = config.oracle_fit.phases(config.training, config.data)
        if any(data.dataset_name is None for _, _, data in phases):
            raise ValueError(NO_JUDGMENTS)
    if name == "diagnose":
        check_size(config.sampling.num_generations)
        annotators(config.judging, config.loop, trust_remote_code=config.model.trust_remote_code)
    if name in ("fit", "score") and config.data.dataset_name is None:
        _check_eval_split(config)
        if not (config.folders.home / PREFERENCES).is_dir():
            raise ValueError(NO_PAIRS)


def check_run(config: Config) -> None:
    """Refuse what would fail in some iteration of a run, as far as that takes no heavy library.

    Raises:
        ValueError: says what is wrong.
    """
    check_scopes(config)
    _check_places(config)
    if config.loop.first_pairs == "dataset" and config.data.dataset_name is None:
        raise ValueError("first_pairs=dataset needs dataset_name, the pairs of iteration 1")
    if config.prompts.prompt_dataset_name is None and config.data.dataset_name is None:
        raise ValueError("the configuration lacks prompt_dataset_name, the prompts to sample responses for")
    for one in _iterations(config):
        Task.configured(one.update).anchors(one.model.policies())
        panel = panel_of(one)
        _check_evaluation(one)
        if one.data.dataset_name is None:
            _check_eval_split(one)
            check(one.model, one.sampling, one.judging, one.update, panel)


def check_training(config: Config) -> None:
    """Refuse training arguments and adapters that do not fit in some iteration of a run.

    Raises:
        ValueError: says what is wrong.
    """
    from mnpo.llm.training.adapters import check_lora
    from mnpo.llm.training.arguments import check_arguments

    for one in _iterations(config):
        check_arguments(one.training)
        check_lora(one.fit.lora)


def check_with_models(config: Config, job: Job) -> None:
    """Refuse adapters that do not fit the policy's layers, and held-out prompts that are too few or too long.

    Raises:
        ValueError: says what is wrong.
    """
    from mnpo.llm.data.prompts import check_held_out, read_prompts
    from mnpo.llm.stages.fit import check_adapter

    adapters = [one.fit.lora for one in _iterations(config)]
    for place, lora in enumerate(adapters):
        if lora not in adapters[:place]:
            check_adapter(job, lora)
    one = next(_iterations(config))
    # What is refused leaves no files: prompts are kept by the first stage that reads them.
    kept = job.encodings if one.folders.store("encoded").is_dir() else None
    prompts, _ = read_prompts(one.data, one.prompts, job.tokenizer(), one.compute.seed, kept)
    check_held_out(prompts["eval"], one.data.max_length, one.prompts.eval_prompts)


def _iterations(config: Config) -> Iterator[Config]:
    """Yield what every player does in every iteration, as if nothing were trained."""
    names = config.loop.player_names()
    for t in range(1, config.loop.iterations + 1):
        policies = {name: [config.model.model_name_or_path] * t for name in names}
        for name in names:
            yield config_of(config, t, name, policies)


def _check_evaluation(config: Config) -> None:
    trust = config.model.trust_remote_code
    panels = panels_of(config.judging.oracle, config.evaluation.eval_oracles, trust_remote_code=trust)
    plans(config.model, config.sampling, config.judging, config.update, config.evaluation, panels)


def _check_eval_split(config: Config) -> None:
    if config.data.eval_split is not None and config.data.eval_dataset_name is None:
        raise ValueError(NO_SPLITS)


def _check_places(config: Config) -> None:
    """Refuse models, data and templates that are named by a path and are not there."""
    for section, values in config.as_dict().items():
        for name, value in values.items():
            if section == "training" or not value:
                continue
            known = key_at(Place(section, name))
            if known.names_models:
                named = (
                    value.values()
                    if isinstance(value, dict)
                    else value
                    if isinstance(value, list)
                    else [value]
                )
                for model in named:
                    if not model.startswith(PREFIX):
                        _check_model(model)
            if known.names_data:
                _check_data(value)
    template = config.model.chat_template_path
    if template is not None:
        try:
            check_file(user_path(template))
        except ValueError as error:
            raise ValueError(f"chat_template_path: {error}") from None
    _check_gguf(config)


def _check_gguf(config: Config) -> None:
    """Refuse a file that none of the models' folders holds; what a hub holds is not known yet."""
    file, named = config.model.gguf_file, config.model.policies().values()
    folders = [user_path(name) for name in named if not name.startswith(PREFIX)]
    if file is not None and all(folder.is_dir() and not (folder / file).is_file() for folder in folders):
        raise ValueError(f"gguf_file {file}: none of the models' folders holds it")


def _check_model(name: str) -> None:
    path = user_path(name)
    if path.exists() and not path.is_dir():
        raise ValueError(f"model {name} is not a folder")
    if not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise ValueError(f"model {name}: no such folder")


def _check_data(name: str) -> None:
    path = user_path(name)
    looks_local = name[:1] in "./~" or re.search(r"\.(jsonl?|gz|parquet|txt)$", name)
    if not path.exists() and not name.startswith(PREFIX) and looks_local:
        raise ValueError(f"dataset {name}: no such file or folder")
