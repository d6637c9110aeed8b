"""Every number of docs/concepts.md, read from the page: as arithmetic, from the definitions, and by mnpo."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from concepts_numbers import by_mnpo, defined, label_fit
from concepts_page import (
    DOCS,
    LABELS,
    NAMES,
    PAGE,
    Line,
    code_lines,
    evaluate,
    given,
    lines,
    number,
    rounds_to,
    shown,
)

import mnpo
from mnpo.rules import LABEL_GAP


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.name)
def test_lines_are_right_as_arithmetic(line: Line) -> None:
    value = evaluate(line.expression)
    if line.exact:
        assert value == pytest.approx(number(line.shown), abs=1e-12)
    else:
        assert rounds_to(value, line.shown), f"{line.expression} is {value:.7f}"


@pytest.mark.parametrize(("name", "cell"), shown())
def test_numbers_follow_from_the_definitions(name: str, cell: str) -> None:
    assert rounds_to(defined()[name], cell), f"{name} is {defined()[name]:.8g}"


def test_every_name_is_on_the_page() -> None:
    """Nothing that is computed here has dropped off the page."""
    assert set(defined()) == {name for name, _ in shown()}


def test_numbers_that_come_again_are_the_same() -> None:
    """Long numbers in expressions are results; numbers in sentences stand in a line or a table too."""
    worked = PAGE.split("## Worked example")[1].split("## Numbers in the paper")[0]
    results = {cell for _, cell in shown()} | {f"{1 - number(cell):.5f}" for _, cell in shown()}
    expressions = " ".join(line.expression for line in lines())
    assert set(re.findall(r"\d+\.\d{4,}", expressions)) <= results
    code, cells = " ".join(code_lines()), " ".join(re.findall(r"^\|.*$", worked, flags=re.MULTILINE))
    known = set(re.findall(r"\d+\.\d+", f"{code} {cells}"))
    sentences = re.sub(r"```.*?```|^    .*?$|^\|.*?$", "", worked, flags=re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"\d+\.\d+", sentences)) <= known


def test_sentences_with_round_numbers() -> None:
    g = given()
    exact = mnpo.solve(mnpo.Game(mnpo.Pairwise(g.wins), 2, 0.0)).policies[0, 0]
    assert exact == pytest.approx(np.array([2, 4, 3]) / 9)
    lead = np.array([0.5 - 0.1, 0.9 - 0.5])  # P_1(a ≻ z) − P_1(b ≻ z) for both responses z
    assert lead == pytest.approx(0.4)
    for said in (
        "the equilibrium is (2/9, 4/9, 3/9)",
        "a wins with 0.6",
        "Try p = 0.8",
        "p = 0.8 is the equilibrium",
        "q(a) − q(b) is 0.4 for player 1 and −0.4 for player 2",
        "ℓ = 0.5·(−ℓ) + 2·0.4",
        "with weight 0.5 each",
    ):
        assert PAGE.count(said) == 1, said


@pytest.mark.parametrize("name", sorted(by_mnpo()))
def test_mnpo_agrees(name: str) -> None:
    sampled = name == "mean_label(a)"
    assert by_mnpo()[name] == pytest.approx(defined()[name], abs=2e-2 if sampled else 2e-7)


def test_the_code_on_the_page_gives_the_table() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["gains"] == pytest.approx(defined()["exploitability"], abs=1e-7)
    assert names["gap"] == pytest.approx(defined()["duality gap"], abs=1e-7)
    after = np.exp(names["log_next"][0, 0])
    assert after == pytest.approx([defined()[f"π^{{t+1}}({y})"] for y in NAMES])
    assert names["found"].policies[0, 0] == pytest.approx([defined()[f"π*({y})"] for y in NAMES])


def test_labels_teach_every_response_the_mean_over_its_partners() -> None:
    """(11): with η/2 the fit over all pairs and labels is η (q − ½), for all three responses."""
    g = given()
    assert label_fit(g) == pytest.approx(g.eta * (g.wins @ g.current - 0.5))
    assert LABEL_GAP == 0.5


def test_a_third_response_is_unbiased() -> None:
    """(12): the mean over z and over what the oracle says."""
    g = given()
    opponent = np.array([0.2, 0.3, 0.5])
    for y, other in itertools.permutations(range(3), 2):
        mean = sum(opponent[z] * (g.wins[y, z] - g.wins[other, z]) for z in range(3))
        assert mean == pytest.approx((g.wins @ opponent)[y] - (g.wins @ opponent)[other])


def test_stable_steps_of_many_players() -> None:
    """(13) for τ → 0 and equal weights: what the page says of two to five players."""

    def rate(players: int, step: float) -> float:
        past = players - 1
        polynomial = [1, *(-np.full(past, 1 / past) - 1j * step * np.eye(past)[0])]
        return float(np.abs(np.roots(polynomial)).max())

    for players in (2, 3):
        assert all(rate(players, step) > 1 for step in np.geomspace(1e-2, 10, 50))
    for players, edge in ((4, 4 / 3), (5, 1.0)):
        assert all(rate(players, step) < 1 for step in np.linspace(0.05, 0.99, 20) * edge)
        assert rate(players, 1.01 * edge) > 1


def test_labels_stand_where_they_are_looked_for() -> None:
    """Each label has an anchor, and its equation follows and ends in it."""
    anchors = re.findall(r'^<a id="eq-(\w+)"></a>$', PAGE, flags=re.MULTILINE)
    assert anchors == LABELS
    for label, rest in zip(anchors, re.split(r'<a id="eq-\w+"></a>\n\n', PAGE)[1:], strict=True):
        block = rest.split("\n\n")[0]
        assert block.startswith("    ")
        assert block.rstrip().endswith(f"({label})")
    for cited in ("Eq. 9", "Eq. 10", "Eq. 11", "Lemma 1", "Proposition 1"):
        assert f"MNPO {cited}" in PAGE or f"MNPO v3 {cited}" in PAGE


def test_labels_that_the_code_cites_are_on_the_page() -> None:
    files = [
        path
        for folder in ("mnpo", "sim", "llm", "cli", "tests")
        for path in (DOCS.parent / folder).rglob("*.py")
    ]
    cited = {
        label
        for path in files
        for listed in re.findall(
            r"docs/concepts\.md,? ((?:\(\w+\)(?:, | and )?)+)", path.read_text(encoding="utf-8")
        )
        for label in re.findall(r"\((\w+)\)", listed)
    }
    assert cited <= set(LABELS)
