"""The stage that trains: one policy fitted to scored pairs."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mnpo.common.files import read_json, whole_folder, write_json
from mnpo.common.progress import Progress
from mnpo.llm.config import Data, Fit, Folders, Models, Prompts, Training, Update
from mnpo.llm.data.tables import open_splits
from mnpo.llm.models.folders import base_of, check_weights, is_adapter
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import configuration, load_model, load_tokenizer, merged
from mnpo.llm.runtime.memory import release
from mnpo.llm.runtime.processes import Group, launched
from mnpo.llm.stages.identity import settings_of
from mnpo.llm.stages.records import Fitted, Scores
from mnpo.llm.stages.score import score
from mnpo.llm.storage.manifests import check_same
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.training.checkpoints import drop_partial, last_checkpoint
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
    if (home / "manifest.json").is_file():
        raise ValueError(f"{home} holds a run of mnpo llm train; choose another output_dir")
    if last_checkpoint(folder) is not None and read_json(folder / "manifest.json") is None:
        raise ValueError(f"{folder} holds checkpoints of an unknown run; choose another output_dir")
    sections = {"model": model, "data": data, "update": update, "fit": fit, "training": training}
    settings = settings_of(sections)
    begun = last_checkpoint(folder) is not None or (home / "model").is_dir()
    if begun:  # where nothing was kept yet, everything may be corrected
        check_same(folder, {"config": settings}, "fit", home)
    compute = training.compute
    check_adapter(Job.start(folders, model, compute), fit.lora)
    scored = score(folders, model, data, prompts, update, compute, progress)
    manifest = {"config": settings, **scored.manifest.as_dict()}
    if begun:
        check_same(folder, manifest, "fit", home)
    done = Fitted.read(home)
    if done is not None and (folder / "manifest.json").is_file() and (home / "model").is_dir():
        return replace(done, resumed="complete", model=str(home / "model"))
    try:
        job = Job.start(folders, model, compute, progress)
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
        write_json(folder / "manifest.json", manifest)
    processes.wait()
    splits = open_splits(Path(scored.folder))
    arguments = training_arguments(training, folder)
    set_seed(arguments.seed)  # what LoRA starts from is drawn here
    model = load_model(home, **job.model.loading)
    if fit.lora is not None:
        model = _with_adapter(model, fit.lora)
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
    trainer.add_callback(_LetGo())
    _show_progress(trainer, job.progress)
    checkpoint = last_checkpoint(folder)
    trained = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    metrics = trainer.evaluate() if "eval" in splits else {}
    _save(trainer, job, "model" if fit.lora is None else "adapter")
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
        model=str(job.home / "model"),
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


def training_arguments(training: Training, folder: Path) -> TrainingArguments:
    """Return transformers' arguments.

    Raises:
        ValueError: values that do not fit together, or a package that is not installed.
    """
    given = {"logging_nan_inf_filter": False, "disable_tqdm": True, **training.values}
    given.setdefault("data_seed", training.compute.seed)
    given.setdefault("train_sampling_strategy", "group_by_length")
    if not torch.cuda.is_available() or given.get("use_cpu"):
        given |= _on_cpu(given)
    try:
        arguments = TrainingArguments(output_dir=str(folder), remove_unused_columns=False, **given)
    except (TypeError, ValueError, ImportError) as error:
        raise ValueError(f"training arguments: {str(error).splitlines()[0]}") from None
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one GPU
    return arguments


def check_arguments(training: Training) -> None:
    """Refuse transformers' arguments that do not fit together.

    Raises:
        ValueError: as `training_arguments`.
    """
    if not launched():  # there the arguments form the processes' common state, and are checked by doing so
        training_arguments(training, Path(tempfile.gettempdir()) / "mnpo-unused")


def check_lora(keys: dict[str, Any] | None) -> Any:
    """Return PEFT's configuration of an adapter; None for none.

    Raises:
        ValueError: PEFT is not installed, or an unknown key.
    """
    if keys is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise ValueError("lora needs the extra: pip install 'mnpo[peft]'") from None
    try:
        return LoraConfig(task_type="CAUSAL_LM", **keys)
    except (TypeError, ValueError) as error:
        raise ValueError(f"lora: {str(error).splitlines()[0]}") from None


def check_adapter(job: Job, lora: dict[str, Any] | None) -> None:
    """Refuse an adapter that does not fit the policy's layers; no weights are read.

    Raises:
        ValueError: layers that the policy does not have, or a value that PEFT does not take.
    """
    if lora is None:
        return
    folder = job.policy()
    while is_adapter(folder):
        folder = base_of(folder)
    trust = job.model.trust_remote_code
    config = configuration(folder, gguf_file=job.model.gguf_file, trust_remote_code=trust)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
        # First values that are computed from weights, such as PiSSA's, are for weights that are there.
        named = isinstance(lora.get("init_lora_weights"), str)
        _with_adapter(model, lora | ({"init_lora_weights": True} if named else {}))


def _on_cpu(given: dict[str, Any]) -> dict[str, Any]:
    """What makes accelerate see several processes on a machine without GPUs."""
    if not given.get("deepspeed") or not launched():
        return {"use_cpu": True}
    import deepspeed.ops
    from accelerate.state import AcceleratorState, PartialState

    # An operation for inference that DeepSpeed compiles as it starts: a minute, and a process that is killed
    # meanwhile leaves a lock for which every later run would wait for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    try:
        PartialState(backend="gloo")
    finally:
        del os.environ["ACCELERATE_USE_DEEPSPEED"]
    return {"accelerator_config": {**(given.get("accelerator_config") or {}), "use_configured_state": True}}


def _with_adapter(model: Any, lora: dict[str, Any]) -> Any:
    from peft import get_peft_model

    try:
        return get_peft_model(model, check_lora(lora))
    except (TypeError, ValueError, NotImplementedError) as error:  # the last is said of an unknown `bias`
        raise ValueError(f"lora: {str(error).splitlines()[0]}") from None


def _save(trainer: PairTrainer, job: Job, name: str) -> None:
    """Write what was trained, the model or the adapter, under a name that appears whole."""
    target = job.home / name
    partial = job.home / f".{target.name}.partial"
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.stop_if_weights_are_not_finite()
    trainer.save_model(str(partial))
    trainer.accelerator.wait_for_everyone()
    if job.processes.first:  # alone: the others would look for what is renamed
        check_weights(partial)
        shutil.rmtree(target, ignore_errors=True)
        (partial / "training_args.bin").unlink(missing_ok=True)
        partial.rename(target)
    trainer.accelerator.wait_for_everyone()


def _merge(job: Job, adapter: Path) -> None:
    """Write the model with the adapter merged into its weights, by the first process alone."""
    alone = replace(job, processes=Group(0, 1, torch.device("cpu")))  # which must wait for nobody here
    with whole_folder(job.home / "model") as partial:
        base = load_model(alone.policy(), **job.model.loading)
        merged(base, adapter).save_pretrained(partial)
        load_tokenizer(adapter).save_pretrained(partial)


class _LetGo(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Gives back the pages of the pairs that were read, after each step: it costs microseconds."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        let_go()

    on_prediction_step = on_step_end


class _Reporter(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells how far training is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._text = "fit: started"

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        shown = [f"{name} {logs[name]:.3g}" for name in ("loss", "accuracy", "kl") if logs and name in logs]
        if shown and state.is_world_process_zero:
            self._text = "fit: " + " ".join(shown)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._progress(self._text, state.global_step, state.max_steps)


def _show_progress(trainer: PairTrainer, progress: Progress | None) -> None:
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if progress is not None:
        trainer.add_callback(_Reporter(progress))
