"""The stage that trains: one policy fitted to scored pairs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mnpo.llm.columns import fit_columns
from mnpo.llm.config import Config, to_yaml
from mnpo.llm.locate import Progress, policy_folder, policy_tokenizer, release
from mnpo.llm.manifests import check_same, fit_settings
from mnpo.llm.models import check_weights, load_model
from mnpo.llm.processes import Group, join, launched
from mnpo.llm.score import score_pairs
from mnpo.llm.storage import read_json, whole_file, whole_folder, write_json
from mnpo.llm.trainer import Collator, PairTrainer, drop_partial, last_checkpoint

#: The record of a fit, in the output folder.
RESULTS = "results.json"


def fit(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """Score what is not scored, then train.

    The same call again resumes at the last whole checkpoint, or returns what is done.

    Args:
        config: the run; everything is written below its `output_dir`.
        progress: called as the work goes on.

    Returns:
        The record that stands in `<output_dir>/results.json`; the model stands in `<output_dir>/model`.

    Raises:
        ValueError: bad input, a loss that is not finite, or an output folder that holds another fit.
    """
    folder = config.folder / "fit"
    if (config.folder / "manifest.json").is_file():
        raise ValueError(f"{config.folder} holds a run of mnpo llm train; choose another output_dir")
    if last_checkpoint(folder) is not None and read_json(folder / "manifest.json") is None:
        raise ValueError(f"{folder} holds checkpoints of an unknown run; choose another output_dir")
    check_same(folder, {"config": fit_settings(config)}, "fit")
    scored = score_pairs(config, progress)
    manifest = {"config": fit_settings(config), **scored["manifest"]}
    check_same(folder, manifest, "fit")
    results = config.folder / RESULTS
    done = read_json(results)
    if (
        done is not None
        and read_json(folder / "manifest.json") is not None
        and (config.folder / "model").is_dir()
    ):
        return {**done, "resumed": "complete"}
    try:
        return _train(config, scored, manifest, progress)
    finally:
        release()


def _train(
    config: Config, scored: dict[str, Any], manifest: dict[str, Any], progress: Progress | None
) -> dict[str, Any]:
    start = time.monotonic()
    folder = config.folder / "fit"
    processes = join(bool(config.training.get("use_cpu")))
    home, tokenizer = policy_folder(config, processes), policy_tokenizer(config, processes)
    if processes.first:
        drop_partial(folder)
        write_json(folder / "manifest.json", manifest)
        with whole_file(config.folder / "config.yaml") as partial:
            partial.write_text(to_yaml(config), encoding="utf-8")
    processes.wait()
    objective, parameters = config.the_objective()
    splits: dict[str, Any] = {}
    fields: tuple[str, ...] = ()
    for name, rows in load_from_disk(scored["folder"]).items():
        columns = fit_columns(config, rows)
        kept = ["row", "prompt_ids", "chosen_ids", "rejected_ids", "kl_ids"]
        splits[name] = rows.select_columns([column for column in kept if column in rows.column_names])
        for column, values in columns.items():
            splits[name] = splits[name].add_column(column, values)
        fields = tuple(columns)
    arguments = _arguments(config, folder)
    set_seed(arguments.seed)  # what LoRA starts from is drawn here
    model = load_model(home, **config.loading)
    if config.lora is not None:
        model = _with_adapter(model, config.lora)
    trainer = PairTrainer(
        objective=objective,
        parameters=parameters,
        logprob_chunk=config.logprob_chunk,
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits.get("eval"),
        data_collator=Collator(tokenizer.pad_token_id, fields, mismatched="kl_reference" in fields),
        processing_class=tokenizer,
    )
    _show_progress(trainer, progress)
    checkpoint = last_checkpoint(folder)
    trained = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    metrics = trainer.evaluate() if "eval" in splits else {}
    _save(trainer, config, processes.first)
    rule = config.the_rule()
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    record = {
        "objective": {"name": objective.name, **objective.parameters, **parameters},
        "rule": None if rule is None else rule.as_dict(),
        "target": config.target,
        "pairs": {name: len(split) for name, split in splits.items()},
        "rows": scored["rows"],
        "anchors": scored["anchors"],
        "steps": trainer.state.global_step,
        "loss": losses[-1]["loss"] if losses else trained.training_loss,
        "eval": {key.removeprefix("eval_"): value for key, value in metrics.items()},
        "log": trainer.state.log_history,
        "processes": trainer.accelerator.num_processes,
        "distributed": trainer.accelerator.distributed_type.value,
        "seconds": time.monotonic() - start,
        "resumed": None if checkpoint is None else checkpoint.name,
        "model": str(config.folder / "model"),
    }
    if trainer.is_world_process_zero():
        write_json(config.folder / RESULTS, record)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_deepspeed_enabled:
        unset_hf_deepspeed_config()  # or models that are loaded later would be shared out to all processes
    trainer.accelerator.free_memory()
    return record


def _arguments(config: Config, folder: Path) -> TrainingArguments:
    given = {"logging_nan_inf_filter": False, "disable_tqdm": True, **config.training}
    given.setdefault("data_seed", config.seed)
    if not torch.cuda.is_available() or given.get("use_cpu"):
        given |= _on_cpu(given)
    try:
        arguments = TrainingArguments(output_dir=str(folder), remove_unused_columns=False, **given)
    except (TypeError, ImportError) as error:
        raise ValueError(f"training arguments: {str(error).splitlines()[0]}") from None
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one GPU
    return arguments


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
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ValueError("lora needs the extra: pip install 'mnpo[peft]'") from None
    try:
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    except (TypeError, ValueError) as error:
        raise ValueError(f"lora: {str(error).splitlines()[0]}") from None


def _save(trainer: PairTrainer, config: Config, first: bool) -> None:
    """Write the final weights, and the adapter beside them if one was trained, under names that appear whole."""
    adapted = config.lora is not None
    target = config.folder / ("adapter" if adapted else "model")
    partial = config.folder / f".{target.name}.partial"
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(partial))
    trainer.accelerator.wait_for_everyone()
    if first:  # alone: the others would look for what is renamed
        check_weights(partial)
        shutil.rmtree(target, ignore_errors=True)
        (partial / "training_args.bin").unlink(missing_ok=True)
        partial.rename(target)
    trainer.accelerator.wait_for_everyone()
    if adapted and first:
        _merge(config, target)
    trainer.accelerator.wait_for_everyone()


def _merge(config: Config, adapter: Path) -> None:
    """Write the model with the adapter merged into its weights.

    In a process of its own: while DeepSpeed's ZeRO-3 is on, whatever is loaded is shared out to all processes.
    """
    alone = {
        key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    }
    home = policy_folder(config, Group(0, 1, torch.device("cpu")))
    with whole_folder(config.folder / "model") as partial:
        task = json.dumps([str(home), str(adapter), str(partial), config.loading])
        done = subprocess.run(
            [sys.executable, "-m", "mnpo.llm.merge", task],
            env=alone,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"cannot merge {adapter}: {(done.stderr.strip() or 'killed').splitlines()[-1]}")


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
