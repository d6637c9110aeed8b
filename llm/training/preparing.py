"""Data as somebody has them, made into what a trainer takes: token ids, and the fields of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.formats import Malformed, Row, as_row
from mnpo.llm.data.pairs import encode_rows, read_by
from mnpo.llm.models.loading import find, load_model, load_tokenizer
from mnpo.llm.training.anchors import is_external
from mnpo.llm.training.collator import Rows
from mnpo.llm.training.columns import SIDES, anchors_in, check_columns, fit_columns
from mnpo.llm.training.further import with_further_responses
from mnpo.llm.training.logprobs import attached
from mnpo.llm.training.requests import Requests
from mnpo.llm.training.scores import batch_log_probs, in_order
from mnpo.llm.training.tasks import Task
from mnpo.numerics import Array

#: Responses that an anchor scores at once.
_BATCH = 8
#: Columns of token ids, and of what a trainer reads besides fields.
_IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


class Lengths(NamedTuple):
    """Most tokens of prompt and response, and of a prompt."""

    whole: int
    prompt: int


class Prepared(NamedTuple):
    """What a trainer takes: a data set, and which of its columns are fields of `mnpo.objectives.Pairs`."""

    data: Dataset
    fields: tuple[str, ...]


def prepare(
    data: Any,
    task: Task,
    tokenizer: Any,
    anchors: Mapping[str, Any],
    lengths: Lengths,
    device: Callable[[], torch.device],
    share_prompts: bool | None = None,
) -> Prepared:
    """Encode pairs, score them under the anchors that are models, and compute a loss's fields.

    Args:
        data: a `Dataset` or rows; texts, messages or token ids.
        task: what is minimised.
        tokenizer: the policy's; encoded pairs need none.
        anchors: name -> model, folder or name, or (either, tokenizer).
        lengths: in tokens.
        device: gives where anchors that are loaded compute.
        share_prompts: whether anchors compute a prompt once for all its responses; where they can unless given.

    Raises:
        ValueError: bad data, or an anchor or column that is missing, by name.
    """
    table = data if isinstance(data, Dataset) else Dataset.from_list(list(data))
    if "prompt_ids" not in table.column_names:
        if tokenizer is None:
            raise ValueError("processing_class is missing: the tokenizer that texts are encoded with")
        table = _encoded(table, tokenizer, lengths)
    check_columns(task, table.column_names)
    for estimate in task.estimated:
        if f"{estimate.name}_ids" not in table.column_names:
            table = with_further_responses(task, table, lengths.whole)
            break
    at_hand = anchors_in(table.column_names)
    for name in anchors:
        if name in at_hand:
            raise ValueError(f"anchor {name} is given twice: as a model, and as columns of the data")
    for estimate in task.estimated:
        if "reference" in at_hand and f"reference_{estimate.name}" not in table.column_names:
            raise ValueError(
                f"objective {task.objective.name} needs the column reference_{estimate.name}, log-probabilities of "
                f"the responses {estimate.name}_ids, which the data lack; or leave out reference_chosen and "
                "reference_rejected, and give the reference as a model"
            )
    known = [*at_hand, *anchors]
    needed = [name for name in task.anchors(known) if name not in at_hand and name in anchors]
    for name in needed:
        for column, values in _scored(name, anchors[name], task, table, device, share_prompts):
            table = table.add_column(column, values)
    columns = fit_columns(task, table)
    kept = ["row", *_IDS, *(f"{estimate.name}_ids" for estimate in task.estimated)]
    ready = table.select_columns([name for name in kept if name in table.column_names])
    for name, numbers in columns.items():
        ready = ready.add_column(name, numbers)
    return Prepared(ready, tuple(columns))


def padding_of(tokenizer: Any) -> int:
    """Return the id that batches are padded with; any will do, since no response token sees it."""
    found = getattr(tokenizer, "pad_token_id", None)
    return 0 if found is None else int(found)


def _encoded(table: Dataset, tokenizer: Any, lengths: Lengths) -> Dataset:
    """Return pairs as token ids, with the anchors' log-probabilities that the data have."""
    found, _ = encode_rows(
        _rows(table), tokenizer, max_length=lengths.whole, max_prompt_length=lengths.prompt
    )
    for name in anchors_in(table.column_names):
        for side in SIDES.values():
            values = list(table[f"{name}_{side}"])
            found = found.add_column(f"{name}_{side}", [values[row - 1] for row in found["row"]])
    return found


def _rows(table: Dataset) -> Iterator[Row | tuple[int, Malformed]]:
    hidden = {f"{name}_{side}" for name in anchors_in(table.column_names) for side in SIDES.values()}
    for number, raw in enumerate(table, start=1):
        try:
            yield as_row(number, {name: value for name, value in raw.items() if name not in hidden})
        except Malformed as reason:
            yield number, reason


def _scored(
    name: str,
    given: Any,
    task: Task,
    table: Dataset,
    device: Callable[[], torch.device],
    share_prompts: bool | None,
) -> Iterator[tuple[str, Array]]:
    """Yield columns of log-probabilities under one anchor."""
    model, tokenizer = given if isinstance(given, tuple) else (given, None)
    if isinstance(model, str | Path):
        folder = find(str(model))
        tokenizer = tokenizer or (load_tokenizer(folder) if is_external(name) else None)
        model = load_model(folder).to(device())
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"anchor {name} must be a model, or its folder or name; found {type(model).__name__}"
        )
    if is_external(name) and tokenizer is None:
        raise ValueError(f"anchor {name} has a tokenizer of its own: give (model, tokenizer)")
    if is_external(name):
        table = read_by(Encoder(tokenizer), table)
    sides = {f"{name}_{side}": f"{side}_ids" for side in SIDES.values()}
    if name == "reference":
        sides |= {f"{name}_{estimate.name}": f"{estimate.name}_ids" for estimate in task.estimated}
    requests = Requests.joined([Requests.in_table(table, response) for response in sides.values()])
    values = _log_probs(name, model, requests, share_prompts)
    yield from zip(sides, np.split(values, len(sides)), strict=True)


def _log_probs(name: str, model: nn.Module, requests: Requests, share_prompts: bool | None) -> Array:
    """Return log-probabilities in nats, (N,); the model stays as it was."""
    rows = Rows.of(model, share_prompts, packing=False)
    training = model.training
    device = next(model.parameters()).device
    values = np.zeros(len(requests))
    order = in_order(requests, np.arange(len(requests)))
    model.eval()
    try:
        with attached(model):
            for start in range(0, len(order), _BATCH):
                places = order[start : start + _BATCH]
                values[places] = batch_log_probs(model, requests.take(places), device=device, rows=rows)
    except ValueError as error:
        raise ValueError(f"anchor {name}: {error}") from None
    finally:
        model.train(training)
    return values
