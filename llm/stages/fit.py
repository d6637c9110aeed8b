"""The stage that trains: one policy fitted to scored pairs."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mnpo.common.files import whole_folder
from mnpo.common.progress import Progress
from mnpo.common.seals import seal
from mnpo.llm.config import Data, Fit, Folders, Models, Prompts, Training, Update
from mnpo.llm.data.tables import open_splits
from mnpo.llm.models.folders import MODEL, root_of
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import configuration, load_model, load_tokenizer, merged
from mnpo.llm.runtime.memory import release
from mnpo.llm.runtime.processes import Group
from mnpo.llm.stages.identity import settings_of
from mnpo.llm.stages.records import Fitted, Scores
from mnpo.llm.stages.score import score
from mnpo.llm.storage.manifests import MANIFEST, check_same, set_aside_if_unknown, write_manifest
from mnpo.llm.training.adapters import with_adapter
from mnpo.llm.training.arguments import training_arguments
from mnpo.llm.training.checkpoints import drop_partial, last_checkpoint
from mnpo.llm.training.running import LetGo, save, show_progress
from mnpo.llm.training.tasks import Task
from mnpo.llm.training.trainer import PairTrainer


def fit(
    folders: Folders,
    model: Models,
    data: Data,
    prompts: Prompts,
    update: Update,
    fit: Fit,
    training: Training,
    progress: Progress | None = None,
) -> Fitted:
    """Score what is not scored, then train; the model stands in `<output_dir>/model`.

    The same call again resumes at the last whole checkpoint, or returns what is done.

    Args:
        folders: everything is written below `output_dir`.
        model: the policy and its anchors.
        data, prompts: the pairs.
        update: what is minimised.
        fit, training: how.
        progress: called as the work goes on.

    Raises:
        ValueError: bad input, a loss that is not finite, or an output folder that holds another fit.
    """
    home = folders.home
    folder = home / "fit"
    if (home / MANIFEST).is_file():
        raise ValueError(f"{home} holds a run of mnpo llm train; choose another output_dir")
    job = Job.start(folders, model, training.compute, progress)
    job.processes.agree(lambda: set_aside_if_unknown(folder, home / MODEL))
    if last_checkpoint(folder) is not None and not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} holds checkpoints of an unknown run; choose another output_dir")
    sections = {"model": model, "data": data, "update": update, "fit": fit, "training": training}
    settings = settings_of(sections)
    begun = last_checkpoint(folder) is not None or (home / MODEL).is_dir()
    if begun:  # where nothing was kept yet, everything may be corrected
        check_same(folder, {"config": settings}, "fit", home)
    check_adapter(job, fit.lora)
    scored = score(folders, model, data, prompts, update, training.compute, progress)
    manifest = {"config": settings, **scored.manifest.as_dict()}
    if begun:
        check_same(folder, manifest, "fit", home)
    done = Fitted.read(home)
    if done is not None and (folder / MANIFEST).is_file() and done.intact(home):
        return replace(done, resumed="complete", model=str(home / MODEL))
    try:
        return _train(job, scored, manifest, Task.configured(update), fit, training)
    finally:
        release()


def _train(
    job: Job, scored: Scores, manifest: dict[str, Any], task: Task, fit: Fit, training: Training
) -> Fitted:
    start = time.monotonic()
    folder, processes = job.home / "fit", job.processes
    home, tokenizer = job.policy(), job.tokenizer()
    if processes.first:
        drop_partial(folder)
        write_manifest(folder, manifest)
    processes.wait()
    splits = open_splits(Path(scored.folder))
    arguments = training_arguments(training, folder)
    set_seed(arguments.seed)  # what LoRA starts from is drawn here
    model = load_model(home, **job.model.loading)
    if fit.lora is not None:
        model = with_adapter(model, fit.lora)
    trainer = PairTrainer(
        model=model,
        args=arguments,
        task=task,
        train_dataset=splits["train"],
        eval_dataset=splits.get("eval"),
        processing_class=tokenizer,
        logprob_chunk=job.model.logprob_chunk,
        share_prompts=job.model.share_prompts,
        packing=job.model.packing,
    )
    trainer.add_callback(LetGo())
    show_progress(trainer, job.progress)
    checkpoint = last_checkpoint(folder)
    trained = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    metrics = trainer.evaluate() if "eval" in splits else {}
    save(trainer, job.home / (MODEL if fit.lora is None else "adapter"), processes.first)
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    record = Fitted(
        objective={"name": task.objective.name, **task.objective.parameters, **task.parameters},
        rule=None if task.rule is None else task.rule.as_dict(),
        target=None if task.rule is None else task.target,
        pairs={name: len(split) for name, split in splits.items()},
        rows=scored.rows,
        anchors=scored.anchors,
        steps=trainer.state.global_step,
        loss=losses[-1]["loss"] if losses else trained.training_loss,
        eval={key.removeprefix("eval_"): value for key, value in metrics.items()},
        log=trainer.state.log_history,
        processes=trainer.accelerator.num_processes,
        distributed=trainer.accelerator.distributed_type.value,
        seconds=time.monotonic() - start,
        resumed=None if checkpoint is None else checkpoint.name,
        model=str(job.home / MODEL),
    )
    if trainer.is_deepspeed_enabled:
        unset_hf_deepspeed_config()  # or models that are loaded later would be shared out to all processes
    trainer.accelerator.free_memory()
    if processes.first:  # alone: the others wait
        if fit.lora is not None:
            _merge(job, job.home / "adapter")
        record.write(job.home)
    processes.wait()
    return record


def check_adapter(job: Job, lora: dict[str, Any] | None) -> None:
    """Refuse an adapter that does not fit the policy's layers; no weights are read.

    Raises:
        ValueError: layers that the policy does not have, or a value that PEFT does not take.
    """
    if lora is None:
        return
    folder = root_of(job.policy())
    trust = job.model.trust_remote_code
    config = configuration(folder, gguf_file=job.model.gguf_file, trust_remote_code=trust)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
        # First values that are computed from weights, such as PiSSA's, are for weights that are there.
        named = isinstance(lora.get("init_lora_weights"), str)
        with_adapter(model, lora | ({"init_lora_weights": True} if named else {}))


def _merge(job: Job, adapter: Path) -> None:
    """Write the model with the adapter merged into its weights, by the first process alone."""
    alone = replace(job, processes=Group(0, 1, torch.device("cpu")))  # which must wait for nobody here
    with whole_folder(job.home / MODEL) as partial:
        base = load_model(alone.policy(), **job.model.loading)
        merged(base, adapter, fresh=True).save_pretrained(partial)
        load_tokenizer(adapter).save_pretrained(partial)
        seal(partial)
