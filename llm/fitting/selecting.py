"""Which judgments a fit takes: those that its objective can read, of whom, and which are held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from mnpo.common.digests import bytes_digest
from mnpo.llm.config import Data, OracleFit
from mnpo.llm.data.judgments import ANNOTATORS, Judgment, read_judgments
from mnpo.llm.data.pairs import Report, describe
from mnpo.llm.data.tables import batches
from mnpo.oracle_objectives import COMPARISONS, REGRESSION

Places = npt.NDArray[np.int64]
#: Columns that say what a judgment is.
_SAYS = ("prompt", "annotator", "preference", "strength", "ranks", "ratings", "weight")


@dataclass(frozen=True)
class Judgments:
    """The judgments of a table that an objective can read.

    Attributes:
        table: all of them, mapped.
        places: which rows.
        prompts: a digest of each of these rows' prompts, (N,).
        annotators: who judged each, (N,); empty for nobody.
        ties: how many say that two responses are equally good, and nothing else.
    """

    table: Dataset
    places: Places
    prompts: npt.NDArray[np.str_]
    annotators: npt.NDArray[np.str_]
    ties: int

    def __len__(self) -> int:
        return len(self.places)

    def rows(self) -> Dataset:
        """Return the rows."""
        return self.table.select(self.places)

    def take(self, chosen: npt.NDArray[np.bool_]) -> Judgments:
        """Return some of them."""
        return Judgments(
            self.table, self.places[chosen], self.prompts[chosen], self.annotators[chosen], self.ties
        )

    def among(self, others: Judgments) -> Judgments:
        """Return those of others, of the same table, that are among these rows."""
        return others.take(np.isin(others.places, self.places))

    def held_out(self, size: float, seed: int) -> tuple[Judgments, Judgments]:
        """Return those to train on and those that are held out: no prompt is in both.

        Args:
            size: how many are held out at least, or a share below 1.
            seed: of the choice.

        Raises:
            ValueError: none would be left to train on.
        """
        wanted = int(size if size >= 1 else round(size * len(self)))
        names, of = np.unique(self.prompts, return_inverse=True)
        counts = np.bincount(of)
        order = np.random.default_rng(seed).permutation(len(names))
        enough = int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1
        held = np.isin(of, order[:enough])
        if wanted < 1 or held.all():
            raise ValueError(
                f"eval_size must leave judgments to train on; found {wanted} of {len(self)}, of {len(names)} "
                "prompts, each of which is held out as a whole or not at all"
            )
        return self.take(~held), self.take(held)


def judgments_for(objective: str, table: Dataset, report: Report, *, named: bool = False) -> Judgments:
    """Return the judgments that an objective can read.

    Args:
        objective: one of `mnpo.oracle_objectives.ORACLE_OBJECTIVES`.
        table: judgments as token ids.
        report: what became of the rows; what is left out is counted there.
        named: whether only those count of which it is known who judged.

    Raises:
        ValueError: none is left, or all of them are ties.
    """
    kept, prompts, people, ties, start = [], [], [], 0, 0
    for rows in batches(table, [name for name in _SAYS if name in table.column_names]):
        for place, row in enumerate(_rows(rows), start):
            why = _why_not(objective, row, named)
            if why is not None:
                report.drop(why, 0, why)
                continue
            kept.append(place)
            prompts.append(bytes_digest(str(row["prompt"]).encode()).hex())
            people.append(str(row.get("annotator") or ""))
            ties += objective != REGRESSION and row.get("preference") == 0.5
        start += len(rows)
    report.kept = len(kept)
    if not kept:
        raise ValueError(f"no judgment can be used by oracle_objective={objective}: {describe(report)}")
    if ties == len(kept):
        raise ValueError(
            f"all {ties} judgments are ties: nothing is preferred, and there is nothing to learn"
        )
    return Judgments(table, np.array(kept), np.array(prompts), np.array(people), ties)


def annotators_in(data: Data, fit: OracleFit) -> list[str]:
    """Return everybody who is named in a source, in order.

    Raises:
        ValueError: bad data, or nobody is named.
    """
    assert data.dataset_name is not None
    found = read_judgments(
        data.dataset_name,
        config=data.dataset_config_name,
        split=data.dataset_split,
        limit=data.max_samples,
        columns=data.columns,
        attributes=fit.rated,
    )
    names = {one.annotator for one in found if isinstance(one, Judgment)} - {None}
    if not names:
        raise ValueError(
            f"per_annotator: nobody is named in {data.dataset_name} (columns {', '.join(ANNOTATORS)})"
        )
    return sorted(str(name) for name in names)


def annotators_of(judged: Sequence[str], least: int) -> dict[str, int]:
    """Return how many labels each annotator gave, by name.

    Args:
        judged: who judged, label by label.
        least: labels that everybody needs.

    Raises:
        ValueError: nobody is named, or somebody gave fewer than `least`.
    """
    counts = dict(sorted(Counter(judged).items()))
    few = [name for name, labels in counts.items() if labels < least]
    if few:
        raise ValueError(
            f"annotator {few[0]} has {counts[few[0]]} label{'s' * (counts[few[0]] != 1)}, fewer than "
            f"annotator_labels={least}" + (f" (and {len(few) - 1} more annotators)" if len(few) > 1 else "")
        )
    return counts


def _rows(table: pa.Table) -> list[dict[str, object]]:
    found: list[dict[str, object]] = table.to_pylist()
    return found


def _why_not(objective: str, row: dict[str, object], named: bool) -> str | None:
    if named and not row.get("annotator"):
        return "no annotator"
    if row.get("weight") == 0:
        return "weight 0"
    if objective == REGRESSION:
        ratings = row.get("ratings")
        rated = isinstance(ratings, list) and any(one is not None for rated in ratings for one in rated)
        return None if rated else "no rating"
    ranks = row.get("ranks")
    if row.get("preference") is None and not (isinstance(ranks, list) and len(set(ranks)) > 1):
        return "nothing is compared" if ranks is None else "all tied"
    if objective in COMPARISONS and (COMPARISONS[objective].offset or COMPARISONS[objective].factor):
        return "no strength" if row.get("strength") is None else None
    return None
