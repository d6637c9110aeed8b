"""Tables 2 to 4 of the MNPO paper (2509.23102, v3) with rows of one's own beside its rows.

The paper's figures are Gemma-2-9B-it's after three iterations, judged by GPT-5-mini; a row of one's own says its
judge and protocol. Cells that are empty here are those whose figures were not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: The file of academic results, in the output folder of a benchmark.
ACADEMIC = "academic.json"
#: What the paper's rows are marked with.
SOURCE = "paper: EvalScope 1.0.2, GPT-5-mini"


class Table(NamedTuple):
    """A table of the paper.

    Attributes:
        title: of the paper's.
        columns: titles, with where one's own figures are: suite or task, and keys of its statistics, the first that
            is there.
        rows: of the paper.
    """

    title: str
    columns: Mapping[str, tuple[str, tuple[str, ...]]]
    rows: Mapping[str, tuple[float | None, ...]]


TABLES = (
    Table(
        "Table 2: preference alignment",
        {
            "AlpacaEval 2": ("alpaca-eval-2", ("lc_win_rate", "win_rate")),
            "Arena-Hard": ("arena-hard", ("win_rate",)),
            "MT-Bench": ("mt-bench", ("score",)),
        },
        {
            "SFT (Gemma-2-9B-it)": (50.15, 44.97, 6.49),
            "DPO": (54.35, 45.63, 6.87),
            "SimPO": (55.16, 45.04, 6.87),
            "SPPO": (55.97, 43.89, 6.86),
            "INPO": (56.09, 48.03, 6.95),
            "TD-MNPO": (57.27, 52.26, 7.03),
            "HT-MNPO (ArmoRM)": (57.63, 50.93, 7.52),
            "HT-MNPO (Athene)": (59.64, 51.17, 7.07),
        },
    ),
    Table(
        "Table 3: instructions, knowledge and common sense",
        {
            name: ("academic", (name,))
            for name in ("IFEval", "GPQA", "MMLU", "ARC", "HellaSwag", "TruthfulQA", "Winogrande")
        }
        | {"mean": ("academic", ("mean of 7",))},
        {
            "SFT (Gemma-2-9B-it)": (None, None, None, None, None, 70.75, None, 70.28),
            "DPO": (None, None, None, None, None, None, None, 70.68),
            "SimPO": (None, None, None, None, None, 63.40, None, 69.60),
            "SPPO": (None, None, None, None, None, None, None, 70.19),
            "INPO": (None, None, None, None, None, None, None, 70.25),
            "TD-MNPO": (73.94, 33.33, None, None, None, 70.26, None, 71.08),
            "HT-MNPO (Skywork)": (None, None, None, None, None, None, None, 71.80),
        },
    ),
    Table(
        "Table 4: mathematics and code",
        {name: ("academic", (name,)) for name in ("GSM8K", "Minerva-Math", "AIME-24", "HumanEval")}
        | {"mean": ("academic", ("mean of 4",))},
        {
            "SFT (Gemma-2-9B-it)": (None, None, 0.0, 60.37, 46.61),
            "SimPO": (None, None, 0.0, 57.32, 45.82),
            "SPPO": (None, None, 0.0, None, 47.33),
            "INPO": (None, None, 0.0, 59.15, 47.10),
            "TD-MNPO": (None, None, 3.33, 61.59, 48.10),
            "HT-MNPO (Skywork)": (None, None, 0.0, 59.76, 47.86),
        },
    ),
)


def tables(suites: Mapping[str, Mapping[str, Any]], protocol: str) -> dict[str, dict[str, Any]]:
    """Return the paper's tables with one's own rows.

    Args:
        suites: benchmark -> its result; "academic" -> models: name -> title -> value.
        protocol: of one's own rows.

    Returns:
        title -> columns, and rows of name, source and values, None for an empty cell. Tables without a figure of
        one's own are left out.
    """
    found = {}
    for table in TABLES:
        own = _own(table, suites, protocol)
        if own:
            theirs = [
                {"name": name, "source": SOURCE, "values": list(row)} for name, row in table.rows.items()
            ]
            found[table.title] = {"columns": list(table.columns), "rows": theirs + own}
    return found


def _own(table: Table, suites: Mapping[str, Mapping[str, Any]], protocol: str) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for found in suites.values() for name in found["models"])
    rows = []
    for name in names:
        values, sources = [], dict[str, None]()
        for suite, keys in table.columns.values():
            row = suites.get(suite, {}).get("models", {}).get(name, {})
            row = row | _means(row) if suite == "academic" else row
            value = next((row[key] for key in keys if key in row), None)
            value = value["value"] if isinstance(value, Mapping) else value
            values.append(None if value is None else float(value))
            if value is not None:
                sources[_source(suites[suite], protocol)] = None
        if sources:
            rows.append({"name": name, "source": "; ".join(sources), "values": values})
    return rows


def _means(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the means of Tables 3 and 4, where all that they are means of is there."""
    found = {}
    for table in TABLES[1:]:
        *names, mean = (keys[0] for _, keys in table.columns.values())
        if all(name in row for name in names):
            found[mean] = sum(row[name]["value"] for name in names) / len(names)
    return found


def _source(found: Mapping[str, Any], protocol: str) -> str:
    return (
        f"{protocol}, {found['judge'].partition(' at ')[0]}" if "judge" in found else str(found["protocol"])
    )


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables as Markdown."""
    parts = []
    for title, table in found.items():
        lines = [f"## {title}", "", _line(["model", *table["columns"], "protocol, judge"])]
        lines.append("|---|" + "---:|" * len(table["columns"]) + "---|")
        lines += [
            _line([_plain(row["name"]), *_cells(row["values"]), _plain(row["source"])])
            for row in table["rows"]
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def latex(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables as LaTeX, for the package booktabs."""
    parts = []
    for title, table in found.items():
        head = " & ".join(map(_tex, ["model", *table["columns"], "protocol, judge"]))
        rows = [
            " & ".join([_tex(row["name"]), *_cells(row["values"]), _tex(row["source"])]) + r" \\"
            for row in table["rows"]
        ]
        parts.append(
            "\n".join([
                f"% {title}", r"\begin{tabular}{l" + "r" * len(table["columns"]) + "l}", r"\toprule",
                head + r" \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
            ])
        )  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _cells(values: Sequence[float | None]) -> list[str]:
    return ["" if value is None else f"{value:.2f}" for value in values]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in " ".join(text.split()))
