"""Measuring a model on a task of lm-evaluation-harness, alone or with other processes."""

from __future__ import annotations

import os
import random
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torch.distributed as dist
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from mnpo.common.seals import write_sealed
from mnpo.llm.benchmarks.academic_tasks import Source, silent
from mnpo.llm.data.formats import first_line
from mnpo.llm.models.folders import base_of, is_adapter
from mnpo.llm.models.loading import load_model, load_tokenizer
from mnpo.llm.runtime.memory import release
from mnpo.llm.runtime.processes import Group

#: Seconds that a server has to answer when nltk's data are fetched.
_PATIENCE = 20.0
#: Tokens that are left for the prompt where a task asks for longer answers than a model can write.
_ROOM = 1024


class SharedLM(HFLM):  # type: ignore[misc]  # the harness has no annotations
    """A model of which each process has a copy, for a part of the questions.

    Args:
        model: on the device of this process.
        tokenizer: its tokenizer.
        batch_size: as the harness takes it.
        group: the processes.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int | str, group: Group) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self.share(group)

    def share(self, group: Group) -> None:
        """Share the questions of the next task among these processes."""
        self._rank, self._world_size = group.rank, group.world

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensors of all processes, one behind the other."""
        if self.world_size == 1:
            return tensor
        held = [torch.zeros_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(held, tensor)
        return torch.cat([one.reshape(-1) for one in held])

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier()


class Bench:
    """Measures models; the last one stays in memory.

    Args:
        group: the processes that do so together.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._held: tuple[Any, ...] = ()
        self._model: SharedLM | None = None

    def do(self, job: Mapping[str, Any]) -> None:
        """Measure a model on a task; the first process writes the result.

        Args:
            job: settings, what the result depends on: task, shots, limit, chat_template, dtype, seed; file, of the
                result; folder, of the model; source, of the task; batch_size; execute_code.

        Raises:
            ValueError: a task or a model that cannot be loaded.
        """
        with quiet():
            record = self._measured(job)
        if record is not None and self._group.first:
            write_sealed(Path(job["file"]), {"settings": job["settings"], "result": record})

    def _measured(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        asked, group = job["settings"], self._group
        name = asked["task"]
        source = Source(**job["source"] | {"folders": tuple(job["source"]["folders"])})
        if source.needs_sentences(name):
            fetch_sentences(name)
        with ExitStack() as stack:
            stack.enter_context(seeded(asked["seed"]))
            executing = job["execute_code"] and source.executes(name)
            if executing:
                stack.enter_context(_allowed())
            loaded = _load(source, name, asked)
            model = self._lm(job)
            notes = _fitted(loaded["tasks"].values(), model)
            model.share(group)
            if group.world > 1 and _fewest(loaded["tasks"].values(), asked["limit"]) < group.world:
                if not group.first:  # the harness fails where a process has no question
                    return None
                model.share(Group(0, 1, group.device))
            found = evaluate(
                lm=model,
                task_dict=loaded,
                limit=asked["limit"],
                log_samples=False,
                apply_chat_template=asked["chat_template"],
                fewshot_as_multiturn=asked["chat_template"],
                confirm_run_unsafe_code=executing,
            )
        return None if found is None else _record(found, name, notes)

    def _lm(self, job: Mapping[str, Any]) -> SharedLM:
        """Return the model of a job."""
        asked, folder = job["settings"], Path(job["folder"])
        wanted = (asked["model"], asked["dtype"], job["batch_size"])
        if self._model is None or self._held != wanted:
            self._model = None  # before the next one is loaded
            release()
            try:
                tokenizer = load_tokenizer(folder)
            except ValueError:
                if not is_adapter(folder):
                    raise
                tokenizer = load_tokenizer(base_of(folder))
            model: Any = load_model(folder, dtype=asked["dtype"])
            self._model = SharedLM(model.to(self._group.device), tokenizer, job["batch_size"], self._group)
            self._held = wanted
        if asked["chat_template"] and self._model.tokenizer.chat_template is None:
            raise ValueError(f"model {folder} has no chat template: ask without one, chat_template=False")
        return self._model


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from talking: no logs, no bars, no warnings."""
    with silent(), redirect_stdout(_nowhere()), redirect_stderr(_nowhere()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Have libraries draw from a seed, and put their generators back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 it is that of libraries
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def fetch_sentences(task: str) -> None:
    """Have nltk's data for splitting texts into sentences, which IFEval needs.

    The harness would fetch them when it loads the task, wait for a server without end, go on without them, and fail
    after the model has answered.

    Raises:
        ValueError: they are not there and cannot be fetched.
    """
    import nltk

    def there() -> bool:
        try:
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:
            return False
        return True

    if there():
        return
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        nltk.download("punkt_tab", quiet=True)
    finally:
        socket.setdefaulttimeout(before)
    if not there():
        raise ValueError(
            f"task {task} needs nltk's punkt_tab, which cannot be fetched: python -m nltk.downloader punkt_tab"
        )


@contextmanager
def _allowed() -> Iterator[None]:
    """Allow the metric that runs code to do so."""
    before = os.environ.get("HF_ALLOW_CODE_EVAL")
    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_ALLOW_CODE_EVAL"]
        else:
            os.environ["HF_ALLOW_CODE_EVAL"] = before


def _load(source: Source, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Load a task with its data, with so many solved examples."""
    try:
        loaded: dict[str, Any] = source.manager.load([name])
    except (ImportError, AttributeError) as error:
        raise ValueError(f"task {name} cannot be loaded: {first_line(error)}") from error
    except Exception as error:  # whatever a network, a reader of data or a task's own code can do
        raise ValueError(f"the data of task {name} cannot be loaded: {first_line(error)}") from error
    for task in loaded["tasks"].values():
        given = task.get_config("num_fewshot")
        if asked["shots"] is not None and given != 0:  # a task that says 0 takes no examples
            task.set_config(key="num_fewshot", value=asked["shots"])
        elif given is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=asked["seed"])
    return loaded


def _fitted(tasks: Any, model: SharedLM) -> list[str]:
    """Have tasks ask for answers that the model can write, and say so."""
    notes: set[str] = set()
    for task in tasks:
        if task.OUTPUT_TYPE != "generate_until":
            continue
        wanted = normalize_gen_kwargs(task.config.generation_kwargs, model.max_gen_toks)["max_gen_toks"]
        if wanted >= model.max_length:
            room = model.max_length - min(_ROOM, model.max_length // 2)
            task.set_config(key="generation_kwargs", value={"max_gen_toks": room}, update=True)
            notes.add(
                f"answers have at most {room} tokens, not {wanted}: the model takes {model.max_length} in all"
            )
    return sorted(notes)


def _fewest(tasks: Any, limit: int | None) -> int:
    fewest = min(len(task.eval_docs) for task in tasks)
    return fewest if limit is None else min(fewest, limit)


def _record(found: Mapping[str, Any], name: str, notes: list[str]) -> dict[str, Any]:
    """Take what is kept out of the harness's results: all metrics, as they are."""
    results = found["results"][name]
    metrics = {}
    for key, value in results.items():
        metric, comma, how = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            error = results.get(f"{metric}_stderr,{how}")
            metrics[key] = [float(value), float(error) if isinstance(error, int | float) else None]
    version = found["versions"].get(name)  # "Yaml" where a task does not say
    shots = {found["n-shot"][name]} if name in found["n-shot"] else set(found["n-shot"].values())
    return {
        "task": name,
        "metrics": metrics,
        "version": None if version in (None, "Yaml") else str(version),
        "shots": next(iter(shots)) if len(shots) == 1 else None,
        "count": sum(one["effective"] for one in found["n-samples"].values()),
        "notes": notes,
    }


@cache
def _nowhere() -> TextIO:
    """Give a stream that leads nowhere. It stays open: libraries keep it as the one they talk to."""
    return open(os.devnull, "w", encoding="utf-8")
