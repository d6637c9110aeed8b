"""Figures from a run's plain record, so that they can be drawn again without running again.

Matrices are drawn in ColorBrewer's PuOr.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.sim.crosscheck_plots import crosscheck_figures
from mnpo.sim.style import FLOOR, HATCHES, MARKERS, OTHERS, PALETTE, WIDTH, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return all figures of a record (`results.json`), by file name without ending.

    Raises:
        ValueError: a record of no kind that has figures.
    """
    kind = record.get("kind")
    if kind == "compare":
        drawn = {
            "gap": gap_figure(record),
            "composition": composition_figure(record),
            "effective-responses": effective_figure(record),
        }
        if record["win_matrix"]:
            drawn["win-matrix"] = win_figure(record["win_matrix"])
        if record.get("headline"):
            drawn["headline"] = headline_figure(record["headline"])
        return drawn
    if kind == "run":
        drawn = {"gap": run_figure(record)}
        if record.get("path"):
            drawn["simplex"] = simplex_figure(record)
        return drawn
    if kind == "show":
        return {"win-matrix": win_figure(record)}
    if kind == "rates":
        return {"rates": rates_figure(record), "stable-region": region_figure(record)}
    if kind == "sweep":
        return sweep_figures(record)
    if kind == "check":
        return {"verdicts": verdict_figure(record)}
    if kind == "crosscheck":
        return crosscheck_figures(record)
    raise ValueError(
        f"no figures for a record of kind {kind!r}; accepted are check, compare, crosscheck, rates, run, show, "
        "sweep"
    )


def save(record: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a record's figures into a folder as PNG and SVG and return the files."""
    import matplotlib

    files = []
    # Text stays text in the SVG, and the same record gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mnpo"}):
        for name, figure in figures(record).items():
            for ending in ("png", "svg"):
                files.append(folder / f"{name}.{ending}")
                metadata = {"Date": None} if ending == "svg" else None
                figure.savefig(files[-1], dpi=300, metadata=metadata)
    return files


def redraw(folder: Path) -> list[Path]:
    """Draw the figures of a run folder again from its results.json.

    Raises:
        ValueError: the folder holds no results.json.
    """
    results = folder / "results.json"
    if not results.is_file():
        raise ValueError(f"{folder} holds no results.json")
    try:
        return save(json.loads(results.read_text(encoding="utf-8")), folder)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{results} is no record of a run: {type(error).__name__} {error}") from None


def headline_figure(record: dict[str, Any]) -> Figure:
    """When more players help: pairwise oracle, own history as players, population of annotators."""
    figure, _ = _figure(width=2 * WIDTH, height=2.5, axes=False)
    same, past, diverse = figure.subplots(1, 3)
    for number, row in enumerate(record["rows"]):
        label = f"n = {row['players']}"
        _gap_line(same, record["steps"], row["pairwise_gap"], number, label, spread=4 * number)
        stepped = f"{label}, $\\eta$ = {row['history_step']:.2g}"
        _gap_line(past, record["steps"], row["history_gap"], number, stepped)
    _gap_axes(same, "pairwise oracle: n changes nothing")
    _gap_axes(past, "own history as players: faster")
    same.set_ylabel("duality gap")
    past.set_ylabel("")
    same.legend(frameon=False, fontsize=6)
    past.legend(frameon=False, fontsize=6)
    players = [row["players"] for row in record["rows"]]
    diverse.plot(players, [row["effective_responses"] for row in record["rows"]], "o-", color=PALETTE[0])
    diverse.set(xlabel="players n", ylabel="effective responses exp(H)", xticks=players)
    diverse.margins(y=0.1)
    diverse.set_ylim(bottom=0)
    diverse.set_title("population oracle: more diverse", fontsize=8)
    return figure


def gap_figure(record: dict[str, Any]) -> Figure:
    """Duality gap per player against updates, one line a player count."""
    figure, axes = _figure()
    for number, row in enumerate(record["players"]):
        label = f"n = {row['players']}" + (" (diverged)" if row["diverged"] else "")
        _gap_line(axes, row["steps"], row["gap_per_player"], number, label)
    _gap_axes(axes, f"{_name(record)}: TD-MNPO, $\\tau$ = {record['tau']:g}, $\\eta$ = {record['eta']:g}")
    axes.legend(title="players", frameon=False)
    return figure


def run_figure(record: dict[str, Any]) -> Figure:
    """Duality gap per player against updates, last and average iterate."""
    figure, axes = _figure()
    players = record["players"]
    _gap_line(axes, record["steps"], [_over(g, players) for g in record["gap"]], 0, "last iterate")
    if record["average_gap"]:
        gaps = [_over(g, players) for g in record["average_gap"]]
        _gap_line(axes, record["steps"], gaps, 1, "average iterate")
    taus = sorted(set(record["tau"]))
    eta = record["rule"]["eta"]
    step = "" if eta is None else f", $\\eta$ = {eta:g}"
    strength = f", $\\tau$ = {taus[0]:g}" if len(taus) == 1 else ""
    _gap_axes(axes, f"{_name(record)}: {record['rule']['name']}, n = {players}{strength}{step}")
    axes.legend(frameon=False)
    return figure


def composition_figure(record: dict[str, Any]) -> Figure:
    """What the equilibrium is made of, against the number of players."""
    rows, names = record["players"], record["responses"]
    shares = np.array([row["composition"] for row in rows])
    # The largest get a colour and a name; what is left is one grey share.
    named = [int(index) for index in np.argsort(-shares.max(axis=0)) if shares[:, index].max() > 0.005][:10]
    labels = [_short(names[index]) for index in named]
    figure, axes = _figure(width=WIDTH + 0.05 * max(map(len, labels), default=0), height=2.8)
    place, bottom = np.arange(len(rows)), np.zeros(len(rows))
    for number, index in enumerate(named):
        colour = PALETTE[number % len(PALETTE)]
        axes.bar(
            place,
            shares[:, index],
            bottom=bottom,
            color=colour,
            hatch=HATCHES[number // len(PALETTE)],
            edgecolor="white",
            linewidth=0.15,
            width=0.75,
            label=labels[number],
        )
        bottom += shares[:, index]
    rest = 1 - bottom
    if rest.max() > 1e-3:
        axes.bar(place, rest, bottom=bottom, color=OTHERS, width=0.75, label="others")
    axes.set(
        xticks=place,
        xticklabels=[str(row["players"]) for row in rows],
        xlabel="players n",
        ylabel="equilibrium probability",
        ylim=(0, 1),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, reverse=True, handlelength=1.2)
    axes.set_title(f"{_name(record)}: equilibrium, $\\tau$ = {record['tau']:g}", fontsize=8)
    return figure


def effective_figure(record: dict[str, Any]) -> Figure:
    """Effective number of responses, exp(entropy), against the number of players."""
    figure, axes = _figure()
    players = [row["players"] for row in record["players"]]
    axes.plot(players, [row["effective_responses"] for row in record["players"]], "o-", color=PALETTE[0])
    axes.set(xlabel="players n", ylabel="effective responses exp(H)", xticks=players)
    axes.margins(y=0.08)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{_name(record)}: equilibrium, $\\tau$ = {record['tau']:g}", fontsize=8)
    return figure


def rates_figure(record: dict[str, Any]) -> Figure:
    """Predicted shrinking of the distance in one update against step; a line ends where its rule is unstable."""
    figure, axes = _figure(height=2.8)
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in record["rows"]:
        label = f"td-mnpo, n = {row['players']}" if row["rule"] == "td-mnpo" else row["rule"]
        label += " (inpo)" if label == "td-mnpo, n = 2" else ""
        lines.setdefault(label, []).append((row["eta"], 1 - row["rate"] if row["stable"] else np.nan))
    for number, (label, points) in enumerate(lines.items()):
        eta, shrinking = zip(*points, strict=True)
        style = ("-", "--", "-.", ":")[number % 4]
        axes.plot(eta, shrinking, color=PALETTE[number % len(PALETTE)], linestyle=style, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="step $\\eta$", ylabel="shrinking an update, 1 - |z|")
    axes.set_title(f"{_name(record)}, $\\tau$ = {record['tau']:g}", fontsize=8)
    axes.legend(frameon=False, fontsize=6)
    return figure


def region_figure(record: dict[str, Any]) -> Figure:
    """The stable-region map: below its line a rule with n players is stable, for each τ."""
    figure, axes = _figure(height=2.8)
    omega = record["frequency"]
    by_players: dict[int, list[tuple[float, float]]] = {}
    for row in record["region"]:
        by_players.setdefault(row["players"], []).append((row["tau"] / omega, row["largest"] * omega))
    for number, (n, points) in enumerate(sorted(by_players.items())):
        strength, step = zip(*sorted(points), strict=True)
        axes.plot(
            strength,
            [value if value > 0 else np.nan for value in step],
            color=PALETTE[number % len(PALETTE)],
            linestyle=("-", "--", "-.", ":")[number % 4],
            marker=MARKERS[number % len(MARKERS)],
            label=f"n = {n}" + (" (inpo)" if n == 2 else ""),
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="$\\tau/\\omega$", ylabel="largest stable step $\\eta\\omega$")
    axes.set_title(f"{_name(record)}: td-mnpo is stable below its line", fontsize=8)
    axes.legend(frameon=False, fontsize=6)
    return figure


def simplex_figure(record: dict[str, Any]) -> Figure:
    """Last and average iterate of the first player on the triangle of three responses."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    figure, axes = _figure(height=3.1)
    axes.add_patch(_triangle(corners))
    for number, (name, path) in enumerate((("last iterate", "path"), ("average iterate", "average_path"))):
        if not record.get(path):
            continue
        points = np.asarray(record[path]) @ corners
        axes.plot(*points.T, color=PALETTE[number], linewidth=0.8, label=name)
        axes.plot(*points[-1], MARKERS[number], color=PALETTE[number], markersize=5)
    axes.plot(*(np.asarray(record["path"][0]) @ corners), "k+", label="start")
    places = (("right", "top"), ("left", "top"), ("center", "bottom"))
    for corner, name, (across, along) in zip(corners, record["responses"], places, strict=True):
        axes.annotate(_short(name), corner, ha=across, va=along, fontsize=7)
    axes.set_aspect("equal")
    axes.set(xlim=(-0.15, 1.15), ylim=(-0.12, 1.0))
    axes.set_axis_off()
    axes.set_title(f"{_name(record)}: {record['rule']['name']}", fontsize=8)
    axes.legend(frameon=False, fontsize=6, loc="upper left")
    return figure


def _triangle(corners: Any) -> Any:
    from matplotlib.patches import Polygon

    return Polygon(corners, fill=False, edgecolor="black", linewidth=0.8)


def sweep_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Gap per player against oracle calls, median and interquartile band over seeds: a figure a game and τ."""
    drawn: dict[str, Figure] = {}
    panels: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for curve in record["curves"]:
        panels.setdefault((curve["game"], curve["tau"]), []).append(curve)
    for place, ((game, tau), curves) in enumerate(panels.items()):
        figure, axes = _figure(height=2.8)
        # Each rule is shown at its best step: the one that needs the fewest calls.
        best: dict[tuple[str, int], dict[str, Any]] = {}
        for curve in curves:
            name = (curve["rule"], curve["players"])
            if name not in best or _last(curve) < _last(best[name]):
                best[name] = curve
        for number, ((rule, players), curve) in enumerate(best.items()):
            colour = PALETTE[number % len(PALETTE)]
            low, middle, high = (
                np.array([np.nan if g is None else max(g / players, FLOOR) for g in curve[name]])
                for name in ("low", "median", "high")
            )
            style = ("-", "--", "-.", ":")[number % 4]
            label = f"{rule}, n = {players}, $\\eta$ = {curve['eta']:g}"
            axes.plot(curve["oracle_calls"], middle, color=colour, linestyle=style, label=label)
            axes.fill_between(curve["oracle_calls"], low, high, color=colour, alpha=0.2, linewidth=0)
        _gap_axes(axes, f"{_short(Path(game).name, 28)}, $\\tau$ = {tau:g}, {curves[0]['seeds']} seeds")
        axes.set_xlabel("oracle calls")
        axes.legend(frameon=False, fontsize=6)
        drawn[f"sweep-{place + 1}"] = figure
    return drawn


def _last(curve: dict[str, Any]) -> tuple[float, float]:
    """Oracle calls to a median gap of 1e-9, and the last median gap: less is better."""
    gaps = [float("inf") if gap is None else float(gap) for gap in curve["median"]]
    reached = [calls for calls, gap in zip(curve["oracle_calls"], gaps, strict=True) if gap < 1e-9]
    return (reached[0] if reached else float("inf"), gaps[-1])


VERDICTS = {"equilibrium": "#009E73", "elsewhere": "#E69F00", "cycles": "#CC79A7", "diverges": "#D55E00"}


def verdict_figure(record: dict[str, Any]) -> Figure:
    """The verdict table as a picture: a row a method, a column a test, the gap's power of ten in the cell."""
    from matplotlib.patches import Patch

    methods = list(dict.fromkeys((row["kind"], row["method"]) for row in record["rows"]))
    tests = [name for name in record["tests"] if any(row["test"] == name for row in record["rows"])]
    figure, axes = _figure(width=max(WIDTH, 1.6 + 0.55 * len(tests)), height=1.4 + 0.17 * len(methods))
    for row in record["rows"]:
        x, y = tests.index(row["test"]), methods.index((row["kind"], row["method"]))
        axes.add_patch(_cell(x, y, VERDICTS[row["verdict"]]))
        gap = row["gap"]
        text = "nan" if gap is None else "0" if gap < 1e-16 else f"1e{round(float(np.log10(gap)))}"
        axes.text(x, y, text, ha="center", va="center", fontsize=5, color="white")
    axes.set(xlim=(-0.5, len(tests) - 0.5), ylim=(len(methods) - 0.5, -0.5))
    axes.set_xticks(range(len(tests)), tests, rotation=60, ha="right")
    axes.set_yticks(range(len(methods)), [f"{name} ({kind})" for kind, name in methods], fontsize=6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    handles = [Patch(color=colour, label=name) for name, colour in VERDICTS.items()]
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _cell(x: int, y: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, color=colour, linewidth=0)


def win_figure(record: dict[str, Any]) -> Figure:
    """The win matrix of each context (at most six)."""
    matrices = np.asarray(record["matrix"])[:6]
    names = [_short(name) for name in record["responses"]]
    size = matrices.shape[-1]
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    room = 0.055 * max(map(len, names)) if size <= 20 else 0.0
    figure, _ = _figure(
        width=max(WIDTH, 2.4 * columns + room), height=max(2.8, 2.4 * lines + room), axes=False
    )
    grid = figure.subplots(lines, columns, squeeze=False)
    image = None
    for x, axes in enumerate(grid.ravel()):
        if x >= len(matrices):
            axes.set_axis_off()
            continue
        image = axes.imshow(matrices[x], cmap="PuOr_r", vmin=0, vmax=1)
        if size <= 20:
            axes.set_xticks(
                range(size), names, rotation=90 if size > 4 else 45, ha="center" if size > 4 else "right"
            )
            axes.set_yticks(range(size), names if x % columns == 0 else [""] * size)
        if size <= 8 and len(matrices) == 1:
            for (row, column), value in np.ndenumerate(matrices[x]):
                tone = "white" if abs(value - 0.5) > 0.33 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=tone)
        if len(matrices) > 1:
            axes.set_title(f"context {x}", fontsize=8)
        axes.spines[:].set_visible(False)
    grid[0, 0].set_ylabel("wins")
    grid[-1, 0].set_xlabel("against")
    if image is not None:
        figure.colorbar(image, ax=list(grid.ravel()), label="win probability", fraction=0.05, pad=0.02)
    return figure


def _figure(width: float = WIDTH, height: float = 2.5, axes: bool = True) -> tuple[Figure, Any]:
    figure = blank(width, height)
    return figure, figure.subplots() if axes else None


def _gap_line(
    axes: Axes, steps: list[int], gaps: list[float | None], number: int, label: str, spread: int = 0
) -> None:
    values = np.array([np.nan if gap is None else max(gap, FLOOR) for gap in gaps])
    axes.plot(
        steps,
        values,
        color=PALETTE[number % len(PALETTE)],
        linestyle=("-", "--", "-.", ":")[number % 4],
        marker=MARKERS[number % len(MARKERS)],
        markevery=(spread, max(1, len(steps) // 8)),
        label=label,
    )


def _gap_axes(axes: Axes, title: str) -> None:
    axes.set_yscale("log")
    axes.set(xlabel="updates", ylabel="duality gap per player (NashConv / n)")
    axes.set_title(title, fontsize=8)
    if axes.get_ylim()[0] < 10 * FLOOR:
        axes.set_ylim(bottom=FLOOR / 3)


def _over(gap: float | None, players: int) -> float | None:
    return None if gap is None else gap / players


def _name(record: dict[str, Any]) -> str:
    """The game's name without its folder."""
    return _short(Path(record["game"]).name, 28)


def _short(name: str, width: int = 18) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
