"""The iterated loop of MNPO: sample, annotate, score, fit and evaluate, for every iteration and player.

Each iteration of a player is one folder with a configuration of its own, on which every stage is also a command.
All players of an iteration start from the policies of the one before. Stages find what they have done already; the
loop only says in which order they come.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mnpo.common.digests import data_digest
from mnpo.common.files import clear_partials
from mnpo.common.progress import Progress
from mnpo.common.seals import read_sealed, write_sealed
from mnpo.llm import iterations, plots
from mnpo.llm.checks import check_run, check_training, check_with_models
from mnpo.llm.config import Config
from mnpo.llm.config.whole import SECTIONS
from mnpo.llm.data.made import PREFIX
from mnpo.llm.iterations import Policies
from mnpo.llm.models.folders import MODEL, find, fingerprint
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.panel import panels_of
from mnpo.llm.preferences.recipes import taught
from mnpo.llm.records import Iteration, Run
from mnpo.llm.stages.identity import data_digests, settings_of
from mnpo.llm.stages.registry import STAGES, keep_config
from mnpo.llm.stages.running import RunStage
from mnpo.llm.storage.manifests import check_same, read_manifest, set_aside, write_manifest
from mnpo.llm.training.tasks import Task

#: Which stages of an iteration are whole, and what they were made of.
DONE = "done.json"

#: Runs a stage unless its record stands and was made of the same.
Once = Callable[[str, Config], Any]


def train(
    config: Config,
    run_stage: RunStage,
    progress: Progress | None = None,
    how: Mapping[str, Any] | None = None,
) -> Run:
    """Run the loop; the same call again goes on where it stopped.

    Args:
        config: the run; everything is written below its `output_dir`.
        run_stage: runs a stage by its name, here or in other processes, and returns its record.
        progress: called while models are made.
        how: what else must be the same for a run to go on, such as the number of processes.

    Returns:
        The record that stands in `<output_dir>/results.json`.

    Raises:
        ValueError: bad input, or an output folder that holds another run; what is done is kept.
    """
    home, loop = config.folders.home, config.loop
    check_run(config)
    check_training(config)
    manifest = {"config": _settings(config, how), "data": data_digests(config)}
    check_same(home, manifest, "run", home, corrected=_not_yet_read(config))
    if Run.foreign(home):
        raise ValueError(f"{home} holds the results of another command; choose another output_dir")
    job = Job.start(config.folders, config.model, config.compute, progress)
    players = loop.player_names()
    policies: Policies = {player: [str(job.policy())] for player in players}
    config = _with_made_models(config, job)
    check_with_models(config, job)
    first = job.processes.first
    if first:
        clear_partials(home)
        _set_aside(home, manifest["config"])
        write_manifest(home, manifest)
        keep_config(config)
    job.processes.wait()
    once = _once(job, run_stage)
    rows: list[Iteration] = []
    teaches = taught(Task.configured(config.update), config.judging, config.sampling)
    for t in range(1, loop.iterations + 1):
        configs = {player: iterations.config_of(config, t, player, policies) for player in players}
        made = {player: _update(configs[player], once, first) for player in players}
        for player in players:
            policies[player].append(str(configs[player].folders.home / MODEL))
        for player in players:
            tested = iterations.with_rivals(config, configs[player], player, policies)
            if first:
                keep_config(tested)
            made[player]["evaluate"] = once("evaluate", tested)
            rows.append(Iteration.of(t, player, policies[player][-1], made[player]))
        record = Run(iterations=rows, players=players, teaches=teaches)
        if first:
            record.write(home)
            for player in players:
                # A checkpoint's optimizer is of no use once the iteration is whole.
                for checkpoint in (configs[player].folders.home / "fit").glob("checkpoint-*"):
                    shutil.rmtree(checkpoint)
    if first:
        plots.draw(record.as_dict(), home)
    job.processes.wait()
    return record


def _update(config: Config, once: Once, first: bool) -> dict[str, Any]:
    """Run an iteration's stages up to the new policy; return their records."""
    if first:
        keep_config(config)
    stages = ["sample", "annotate", "fit"] if config.data.dataset_name is None else ["fit"]
    return {stage: once(stage, config) for stage in stages}


def _once(job: Job, run_stage: RunStage) -> Once:
    """Return what runs a stage unless its record stands and was made of the same."""

    def state(name: str, one: Config) -> list[Any]:
        record = STAGES[name].finished(one)
        return [_inputs(name, one), None if record is None else data_digest(record.as_dict())]

    def whole(name: str, one: Config) -> bool:
        done, record = (read_sealed(one.folders.home / DONE) or {}).get(name), STAGES[name].finished(one)
        if record is None or done != state(name, one):
            return False
        return record.intact(one.folders.home)

    def once(name: str, one: Config) -> Any:
        if job.processes.agree(lambda: whole(name, one)):
            return STAGES[name].finished(one)
        record = run_stage(name, one)
        if job.processes.first:
            home = one.folders.home
            write_sealed(home / DONE, (read_sealed(home / DONE) or {}) | {name: state(name, one)})
        job.processes.wait()
        return record

    return once


def _inputs(name: str, config: Config) -> str:
    """A digest of what a stage is made of: the sections that it reads, and the data and models that they name."""
    reads = STAGES[name].reads
    sections = {section: getattr(config, section) for section in reads}
    named = dict(config.model.policies())
    oracles = []
    if "evaluation" in reads:
        named |= config.evaluation.eval_opponents
        named["tested"] = config.evaluation.eval_model or config.model.model_name_or_path
        panels = panels_of(
            config.judging.oracle,
            config.evaluation.eval_oracles,
            trust_remote_code=config.model.trust_remote_code,
        )
        oracles = [member.oracle.key() for panel in panels.values() for member in panel.members]
    elif "judging" in reads:
        panel = iterations.panel_of(config)
        oracles = [member.oracle.key() for member in panel.members]
    found = {who: fingerprint(find(model)) for who, model in named.items() if not model.startswith(PREFIX)}
    return data_digest(settings_of(sections), data_digests(config), found, oracles)


def _set_aside(home: Path, settings: Mapping[str, Any]) -> None:
    """Rename the fits that are not whole and were begun with other settings: they begin anew."""
    there = (read_manifest(home) or {}).get("config", settings)
    changed = {key for key in {*there, *settings} if there.get(key) != settings.get(key)}
    if not {key.partition(".")[0] for key in changed} & set(STAGES["fit"].reads):
        return
    for pattern in ("iteration-*/fit", "iteration-*/*/fit"):
        for folder in home.glob(pattern):
            if "fit" not in (read_sealed(folder.parent / DONE) or {}):
                set_aside(folder)


def _settings(config: Config, how: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what must be the same for a run to go on."""
    return settings_of({name: getattr(config, name) for name in SECTIONS}) | dict(how or {})


def _not_yet_read(config: Config) -> Callable[[str], bool]:
    """Return what tells whether a key may be corrected, since no stage that is whole depends on it."""
    done = [read_sealed(file) or {} for file in config.folders.home.glob(f"iteration-*/**/{DONE}")]
    whole = {name for stages in done for name in stages}
    read = {section for name in whole if name in STAGES for section in STAGES[name].reads}
    if whole:
        read |= {"loop"}

    def corrected(key: str) -> bool:
        section, _, name = key.partition(".")
        if section == "training" and "compute" in read and name in ("seed", "use_cpu", "bf16", "fp16"):
            return False
        return section in SECTIONS and section not in read

    return corrected


def _with_made_models(config: Config, job: Job) -> Config:
    """Make the small models that are named, once for all iterations."""

    def made(name: str) -> str:
        return str(job.find(name)) if name.startswith(PREFIX) else name

    reference = config.model.reference_model_name_or_path
    return config.having(
        model={
            "reference_model_name_or_path": None if reference is None else made(reference),
            "external_models": [made(name) for name in config.model.external_models],
        }
    )
