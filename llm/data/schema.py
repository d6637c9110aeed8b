"""The rows that stages hand to each other: every column, its Arrow type, its unit, who writes and who reads it.

A table is a folder that `datasets.load_from_disk` reads. Columns in angle brackets stand for one of each name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_IDS = pa.list_(pa.int32())
RESPONSE = pa.struct([("ids", _IDS), ("text", pa.string()), ("ended", pa.bool_())])


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: with <..> for a name that varies.
        type: Arrow's.
        about: what it holds, with its unit.
        written: by which stages.
        read: by which stages; "people" for those that are there to be looked at.
        optional: whether it is left out where no row has it.
    """

    name: str
    type: pa.DataType
    about: str
    written: str
    read: str
    optional: bool = False

    def matches(self, name: str) -> bool:
        """Tell whether a column of a data set is this one."""
        start, opening, rest = self.name.partition("<")
        if not opening:
            return name == self.name
        end = rest.partition(">")[2]
        return name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end)


def _column(
    name: str, kind: pa.DataType, about: str, written: str, read: str, optional: bool = False
) -> Column:
    return Column(name, kind, about, written, read, optional)


_PAIRED = "annotate, score"


def _row(written: str, read: str) -> Column:
    return _column("row", pa.int64(), "the row's number in its source, from 1", written, read)


def _prompt(written: str, read: str) -> Column:
    return _column("prompt", pa.string(), "JSON: a text, or messages", written, read)


def _prompt_ids(written: str, read: str) -> Column:
    about = "token ids of the prompt, with its template and one BOS"
    return _column("prompt_ids", _IDS, about, written, read)


#: Prompts as token ids, found again by what they were made of: `<output_dir>/encoded/<digest>`.
PROMPTS = (
    _row("sample, evaluate, score", "sample, evaluate, score"),
    _prompt("sample, evaluate, score", "sample, evaluate, score"),
    _prompt_ids("sample, evaluate, score", "sample, evaluate"),
)

#: Responses to prompts: `<output_dir>/prompts-and-responses`.
SAMPLES = (
    _row("sample", "annotate, people"),
    _prompt("sample", "annotate, people"),
    _prompt_ids("sample", "annotate"),
    _column("responses", pa.list_(RESPONSE), "the policy's K: token ids with the end, text without it, whether it "
            "ended", "sample", "annotate, people"),
    _column("opponents", pa.list_(pa.list_(RESPONSE)), "each opponent's responses, as the record names them",
            "sample", "annotate, people"),
)  # fmt: skip

#: The oracles' answers: `<output_dir>/annotations`.
ANNOTATIONS = (
    _row("annotate", "people"),
    _column("effective", pa.float64(), "how many equal responses the weights of the sample game are worth",
            "annotate", "people", optional=True),
    _column("wins <oracle>", pa.list_(pa.list_(pa.float64())), "P(row ≻ column) of the K responses against all N; "
            "NaN where it was not asked", "annotate", "people"),
    _column("rewards <oracle>", pa.list_(pa.float64()), "of the N responses, in the oracle's own unit", "annotate",
            "people", optional=True),
)  # fmt: skip


def _number(name: str, about: str) -> Column:
    return _column(name, pa.float64(), about, _PAIRED, "fit", optional=True)


#: What a pair may say of itself: optional numbers.
NUMBERS = (
    _number("preference", "P(chosen ≻ rejected), a probability"),
    _number("win_chosen", "the advantage of chosen: a win rate, or a combination of win rates"),
    _number("win_rejected", "the advantage of rejected"),
    _number("reward_chosen", "the reward of chosen, in the oracle's own unit over its scale"),
    _number("reward_rejected", "the reward of rejected"),
    _number("gamma_chosen", "the uncertainty Γ of chosen"),
    _number("gamma_rejected", "the uncertainty Γ of rejected"),
    _number("margin", "the gap of whatever the objective regresses on"),
    _number("weight", "how often the pair counts, at least 0"),
)

#: Preference pairs as token ids: `<output_dir>/preferences` of `annotate`, `<output_dir>/encoded/<digest>` of data.
PAIRS = (
    _column("row", pa.int64(), "of data the row's number in its source, of pairs that were made their own; from 1",
            _PAIRED, "fit, people"),
    _column("source", pa.int64(), "the prompt's number in its source", "annotate", "people", optional=True),
    _prompt(_PAIRED, "score, people"),
    _column("chosen", pa.string(), "the preferred response, as it was kept", _PAIRED, "score, people"),
    _column("rejected", pa.string(), "the other response", _PAIRED, "score, people"),
    _column("chosen_cut", pa.bool_(), "whether chosen lacks its end", _PAIRED, "score"),
    _column("rejected_cut", pa.bool_(), "whether rejected lacks its end", _PAIRED, "score"),
    _prompt_ids(_PAIRED, "score, fit"),
    _column("chosen_ids", _IDS, "token ids of chosen, with its end", _PAIRED, "score, fit"),
    _column("rejected_ids", _IDS, "token ids of rejected", _PAIRED, "score, fit"),
    *NUMBERS,
    _column("<estimate>_ids", _IDS, "token ids of a response to another prompt, for an estimate such as KTO's kl",
            "score", "score, fit", optional=True),
)  # fmt: skip

#: Pairs as an external anchor's own tokenizer reads them: `<output_dir>/encoded/<digest>`.
READ_BY = (
    _prompt_ids("score", "score"),
    _column("chosen_ids", _IDS, "token ids of chosen, with its end unless it was cut", "score", "score"),
    _column("rejected_ids", _IDS, "token ids of rejected", "score", "score"),
)

#: Pairs with their log-probabilities: `<output_dir>/scored`.
SCORED = (
    *PAIRS,
    _column("<anchor>_chosen", pa.float64(), "log μ(chosen | prompt) in nats", "score", "fit", optional=True),
    _column("<anchor>_rejected", pa.float64(), "log μ(rejected | prompt) in nats", "score", "fit", optional=True),
    _column("reference_<estimate>", pa.float64(), "log π_ref of the response to another prompt, in nats", "score",
            "fit", optional=True),
)  # fmt: skip

#: Everybody's answers to held-out prompts: `<output_dir>/held-out`.
HELD_OUT = (
    _row("evaluate", "people"),
    _prompt("evaluate", "people"),
    _column("<policy>", pa.list_(pa.string()), "its responses, texts", "evaluate", "people"),
)

#: Judgments as an oracle of one's own reads them: `<output_dir>/encoded/<digest>`.
JUDGMENTS = (
    _row("fit-oracle", "people"),
    _prompt("fit-oracle", "fit-oracle, people"),
    _column("responses", pa.list_(pa.string()), "the K responses that were judged", "fit-oracle", "people"),
    _column("annotator", pa.string(), "who judged", "fit-oracle", "fit-oracle", optional=True),
    _column("preference", pa.float64(), "of a pair: P(first ≻ second), a probability", "fit-oracle", "fit-oracle",
            optional=True),
    _column("strength", pa.float64(), "of a pair: how much better the preferred one is, at least 0", "fit-oracle",
            "fit-oracle", optional=True),
    _column("ranks", pa.list_(pa.int32()), "of the K responses, 0 for the best; equal ones are tied",
            "fit-oracle", "fit-oracle", optional=True),
    _column("ratings", pa.list_(pa.list_(pa.float64())), "of the K responses by attribute; null for none",
            "fit-oracle", "fit-oracle", optional=True),
    _column("weight", pa.float64(), "how often the judgment counts, at least 0", "fit-oracle", "fit-oracle"),
    _column("sequences", pa.list_(_IDS), "token ids: prompt and each response, or a pair in both orders",
            "fit-oracle", "fit-oracle"),
    _column("judgment", pa.int64(), "its number: several can come from one row", "fit-oracle", "fit-oracle"),
    _column("count", pa.int64(), "K", "fit-oracle", "fit-oracle"),
    _column("shared", pa.int64(), "tokens that all sequences begin with", "fit-oracle", "fit-oracle"),
    _column("longest", pa.int64(), "tokens of the longest sequence", "fit-oracle", "fit-oracle"),
    _column("tokens", pa.int64(), "tokens of all sequences", "fit-oracle", "fit-oracle"),
)  # fmt: skip

TABLES = {
    "encoded/<prompts>": PROMPTS,
    "prompts-and-responses": SAMPLES,
    "annotations": ANNOTATIONS,
    "preferences": PAIRS,
    "encoded/<pairs>": PAIRS,
    "encoded/<pairs of an external anchor>": READ_BY,
    "scored": SCORED,
    "held-out": HELD_OUT,
    "encoded/<judgments>": JUDGMENTS,
}


def arrow_schema(table: Collection[Column]) -> pa.Schema:
    """Return a table's columns with fixed names as an Arrow schema."""
    return pa.schema([(column.name, column.type) for column in table if "<" not in column.name])


def as_table(rows: Sequence[Mapping[str, Any]], table: Collection[Column]) -> pa.Table:
    """Return rows in a table's Arrow types; optional columns that no row has are left out.

    Args:
        rows: name -> value; each name that of a column.
        table: whose columns they have.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    types = [(name, next(column.type for column in table if column.matches(name))) for name in names]
    return present(pa.Table.from_pylist(list(rows), schema=pa.schema(types)), table)


def present(found: pa.Table, table: Collection[Column]) -> pa.Table:
    """Leave out the optional columns that no row has."""
    optional = {column.name for column in table if column.optional}
    kept = [
        name for name in found.column_names if name not in optional or found[name].null_count < len(found)
    ]
    return found.select(kept)
