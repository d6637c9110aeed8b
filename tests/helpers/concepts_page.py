"""The numbers of docs/concepts.md, read from the page."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "concepts.md").read_text(encoding="utf-8")
LABELS = [*map(str, range(1, 10)), "U", "10", "L", "11", "12", "13", "14", "15", "16", "17", "18"]
NAMES = "abc"
PAIRS = ("c, a", "c, b", "a, b")


# --- reading the page -----------------------------------------------------------------------------------------


def code_lines() -> list[str]:
    """Lines of indented code, without the numbered equations."""
    blocks = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL).split("\n\n")
    code = [block for block in blocks if block.startswith("    ")]
    lines = [line for block in code for line in block.strip("\n").split("\n")]
    numbered = [block for block in code if re.search(r"\((\d+|U|L)\)$", block)]
    return [line.strip() for line in lines if not any(line in block for block in numbered)]


@dataclass(frozen=True)
class Line:
    """name = expression = shown, or with ≈."""

    name: str
    expression: str
    shown: str
    exact: bool


def lines() -> list[Line]:
    found = []
    for line in code_lines():
        name, expression, relation, shown = re.fullmatch(r"(\S.*?) = (.*?)(?: ([=≈]) (\S+))?", line).groups()
        found.append(Line(name, expression, shown or expression, relation != "≈"))
    return found


def tables() -> dict[str, dict[str, list[str]]]:
    """Tables by the text of their header: row's first cell -> the other cells."""
    found: dict[str, dict[str, list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        found[" ".join(rows[0]).strip()] = {row[0]: row[1:] for row in rows[2:]}
    return found


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def rounds_to(value: float, shown: str) -> bool:
    """Whether a value, rounded to as many places as are shown, is what is shown."""
    mantissa, _, exponent = shown.partition("e")
    places = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return abs(value - number(shown)) <= 0.5 * 10.0**-places + 1e-12


def evaluate(expression: str) -> float:
    source = expression.replace("·", "*").replace("−", "-").replace("^", "**")
    assert re.fullmatch(r"(log|exp|sqrt|[\d.+\-*/() ])+", source), expression
    names = {"log": math.log, "exp": math.exp, "sqrt": math.sqrt, "__builtins__": {}}
    return float(eval(source, names))


@dataclass(frozen=True)
class Given:
    """The game and the policies that the page gives."""

    wins: np.ndarray
    reference: np.ndarray
    current: np.ndarray
    tau: float
    eta: float


def given() -> Given:
    matrix, results = tables()["P a b c"], tables()["a b c equation"]
    assert list(matrix) == list(NAMES)
    values = {line.name: line.shown for line in lines()}
    return Given(
        np.array([[number(cell) for cell in row] for row in matrix.values()]),
        np.array([number(cell) for cell in results["reference π_ref"][:3]]),
        np.array([number(cell) for cell in results["current policy π^t"][:3]]),
        number(values["τ"]),
        number(values["η"]),
    )


# --- the numbers from their definitions, without mnpo -----------------------------------------------------------


def shown() -> list[tuple[str, str]]:
    """Every number of the page with its name: lines and tables."""
    found = [(line.name, line.shown) for line in lines()]
    results = tables()["a b c equation"]
    for row, name in (
        ("win probability q", "q"),
        ("best response", "BR"),
        ("next policy π^{t+1}", "π^{t+1}"),
        ("equilibrium π*", "π*"),
        ("win probability q at π*", "q*"),
    ):
        found += [(f"{name}({y})", cell) for y, cell in zip(NAMES, results.pop(row), strict=False)]
    assert set(results) == {"reference π_ref", "current policy π^t"}
    scalars = {
        "KL(π^t ‖ π_ref)": "KL",
        "payoff u": "u",
        "value of the best response V": "V",
        "exploitability": "exploitability",
        "NashConv": "NashConv",
        "duality gap": "duality gap",
        "worst-case gap with three players": "worst-case gap",
    }
    table = tables()["of the current policy π^t value equation"]
    found += [(scalars[row], cells[0]) for row, cells in table.items()]
    (pairs,) = [table for header, table in tables().items() if header.startswith("pair y, y'")]
    for pair, cells in pairs.items():
        found += [
            (f"{what}({pair})", cell)
            for what, cell in zip(("ratio", "share", "h", "target"), cells, strict=True)
        ]
    (header,) = [header for header in tables() if header.startswith("updates ")]
    updates = header.split()[1:]
    found += [(f"gap {t}", cell) for t, cell in zip(updates, tables()[header]["duality gap"], strict=True)]
    said = re.search(r"π\* = \((\S+), (\S+), (\S+)\)", PAGE)
    assert said is not None
    found += [(f"π*({y})", cell) for y, cell in zip(NAMES, said.groups(), strict=True)]
    return found


# --- tests --------------------------------------------------------------------------------------------------------
