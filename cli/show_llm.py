"""What `mnpo llm` prints for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mnpo.cli.escaping import escape

console = Console(highlight=False)

#: At most this many steps of a fit are printed.
MOST_STEPS = 12

_SHOWN = {
    "loss": "loss", "margin": "margin", "accuracy": "acc.", "kl": "kl", "logps/chosen": "log π_w",
    "logps/rejected": "log π_l", "length": "length",
}  # fmt: skip


def presets(rows: list[dict[str, Any]]) -> None:
    """Print the packaged configurations."""
    for row in rows:
        model = row["model"]["model_name_or_path"]
        if "oracle_fit" in row:
            how = f"{row['oracle_fit']['oracle_kind']} oracle, {row['oracle_fit']['oracle_objective']}"
        else:
            update, rule = row["update"], row["update"].get("rule")
            how = update["objective"] if rule is None else f"{update['objective']}, {rule['name']}"
        console.print(f"[bold]{escape(row['name'])}[/bold]  [dim]{escape(model)}; {how}[/dim]")
        console.print(f"    {escape(row['purpose'])}")


def scored(record: dict[str, Any]) -> None:
    """Print what was scored and where it stands."""
    _rows(record["rows"])
    table = _table("anchor", "scored", "reused", "seconds", "chosen", "rejected", "model")
    for row in record["anchors"]:
        table.add_row(
            row["anchor"], str(row["scored"]), str(row["reused"]), f"{row['seconds']:.1f}",
            f"{row['mean_chosen']:.2f}", f"{row['mean_rejected']:.2f}", escape(row["model"]),
        )  # fmt: skip
    console.print(table)
    console.print(f"[dim]pairs with their scores: {escape(str(record['folder']))}[/dim]")


def fitted(record: dict[str, Any]) -> None:
    """Print the course of training, the held-out pairs and where the model stands."""
    _rows(record["rows"])
    entries = [entry for entry in record["log"] if "loss" in entry]
    table = _table("step", *_SHOWN.values(), "grad", "tok/s")
    if len(entries) > MOST_STEPS:
        entries = [entries[round(i * (len(entries) - 1) / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]
    for entry in entries:
        table.add_row(
            str(entry["step"]), *(f"{entry[name]:.3g}" for name in _SHOWN),
            f"{entry.get('grad_norm', float('nan')):.3g}", f"{entry['tokens_per_second']:.0f}",
        )  # fmt: skip
    held = record["eval"]
    if held:
        table.add_section()
        table.add_row("held out", *(f"{held[name]:.3g}" for name in _SHOWN), "", "")
    console.print(table)
    if record["resumed"] == "complete":
        console.print("[dim]this fit was complete; nothing was done again[/dim]")
    console.print(f"model: {escape(record['model'])}")


def fitted_oracle(record: dict[str, Any]) -> None:
    """Print each fit of an oracle, how it meets held-out comparisons, and where it stands."""
    _rows(record["rows"])
    table = _table("oracle", "objective", "judged", "held", "loss", "acc.", "log-loss", "ECE", "scale")
    for part in record["parts"]:
        name = part["annotator"] or "all"
        for phase in part["phases"]:
            fits = phase["fits"].get(part["annotator"] or "", {}).get("one")
            shown = ["", "", "", ""]
            if fits is not None:
                shown = [f"{fits[key]:.3f}" for key in ("accuracy", "log_loss", "error")]
                best = phase["best_scale"].get(part["annotator"] or "")
                shown.append("" if best is None else f"{best:.3g}")
            table.add_row(
                escape(name), phase["objective"], str(phase["judgments"]["train"]),
                str(phase["judgments"].get("eval", 0)), f"{phase['loss']:.4g}", *shown,
            )  # fmt: skip
    console.print(table)
    scales = ", ".join(
        f"{escape(part['annotator'] or record['kind'])} {part['scale']:.3g}" for part in record["parts"]
    )
    console.print(f"[dim]scale by which logits are divided: {scales}[/dim]")
    if record["resumed"] == "complete":
        console.print("[dim]this fit was complete; nothing was done again[/dim]")
    console.print(f"it judges with oracle={escape(record['oracle'])}")


def tested(record: dict[str, Any], home: Path) -> None:
    """Print how each oracle meets judgments, and where the figure is."""
    _rows(record["rows"])
    for data in record["rows"]:
        console.print(f"[bold]{escape(data)}[/bold]")
        table = _table("oracle", "judged", "accuracy", "log-loss", "ECE", "scale", "best", "ECE then")
        tests = [test for test in record["tests"] if test["data"] == data]
        for test in tests:
            met, best = test["met"], test["rescaled"]
            table.add_row(
                escape(test["oracle"]), str(met["judgments"]), _rate(met["accuracy"]),
                f"{test['as_is']['log_loss']:.3f}", f"{test['as_is']['error']:.3f}",
                f"{test['as_is']['scale']:.3g}", "none" if best is None else f"{best['scale']:.3g}",
                "" if best is None else f"{best['error']:.3f}",
            )  # fmt: skip
        console.print(table)
        for test in tests:
            _details(test)
    for name, found in record["agreement"].items():
        if found is not None:
            console.print(
                f"[dim]{escape(name)}: annotators of the same pair agree on {found['rate']:.1%} of "
                f"{found['pairs']} pairs of labels[/dim]"
            )
    console.print(f"[dim]figure and JSON: {escape(str(home))}/oracle-test.png, .json[/dim]")


def _details(test: dict[str, Any]) -> None:
    """Print what a table has no room for, of one oracle."""
    parts = []
    if test["sections"]:
        parts.append(", ".join(f"{name} {score:.1%}" for name, score in test["sections"].items()))
    for what in ("subsets", "annotators"):
        shown = [f"{escape(name)} {one['accuracy']['mean']:.1%}" for name, one in test[what].items()]
        if shown:
            parts.append(f"by {what.removesuffix('s')}: {', '.join(shown)}")
    if test["met"]["best"] is not None:
        parts.append(f"the best of a pool found: {test['met']['best']:.1%}")
    if test["ties"] is not None:
        parts.append(f"RewardBench 2's ties {test['ties']:.3f}")
    if test["order"] is not None:
        order = test["order"]
        parts.append(
            f"first place favoured by {order['bias']:+.3f}, both orders off by {order['residual']:.3f}, "
            f"{order['turned']:.1%} turned"
        )
    length = {name: value for name, value in test["length"].items() if value is not None}
    if length:
        words = {"correlation": "rank correlation with length", "shorter": "right where the shorter was preferred",
                 "longer": "where the longer was"}  # fmt: skip
        parts.append(", ".join(f"{words[name]} {value:.2f}" for name, value in length.items()))
    if test["cycles"] is not None:
        found = test["cycles"]
        parts.append(
            f"cyclicity {found['cyclicity']:.3f} ± {found['error']:.3f} on {found['sets']:.0f} sets, cyclic "
            f"triples {found['triples']:.1%} (one label a pair: {found['noise']:.1%}), no Condorcet winner "
            f"{found['without_winner']:.1%}"
        )
    console.print(f"[bold]{escape(test['oracle'])}[/bold]")
    for part in parts:
        console.print(f"  {part}")


def sampled(record: dict[str, Any]) -> None:
    """Print what was sampled and where it stands."""
    _rows(record["prompts"])
    used = ", ".join(f"{count} {part}" for part, count in record["used"].items())
    console.print(f"[dim]prompts used: {used}[/dim]")
    table = _table("responses of", "drawn", "reused", "length", "ended", "seconds", "tok/s", "model")
    for row in record["models"]:
        speed = "" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:.0f}"
        table.add_row(
            row["name"], str(row["drawn"]), str(row["reused"]), f"{row['length']:.1f}", f"{row['ended']:.0%}",
            f"{row['seconds']:.1f}", speed, escape(row["model"]),
        )  # fmt: skip
    console.print(table)
    console.print(f"[dim]prompts and responses: {escape(str(record['folder']))}[/dim]")


def annotated(record: dict[str, Any]) -> None:
    """Print what the oracles were asked and what pairs came of it."""
    table = _table("oracle", "kind", "asked", "reused", "seconds")
    for row in record["oracles"]:
        table.add_row(
            escape(row["oracle"]), row["kind"], str(row["asked"]), str(row["reused"]), f"{row['seconds']:.1f}"
        )
    console.print(table)
    weights = record["weights"]
    if weights is not None:
        named = ", ".join(map(str, weights["rows"])) + (
            " .." if len(weights["rows"]) < weights["collapsed"] else ""
        )
        console.print(
            f"weights of the {weights['responses']} responses are worth {weights['effective']:.1f} equal ones, at "
            f"least {weights['least']:.1f}; {weights['collapsed']} prompts' have collapsed"
            + (f": rows {named}" if named else "")
        )
    dropped = "".join(f", {count} dropped: {reason}" for reason, count in record["dropped"].items())
    console.print(f"{record['made']} pairs{dropped}; they teach {record['teaches']}")
    console.print(f"[dim]pairs: {escape(record['pairs'])}; win matrices: {escape(record['folder'])}[/dim]")


def evaluated(record: dict[str, Any]) -> None:
    """Print win rates with their intervals."""
    oracles = list(next(iter(record["win_rate"].values())))
    table = _table("win rate against", *oracles)
    for rival, rates in record["win_rate"].items():
        table.add_row(escape(rival), *(_rate(rates[oracle]) for oracle in oracles))
    console.print(table)
    console.print(
        f"{record['prompts']} held-out prompts; length {record['length']:.1f} tokens, {record['ended']:.0%} ended; "
        f"KL to the reference {record['kl']:.3g} ± {record['kl_error']:.2g}"
    )
    _gaps([record], False)
    console.print(f"[dim]model: {escape(record['model'])}[/dim]")


def diagnosed(record: dict[str, Any]) -> None:
    """Print how non-transitive preferences are, and what is recommended."""
    from mnpo.cli.show_diagnosis import diagnosis

    for reason, count in record["dropped"].items():
        console.print(f"[dim]{count} prompts dropped: {reason}[/dim]")
    diagnosis(record["diagnosis"], record["cycles"])
    console.print(f"[dim]reference: {escape(record['model'])}[/dim]")


def trained(record: dict[str, Any], folder: Path) -> None:
    """Print a run's iterations, and where its models and figures stand."""
    rows = record["iterations"]
    rivals = list(dict.fromkeys(name for row in rows for name in row["win_rate"]))
    several = len(record["players"]) > 1
    columns = ["t", *(["player"] if several else []), "pairs", "loss", "KL", "length", "oracle"]
    table = _table(*columns, *(f"wins against\n{rival}" for rival in rivals))
    for row in rows:
        start = [str(row["iteration"]), *([escape(row["player"])] if several else []), str(row["pairs"])]
        start += [f"{row['loss']:.3g}", f"{row['kl']:.3g}", f"{row['length']:.1f}"]
        for oracle in row["win_rate"]["reference"]:
            rates = [row["win_rate"].get(rival, {}).get(oracle) for rival in rivals]
            table.add_row(*start, escape(oracle), *("" if rate is None else _rate(rate) for rate in rates))
            start = [""] * len(start)
    console.print(table)
    _gaps(rows, several)
    counts = {what: sum(row["counts"][what] for row in rows) for what in rows[0]["counts"]}
    seconds = {what: sum(row["seconds"][what] for row in rows) for what in rows[0]["seconds"]}
    console.print(
        f"[dim]{counts['drawn']} responses drawn in {seconds['sample']:.0f} s, {counts['asked']} questions "
        f"answered in {seconds['annotate']:.0f} s, {counts['scored']} log-probabilities in "
        f"{seconds['score']:.0f} s, fits in {seconds['fit']:.0f} s[/dim]"
    )
    console.print(f"[dim]what the pairs teach: {escape(record['teaches'])}[/dim]")
    for player in record["players"]:
        last = [row for row in rows if row["player"] == player][-1]
        console.print(f"model{f' of {escape(player)}' if several else ''}: {escape(last['model'])}")
    console.print(f"[dim]figure: {escape(str(folder / 'iterations.png'))}[/dim]")


def _gaps(rows: list[dict[str, Any]], several: bool) -> None:
    """Print how far policies are from an equilibrium, from below and above; nothing where that is not known."""
    found = [(row, oracle, gap) for row in rows for oracle, gap in row["gap"].items() if gap is not None]
    if not found:
        return
    iterations = "iteration" in found[0][0]
    start = [*(["t"] if iterations else []), *(["player"] if several else [])]
    table = _table(*start, "oracle", "measure", "n", "τ", "K", "gap", "split", "plug-in")
    for row, oracle, gap in found:
        said = [
            *([str(row["iteration"])] if iterations else []),
            *([escape(row["player"])] if several else []),
        ]
        split, plug_in = gap["split"], gap["plug_in"]
        table.add_row(
            *said, escape(oracle), gap["measure"], str(gap["players"]), f"{gap['tau']:.3g}", str(gap["responses"]),
            f"{split['mean']:.3f}–{plug_in['mean']:.3f}",
            *(f"[dim]{side['low']:.2f}–{side['high']:.2f}[/dim]" for side in (split, plug_in)),
        )  # fmt: skip
    console.print(table)


def _rate(rate: dict[str, float]) -> str:
    return f"{rate['mean']:.3f} [dim]({rate['low']:.2f}–{rate['high']:.2f})[/dim]"


#: What shows the record of each stage.
STAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "diagnose": diagnosed,
    "sample": sampled,
    "annotate": annotated,
    "score": scored,
    "fit": fitted,
    "evaluate": evaluated,
    "fit-oracle": fitted_oracle,
}


def stage(name: str, record: dict[str, Any]) -> None:
    """Print a stage's record: as a table where there is one for it."""
    if name in STAGES:
        STAGES[name](record)
    else:
        console.print_json(data=record)


def _rows(reports: dict[str, dict[str, Any]]) -> None:
    from mnpo.llm.data.pairs import Report, describe

    for split, report in reports.items():
        console.print(f"[dim]{split}: {escape(describe(Report.from_dict(report)))}[/dim]")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    words = {
        "anchor", "model", "rule", "network", "estimator", "oracle", "kind", "responses of", "win rate against",
        "player", "measure",
    }  # fmt: skip
    for column in columns:
        table.add_column(
            column, justify="left" if column in words else "right", no_wrap=column not in ("model", "rule")
        )
    return table


def crosscheck_oracles(rows: list[dict[str, Any]]) -> None:
    """Print where free outputs end that are trained by the objectives of oracles."""
    table = _table("oracle", "objective", "ends at", "off by", "cyclicity", "agrees")
    for row in rows:
        share = "" if row["cyclicity"] != row["cyclicity"] else f"{row['cyclicity']:.4f}"
        table.add_row(
            row["kind"], row["objective"], row["minimiser"], f"{row['distance']:.1e}", share, _agrees(row)
        )
    console.print(table)


def crosscheck(record: dict[str, Any]) -> None:
    """Print how near the networks are to the table."""
    exact = record["feedback"] == "exact"
    how = ("T",) if exact else ("T", "estimator", "m")
    table = _table("rule", "network", *how, "tv", "table gap", "its gap", "outside", "agrees")
    most = max((row.get("labels", 0) for row in record["rows"]), default=0)
    for row in record["rows"]:
        if not exact and row["labels"] < most:
            continue  # the table below has their errors' slope
        kind = [row["estimator"], str(row["labels"])] if not exact else []
        outside = "0" if row["outside"] < 1e-12 else f"{row['outside']:.1e}"  # of free logits: rounding
        table.add_row(
            escape(row["rule"]), row["policy"], str(row["steps"]), *kind, f"{row['tv']:.1e}",
            f"{row['gap_table']:.4g}", f"{row['gap_network']:.4g}", outside, _agrees(row),
        )  # fmt: skip
    console.print(table)
    if record["errors"]:
        table = _table("rule", "network", "estimator", "bias", "slope", "of the way", "agrees")
        for row in record["errors"]:
            bias = "0" if row["unbiased"] else f"{row['bias']:.1e}"
            slope = f"{row['slope']:.2f} ± {row['slope_error']:.2f}"
            share = f"{row['progress']:.3f} ± {row['progress_error']:.3f}"
            table.add_row(
                escape(row["rule"]), row["policy"], row["estimator"], bias, slope, share, _agrees(row)
            )
        console.print(table)
        for row in record["errors"]:
            if row["bias_by_responses"]:
                by_size = ", ".join(f"{bias:.1e} ({size})" for size, bias in row["bias_by_responses"].items())
                console.print(
                    f"[dim]{escape(row['rule'])}, {row['policy']}: bias by number of responses {by_size}[/dim]"
                )
        console.print(
            "[dim]m: pairs for each context; bias: total variation of what infinitely many teach to the rule's "
            "update; slope: of the error against that in m, on log axes, with its standard error; of the way: how "
            "far most labels go towards it[/dim]"
        )


def _agrees(row: dict[str, Any]) -> str:
    return {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[row["agrees"]]
