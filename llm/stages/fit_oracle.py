"""The stage that fits an oracle of one's own: a reward, pairwise or embedding model, or a population of them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mnpo.calibration import calibration, fitted_scale
from mnpo.common.digests import data_digest
from mnpo.common.files import clear_partials, whole_folder
from mnpo.common.progress import Progress
from mnpo.common.seals import damage, seal
from mnpo.llm.config import Data, Fit, Folders, Models, OracleFit, Training
from mnpo.llm.data.pairs import Report
from mnpo.llm.data.sources import content_of
from mnpo.llm.fitting import starting
from mnpo.llm.fitting.encoding import encoded_judgments, reader
from mnpo.llm.fitting.selecting import Judgments, annotators_in, annotators_of, judgments_for
from mnpo.llm.models.folders import MODEL
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import load_tokenizer, merged
from mnpo.llm.oracles.cards import Annotator, Card, Population
from mnpo.llm.oracles.pairwise import CHOICES
from mnpo.llm.runtime.fresh import Beginning
from mnpo.llm.runtime.memory import release
from mnpo.llm.stages.identity import settings_of
from mnpo.llm.stages.records import NO_JUDGMENTS, Fits, FittedOracle, FittedPart, Phase
from mnpo.llm.storage.manifests import MANIFEST, check_same, set_aside_if_unknown, write_manifest
from mnpo.llm.training.adapters import check_lora, with_adapter
from mnpo.llm.training.arguments import check_arguments, training_arguments
from mnpo.llm.training.checkpoints import drop_partial, last_checkpoint
from mnpo.llm.training.oracle_tasks import OracleTask
from mnpo.llm.training.oracle_trainer import OracleTrainer
from mnpo.llm.training.running import LetGo, save, show_progress
from mnpo.numerics import Array
from mnpo.oracle_objectives import RANKINGS

#: Where fits stand while they go on, in the output folder, and where annotators' models stand.
FITS, ANNOTATORS = "oracle-fit", "annotators"
#: Objectives that are likelihoods of what was said: their logits are those of probabilities as they are.
LIKELIHOODS = ("bradley-terry", *RANKINGS)
#: By which held-out comparisons are looked at.
_COMPARES = "bradley-terry"


def fit_oracle(
    folders: Folders,
    model: Models,
    data: Data,
    oracle_fit: OracleFit,
    fit: Fit,
    training: Training,
    progress: Progress | None = None,
) -> FittedOracle:
    """Fit an oracle to judgments; it stands in `<output_dir>/model`, or for each annotator in `annotators`.

    The same call again resumes at the last whole checkpoint, or returns what is done.

    Args:
        folders: everything is written below `output_dir`.
        model: the policy whose body the oracle starts from.
        data: the judgments.
        oracle_fit, fit, training: what is fitted, and how.
        progress: called as the work goes on.

    Raises:
        ValueError: bad input, a loss that is not finite, or an output folder that holds another fit.
    """
    begun, home = time.monotonic(), folders.home
    if (home / MANIFEST).is_file():
        raise ValueError(f"{home} holds a run of mnpo llm train; choose another output_dir")
    sections = {"model": model, "data": data, "oracle_fit": oracle_fit, "fit": fit, "training": training}
    manifest: dict[str, Any] = {
        "config": settings_of(sections),
        "data": _contents(data, oracle_fit, training),
    }
    job = Job.start(folders, model, training.compute, progress)
    job.processes.agree(lambda: set_aside_if_unknown(home / FITS, home / MODEL, home / ANNOTATORS))
    if (home / FITS).is_dir():
        check_same(home / FITS, manifest, "fit-oracle", home)
    done = FittedOracle.read(home)
    if done is not None and (home / FITS).is_dir() and done.intact(home) and _readable(done, home):
        return replace(done, resumed="complete")
    try:
        record = _Fitter(job, data, oracle_fit, fit, training).all(manifest, begun)
    finally:
        release()
    if job.processes.first:
        shutil.rmtree(home / starting.START, ignore_errors=True)
        record.write(home)
    job.processes.wait()
    return record


def _readable(done: FittedOracle, home: Path) -> bool:
    """Tell whether what says how the oracles are read stands as it was written."""
    named = any(part.annotator is not None for part in done.parts)
    cards = [Card.read(model) for model in done.models(home)]
    return None not in cards and (not named or Population.read(home) is not None)


@dataclass(frozen=True)
class _Source:
    """The judgments of one phase: those to train on, those that are held out, and the comparisons among these."""

    train: Judgments
    held: Judgments | None
    compared: Judgments | None

    @property
    def everybody(self) -> list[str]:
        """Who judged, judgment by judgment."""
        parts = [part for part in (self.train, self.held) if part is not None]
        return [name for part in parts for name in part.annotators.tolist()]

    def of(self, annotator: str) -> _Source:
        """Return one annotator's.

        Raises:
            ValueError: there are none to train on.
        """
        found = [
            None if part is None else part.take(part.annotators == annotator)
            for part in (self.train, self.held, self.compared)
        ]
        train, held, compared = (part if part is not None and len(part) else None for part in found)
        if train is None:
            raise ValueError(
                f"annotator {annotator} has no judgment to train on; eval_size holds all of them out"
            )
        return _Source(train, held, compared)


@dataclass(frozen=True)
class _Part:
    """What is fitted by itself: everybody's oracle, or an annotator's."""

    name: str
    annotator: str | None
    target: Path


class _Fitter:
    """All fits of one call."""

    def __init__(self, job: Job, data: Data, wanted: OracleFit, fit: Fit, training: Training) -> None:
        self._job, self._data, self._wanted, self._lora = job, data, wanted, fit.lora
        self._phases = wanted.phases(training, data)
        self._reports: dict[str, dict[str, Any]] = {}
        self._beginning, self._fits, self._distributed = Beginning(), 0, "NO"
        self._fit_folder = job.home / FITS

    def all(self, manifest: Mapping[str, Any], begun: float) -> FittedOracle:
        """Fit everything that is not fitted, and write what says how the oracle is read."""
        job, wanted = self._job, self._wanted
        if job.processes.first:
            clear_partials(job.home)
        check_lora(self._lora)
        for _, training, _ in self._phases:
            check_arguments(training)
        heads: dict[str, int] = {}
        if wanted.per_annotator and wanted.annotator_parts == "head":
            named = job.processes.agree(lambda: annotators_in(self._phases[-1][2], wanted))
            heads = {name: place for place, name in enumerate(named)}
        outputs = starting.outputs_of(wanted, list(heads))
        start = starting.start(job, wanted, outputs)
        tokenizer = load_tokenizer(start)
        oracle = reader(wanted, start, job.model.trust_remote_code, self._data.max_length)
        choices = oracle.choice_ids(tokenizer) if wanted.oracle_kind == "pairwise" else None
        sources = [self._source(oracle, tokenizer, list(heads), *phase) for phase in self._phases]
        whole = sources[-1].everybody
        labels = annotators_of(whole, wanted.annotator_labels) if wanted.per_annotator else {}
        if job.processes.first:
            write_manifest(self._fit_folder, manifest)
        job.processes.wait()
        parts = [_Part("all", None, job.home / MODEL)]
        if labels and not heads:
            folders = {name: _folder_of(place, name) for place, name in enumerate(labels, 1)}
            parts = [_Part(own, name, job.home / ANNOTATORS / own) for name, own in folders.items()]
        fitted: list[FittedPart] = []
        for part in parts:
            theirs = sources if part.annotator is None else [source.of(part.annotator) for source in sources]
            fitted += self._part(part, theirs, start, tokenizer, choices, heads)
        if job.processes.first and labels:
            self._population(fitted, labels, heads)
        return FittedOracle(
            kind=wanted.oracle_kind,
            oracle=str(job.home),
            rows=self._reports,
            parts=fitted,
            outputs=outputs,
            processes=job.processes.world,
            distributed=self._distributed,
            seconds=time.monotonic() - begun,
            resumed=None,
        )

    def _source(
        self, oracle: Any, tokenizer: Any, heads: list[str], objective: str, training: Training, data: Data
    ) -> _Source:
        """Read the judgments of a phase; where annotators have heads, those of others are left out."""
        wanted, named = self._wanted, self._wanted.per_annotator
        assert data.dataset_name is not None

        def read(name: str, split: str | None) -> tuple[Any, dict[str, Any]]:
            found = encoded_judgments(self._job.encodings, data, wanted, oracle, tokenizer, name, split)
            return found, found.report.as_dict()

        def chosen(what: str, by: str, found: tuple[Any, dict[str, Any]]) -> Judgments:
            report = Report.from_dict(found[1])
            judgments = judgments_for(by, found[0].rows, report, named=named)
            if heads:
                judgments = judgments.take(np.isin(judgments.annotators, heads))
            if not len(judgments):
                raise ValueError(f"no judgment of {what} is by one of the annotators {', '.join(heads)}")
            if by == objective:
                self._reports[what] = report.as_dict()
            return judgments

        place = len({what for what in self._reports if what.startswith("train")})
        suffix = f" {place + 1}" if len(self._phases) > 1 else ""
        given = read(data.dataset_name, data.dataset_split)
        train, held, compared = chosen(f"train{suffix}", objective, given), None, None
        if data.eval_dataset_name is not None or data.eval_split is not None:
            other = read(data.eval_dataset_name or data.dataset_name, data.eval_split)
            held = _or_none(lambda: chosen(f"eval{suffix}", objective, other))
            compared = _or_none(lambda: chosen("eval", _COMPARES, other)) if objective != _COMPARES else held
            if held is None and compared is None:
                chosen("eval", objective, other)  # says why
        elif data.eval_size:
            train, held = train.held_out(data.eval_size, self._job.compute.seed)
            compared = _or_none(lambda: held.among(judgments_for(_COMPARES, held.table, Report())))
            compared = compared if compared is not None and len(compared) else None
        return _Source(train, held, compared)

    def _part(
        self,
        part: _Part,
        sources: list[_Source],
        start: Path,
        tokenizer: Any,
        choices: list[int] | None,
        heads: Mapping[str, int],
    ) -> list[FittedPart]:
        """Fit one oracle, phase after phase, the head carried over."""
        phases, folder = [], start
        for place, (source, (objective, training, _)) in enumerate(
            zip(sources, self._phases, strict=True), 1
        ):
            last = place == len(sources)
            home = self._fit_folder / f"{part.name}-{place}"
            target = part.target if last else home / MODEL
            phase = Phase.read(home)
            if phase is None or damage(target) is not None:
                task = self._task(objective, heads)
                who = part.annotator or ""
                phase = self._phase(
                    home, target, folder, task, source, training, tokenizer, choices, heads, who
                )
            phases.append(phase)
            folder = target
        final, objective = phases[-1], phases[-1].objective
        found = []
        for name in heads or [part.annotator or ""]:
            scale, calibrated = 1.0, None
            if objective not in LIKELIHOODS and name in final.best_scale:
                scale, calibrated = final.best_scale[name], final.fits[name]["best"].pairs
            labels = sources[-1].everybody.count(name) if heads else sum(final.judgments.values())
            found.append(FittedPart(annotator=name or None, model=str(part.target), labels=labels, scale=scale,
                                    calibrated=calibrated, phases=phases))  # fmt: skip
        if self._job.processes.first:
            self._card(found, list(heads)).write(part.target)
        self._job.processes.wait()
        return found

    def _phase(
        self,
        home: Path,
        target: Path,
        folder: Path,
        task: OracleTask,
        source: _Source,
        training: Training,
        tokenizer: Any,
        choices: list[int] | None,
        heads: Mapping[str, int],
        annotator: str,
    ) -> Phase:
        begun, job, kind = time.monotonic(), self._job, self._wanted.oracle_kind
        if self._fits:
            self._beginning.restore()
        self._fits += 1
        if job.processes.first:
            drop_partial(home)
        job.processes.wait()
        arguments = training_arguments(training, home)
        set_seed(arguments.seed)  # what LoRA starts from is drawn here
        network = starting.load(job, folder, kind)
        if self._lora is not None:
            network = with_adapter(network, self._lora, _task_type(kind))
        trainer = OracleTrainer(
            network,
            arguments,
            task=task,
            train_dataset=source.train.rows(),
            eval_dataset=None if source.held is None else source.held.rows(),
            pad=tokenizer.pad_token_id,
            choices=choices,
            heads=heads,
            share_prompts=job.model.share_prompts,
            packing=job.model.packing,
            processing_class=tokenizer,
        )
        trainer.add_callback(LetGo())
        show_progress(trainer, job.progress, f"fit-oracle: {home.name}")
        checkpoint = last_checkpoint(home)
        trained = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        metrics: dict[str, float] = {}
        if source.held is not None:
            metrics, _ = trainer.held_out(source.held.rows())
        best: dict[str, float] = {}
        fits: dict[str, dict[str, Fits]] = {}
        if source.compared is not None:
            compares = replace(task, objective=_COMPARES, centring=0.0)
            _, pairs = trainer.held_out(source.compared.rows(), compares)
            best, fits = _fits(pairs, heads, annotator)
        save(trainer, target if self._lora is None else home / "adapter", job.processes.first)
        losses = [entry for entry in trainer.state.log_history if "loss" in entry]
        record = Phase(
            objective=task.objective,
            judgments={"train": len(source.train)}
            | ({} if source.held is None else {"eval": len(source.held)}),
            steps=trainer.state.global_step,
            loss=losses[-1]["loss"] if losses else trained.training_loss,
            eval={key.removeprefix("eval_"): value for key, value in metrics.items()},
            log=trainer.state.log_history,
            seconds=time.monotonic() - begun,
            resumed=None if checkpoint is None else checkpoint.name,
            best_scale=best,
            fits=fits,
        )
        self._distributed = trainer.accelerator.distributed_type.value
        if trainer.is_deepspeed_enabled:
            unset_hf_deepspeed_config()
        trainer.accelerator.free_memory()
        if job.processes.first:  # alone: the others wait
            if self._lora is not None:
                with whole_folder(target) as partial:
                    merged(starting.load(job, folder, kind), home / "adapter", fresh=True).save_pretrained(
                        partial
                    )
                    load_tokenizer(home / "adapter").save_pretrained(partial)
                    seal(partial)
            record.write(home)
        job.processes.wait()
        return record

    def _task(self, objective: str, heads: Mapping[str, int]) -> OracleTask:
        wanted = self._wanted
        outputs: tuple[float, ...] | None = None
        if not heads:
            outputs = tuple(wanted.output_weights()) if wanted.rates and len(wanted.rated) > 1 else (1.0,)
        return OracleTask(wanted.oracle_kind, objective, outputs, wanted.centring)

    def _card(self, found: list[FittedPart], heads: list[str]) -> Card:
        wanted, one = self._wanted, found[0]
        several = wanted.rates and len(wanted.rated) > 1 and not heads
        pairwise = wanted.oracle_kind == "pairwise"
        return Card(
            kind=wanted.oracle_kind,
            objectives=wanted.objectives,
            scale=1.0 if heads else one.scale,
            calibrated=None if heads else one.calibrated,
            outputs=heads or (list(wanted.rated) if several else []),
            output=wanted.output_weights() if several else None,
            max_length=self._data.max_length,
            template=wanted.pairwise_template if pairwise else None,
            choices=list(CHOICES) if pairwise else None,
        )

    def _population(
        self, fitted: list[FittedPart], labels: Mapping[str, int], heads: Mapping[str, int]
    ) -> None:
        """Say who the annotators are, each with its share of the labels."""
        total, home = sum(labels.values()), self._job.home
        members = [
            Annotator(
                name=part.annotator or "",
                kind=self._wanted.oracle_kind,
                model=str(Path(part.model).relative_to(home)),
                output=heads.get(part.annotator or ""),
                scale=part.scale,
                weight=labels[part.annotator or ""] / total,
            )
            for part in fitted
        ]
        Population(members=members).write(home)


def _fits(
    pairs: Array, heads: Mapping[str, int], annotator: str
) -> tuple[dict[str, float], dict[str, dict[str, Fits]]]:
    """Return at which scale held-out comparisons are met best, and how well, by annotator."""
    best: dict[str, float] = {}
    fits: dict[str, dict[str, Fits]] = {}
    for name in heads or [annotator]:
        own = pairs[pairs[:, 3] == heads[name]] if heads else pairs
        if not len(own) or not own[:, 2].any():
            continue
        logits, said, weights = own[:, 0], own[:, 1], own[:, 2]
        scales = {"one": 1.0}
        with suppress(ValueError):  # none fits: nothing is said of it
            scales["best"] = best[name] = fitted_scale(logits, said, weights)
        met = {
            what: calibration(logits, said, scale=scale, weights=weights) for what, scale in scales.items()
        }
        fits[name] = {
            what: Fits(pairs=len(own), accuracy=one.accuracy, log_loss=one.log_loss, error=one.error)
            for what, one in met.items()
        }
    return best, fits


def _contents(data: Data, wanted: OracleFit, training: Training) -> dict[str, str]:
    """Return digests of the content of all judgments, by phase.

    Raises:
        ValueError: a phase without judgments.
    """
    found = {}
    for place, (_, _, own) in enumerate(wanted.phases(training, data), 1):
        if own.dataset_name is None:
            raise ValueError(NO_JUDGMENTS)
        names = {f"phase-{place}": (own.dataset_name, own.dataset_split)}
        if own.eval_dataset_name is not None or own.eval_split is not None:
            names[f"phase-{place}-held-out"] = (own.eval_dataset_name or own.dataset_name, own.eval_split)
        for what, (name, split) in names.items():
            found[what] = data_digest(content_of(name, own.dataset_config_name, split))
    return found


def _or_none(find: Callable[[], Judgments]) -> Judgments | None:
    try:
        return find()
    except ValueError:
        return None


def _folder_of(place: int, name: str) -> str:
    """Return the folder of an annotator, whatever the name is."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    return f"{place}-{plain}" if plain else str(place)


def _task_type(kind: str) -> str:
    return "CAUSAL_LM" if kind == "pairwise" else "SEQ_CLS"
