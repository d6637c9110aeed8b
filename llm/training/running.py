"""What every fit does besides its loss: tells how far it is, gives memory back, and leaves what it trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from mnpo.common.files import follow_umask
from mnpo.common.progress import Progress
from mnpo.common.seals import seal
from mnpo.llm.models.folders import check_weights
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.training.resumable import ResumableTrainer


def save(trainer: ResumableTrainer, target: Path, first: bool) -> None:
    """Write what was trained, the model or the adapter, into a folder that appears whole.

    Args:
        trainer: after training; all processes call this.
        target: the folder.
        first: whether this is the first process, which renames.

    Raises:
        ValueError: weights that are not finite.
    """
    partial = target.parent / f".{target.name}.partial"
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.stop_if_weights_are_not_finite()
    trainer.save_model(str(partial))
    trainer.accelerator.wait_for_everyone()
    if first:  # alone: the others would look for what is renamed
        check_weights(partial)
        shutil.rmtree(target, ignore_errors=True)
        (partial / "training_args.bin").unlink(missing_ok=True)
        follow_umask(partial)
        seal(partial)
        partial.rename(target)
    trainer.accelerator.wait_for_everyone()


class LetGo(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Gives back the pages of the pairs that were read, after each step: it costs microseconds."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See TrainerCallback."""
        let_go()

    on_prediction_step = on_step_end


class _Reporter(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells how far training is."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress, self._what = progress, what
        self._text = f"{what}: started"

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        shown = [f"{name} {logs[name]:.3g}" for name in ("loss", "accuracy", "kl") if logs and name in logs]
        if shown and state.is_world_process_zero:
            self._text = f"{self._what}: {' '.join(shown)}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._progress(self._text, state.global_step, state.max_steps)


def show_progress(trainer: ResumableTrainer, progress: Progress | None, what: str = "fit") -> None:
    """Let a trainer tell how far it is, and nobody else."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if progress is not None:
        trainer.add_callback(_Reporter(progress, what))
