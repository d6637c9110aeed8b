"""Transformers' TrainingArguments under their own names, known without importing transformers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self

from mnpo.choices import choose, suggestion
from mnpo.values import Range, coerce

#: Arguments that mnpo sets, and why.
FIXED = {
    "output_dir": "it is the run's own",
    "remove_unused_columns": "its columns are all used",
    "label_names": "there are no labels",
    "resume_from_checkpoint": "the same command again resumes",
    "load_best_model_at_end": "the final weights are the result",
    "auto_find_batch_size": "a changed batch would be another run",
    "save_only_model": "without the optimizer's state a run could not be resumed",
    "ignore_data_skip": "a resumed run would see other pairs",
    "label_smoothing_factor": "give the column preference",
    "ddp_timeout": "processes wait seven days for each other",
    "ddp_backend": "gloo on CPUs, nccl on GPUs",
    "hub_token": "log in to the hub instead: a token would stand in the run's files",
    "do_train": "say mnpo llm fit",
    "do_eval": "give eval_size or eval_dataset_name",
    "do_predict": "it has no use here",
}
#: Arguments, by how their names begin, that may change between two calls of the same run.
FREE = (
    "logging_", "log_", "report_to", "run_name", "project", "disable_tqdm", "save_", "eval_strategy", "eval_steps",
    "eval_on_start", "eval_delay", "per_device_eval_batch_size", "dataloader_num_workers", "dataloader_pin_memory",
    "dataloader_prefetch_factor", "hub_", "push_to_hub",
)  # fmt: skip
#: Arguments that are the same for all players and iterations.
WHOLE_RUN = ("seed",)
_COUNT, _SEED = Range(least=1, most=2**31 - 1), Range(least=0, most=2**32 - 1)
_FROM_0 = Range(least=0, most=2**31 - 1)
_STEPS = Range(above=0, most=2**31 - 1)
_MOMENT = Range(least=0, most=1 - 2**-53)
#: The numbers that transformers' arguments take; all that take a number and can be given stand here.
RANGES = {
    "per_device_train_batch_size": _COUNT, "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT, "num_train_epochs": Range(above=0, most=10**6),
    "max_steps": Range(least=-1, most=2**31 - 1), "learning_rate": Range(least=0, most=1e6),
    "warmup_steps": _FROM_0, "weight_decay": Range(least=0, most=1e6), "adam_beta1": _MOMENT,
    "adam_beta2": _MOMENT, "adam_epsilon": Range(least=0, most=1), "max_grad_norm": Range(least=0, most=1e30),
    "neftune_noise_alpha": Range(least=0, most=1e6), "torch_empty_cache_steps": _COUNT, "logging_steps": _STEPS,
    "eval_steps": _STEPS, "eval_delay": _FROM_0, "eval_accumulation_steps": _COUNT, "save_steps": _STEPS,
    "save_total_limit": _COUNT, "seed": _SEED, "data_seed": _SEED,
    "dataloader_num_workers": Range(least=0, most=1024), "dataloader_prefetch_factor": _COUNT,
    "ddp_bucket_cap_mb": _COUNT, "local_rank": Range(least=-1, most=2**16),
}  # fmt: skip
#: Who can be reported to, and the package that this takes.
_REPORTERS = {
    name: name
    for name in ("clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "mlflow", "neptune", "swanlab",
                 "tensorboard", "trackio", "wandb")
} | {"azure_ml": "azureml", "flyte": "flytekit"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What every stage must know of how it computes: part of `Training`.

    Attributes:
        seed: of everything that is drawn.
        use_cpu: whether a GPU is left alone.
        precision: "bf16" or "fp16", where it is not that of the weights.
        scoring_batch_size: responses scored at once.
    """

    seed: int = 42
    use_cpu: bool = False
    precision: str | None = None
    scoring_batch_size: int = 8

    def as_dict(self) -> dict[str, Any]:
        """Return what results depend on."""
        return {"seed": self.seed, "use_cpu": self.use_cpu, "precision": self.precision}


@dataclass(frozen=True, kw_only=True)
class Training:
    """TrainingArguments of transformers, under their own names."""

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Check arguments as YAML reads them.

        Raises:
            ValueError: an unknown argument, one that mnpo sets, a value of another kind or an unknown name.
        """
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name in FIXED:
                raise ValueError(f"{name} is set by mnpo: {FIXED[name]}")
            known = choose(name, arguments(), "TrainingArgument")
            values[name] = coerce(value, known.kinds, name)
            if name in RANGES and values[name] is not None and not isinstance(values[name], str):
                RANGES[name].check(name, values[name])
            if known.choices and isinstance(values[name], str):
                choose(values[name], dict.fromkeys(known.choices), f"value of {name}")
        if values.get("train_sampling_strategy") == "batch_rebalance":
            raise ValueError("train_sampling_strategy must be group_by_length, random or sequential")
        _check_reporters(values.get("report_to"))
        return cls(values=values)

    @property
    def compute(self) -> Compute:
        """What every stage must know."""
        asked = [name for name in ("bf16", "fp16") if self.values.get(name)]
        return Compute(
            seed=int(self.values.get("seed", 42)),
            use_cpu=bool(self.values.get("use_cpu")),
            precision=asked[0] if asked else None,
            scoring_batch_size=int(self.values.get("per_device_eval_batch_size", 8)),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the arguments and values as plain data."""
        return dict(self.values)


class Argument(NamedTuple):
    """One of TrainingArguments: the kinds of value that it takes, and the names, if it is one of some."""

    kinds: tuple[type, ...]
    choices: tuple[str, ...]


@cache
def arguments() -> dict[str, Argument]:
    """Return transformers' TrainingArguments.

    They are read off the source file: importing it takes seconds, and a wrong key is to be answered at once.

    Raises:
        ValueError: transformers is not installed.
    """
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ValueError("language models need transformers: pip install 'mnpo[llm]'")
    folder = Path(spec.origin).parent
    trees = [
        ast.parse((folder / name).read_text("utf-8")) for name in ("training_args.py", "trainer_utils.py")
    ]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    found: dict[str, Argument] = {}
    for entry in classes["TrainingArguments"].body:
        if not isinstance(entry, ast.AnnAssign) or not isinstance(entry.target, ast.Name):
            continue
        if entry.target.id.startswith("_") or "init=False" in ast.unparse(entry).replace(" ", ""):
            continue
        kinds = tuple(dict.fromkeys(_kinds(entry.annotation)))
        names = [node.id for node in ast.walk(entry.annotation) if isinstance(node, ast.Name)]
        choices = [text for name in names if name in classes for text in _texts(classes[name])]
        found[entry.target.id] = Argument(kinds, tuple(choices))
    return found


def _kinds(annotation: ast.expr) -> Iterator[type]:
    """Yield the plain kinds of value that an annotation admits; names of enumerations are texts."""
    plain = {"int": int, "float": float, "str": str, "bool": bool, "dict": dict, "list": list}
    match annotation:
        case ast.BinOp(left=left, right=right):
            yield from _kinds(left)
            yield from _kinds(right)
        case ast.Constant(value=None):
            yield type(None)
        case ast.Constant(value=str() as text):
            yield from _kinds(ast.parse(text, mode="eval").body)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            yield from _kinds(inner)
            yield type(None)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            for part in parts:
                yield from _kinds(part)
        case ast.Subscript(value=outer):
            yield from _kinds(outer)
        case ast.Name(id=name):
            yield plain.get(name, str)
        case _:
            yield str


def _texts(enumeration: ast.ClassDef) -> Iterator[str]:
    """Yield the values of an enumeration of texts."""
    for entry in enumeration.body:
        if isinstance(entry, ast.Assign) and isinstance(entry.value, ast.Constant):
            yield str(entry.value.value)


def _check_reporters(given: Any) -> None:
    """Refuse to report to what is not installed.

    Raises:
        ValueError: says what is missing.
    """
    for name in [given] if isinstance(given, str) else given or []:
        if name in ("none", "all"):
            continue
        if name not in _REPORTERS:
            raise ValueError(f"report_to: unknown {name!r}; {suggestion(str(name), [*_REPORTERS, 'none'])}")
        if find_spec(_REPORTERS[name]) is None:
            raise ValueError(f"report_to={name} needs the package {_REPORTERS[name]}, which is not installed")
