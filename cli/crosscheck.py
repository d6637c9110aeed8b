"""`mnpo crosscheck`: the rules on a table and on networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnpo.cli import options as opt
from mnpo.cli.recording import recorded
from mnpo.common.progress import pulse

if TYPE_CHECKING:
    from mnpo.llm.crosscheck.positions import Case

#: What is checked without arguments.
DEFAULT_RULE = "td-mnpo:players=3"
#: What stands for the objectives of oracles, and the game that they are checked on.
ORACLES, ORACLES_GAME = "oracles", "rps"
#: The games of rules for players that are alike and for others; more contexts where their mean is to be precise.
_GAMES = {
    "exact": ("rps:contexts=4", "committee:responses=4,contexts=4"),
    "sampled": ("rps:contexts=16", "committee:responses=4,contexts=16"),
}


def crosscheck(
    context: typer.Context,
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RULE ...]",
            help="Rules with their options, [cyan]td-mnpo:players=4 ht-mnpo:anchor=own[/cyan], or "
            "[cyan]all[/cyan]; see [cyan]mnpo sim rules[/cyan]. Or [cyan]oracles[/cyan]: the objectives of reward "
            "and preference models.",
            show_default=DEFAULT_RULE,
        ),
    ] = None,
    game: Annotated[
        str | None,
        typer.Option(
            help="A game of [cyan]mnpo sim games[/cyan] or a file.",
            show_default="rps:contexts=4; for HT-MNPO committee:responses=4,contexts=4",
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="softmax, mlp or gemma2.", show_default="all three")
    ] = None,
    feedback: Annotated[
        str,
        typer.Option(help="exact: win rates are known; sampled: learnt from labels, by every estimator."),
    ] = "exact",
    tau: Annotated[
        float | None,
        typer.Option(
            "--tau",
            "-t",
            help="KL strength of the rules that have one.",
            min=0,
            show_default="the game's, or 0.1",
        ),
    ] = None,
    eta: opt.Eta = 1.0,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", "-s", help="Updates in a row, besides the single one.", min=0, max=opt.MOST_STEPS
        ),
    ] = 20,
    labels: Annotated[
        str,
        typer.Option(help="Numbers of sampled pairs for each context, with commas (--feedback sampled)."),
    ] = "100,1000,10000",
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Check the networks against the table: the same rule, in closed form and as it trains language models.

    Compared are one update from the same policies (total variation) and a run of updates (duality gaps). With
    sampled feedback: how the error of an update shrinks with the number of labels, and towards which update.
    Exit status 1 if they disagree.

    [dim]mnpo crosscheck inpo onpo --policy gemma2 --feedback sampled[/dim]
    """
    from mnpo.cli.llm import needs_torch

    needs_torch()
    from mnpo.cli import show, show_llm
    from mnpo.llm.crosscheck.check import crosscheck as check
    from mnpo.llm.crosscheck.finite import NETWORKS
    from mnpo.llm.runtime.progress import progress, quiet

    quiet()
    context.with_resource(pulse("mnpo crosscheck"))
    given = opt.given(context)
    if rules == [ORACLES]:
        idle = given & {"policy", "feedback", "tau", "eta", "steps", "labels"}
        if idle:
            raise ValueError(f"--{min(idle)} has no effect on the check of {ORACLES}")
        _oracles(game or ORACLES_GAME, seed, as_json, out)
        return
    if "labels" in given and feedback == "exact":
        raise ValueError("--labels has no effect where win rates are known; it goes with --feedback sampled")
    counts = opt.parse_counts(labels, "labels")
    assert counts is not None
    options: dict[str, Any] = {
        "rules": rules or [DEFAULT_RULE], "game": game, "policy": policy, "feedback": feedback, "tau": tau,
        "eta": eta, "steps": steps, "labels": counts, "seed": seed,
    }  # fmt: skip
    with recorded("crosscheck", options, out, as_json) as keep:
        cases = cases_of(options)
        with progress() as report:
            record = check(
                cases, list(NETWORKS) if policy is None else [policy], steps=steps, feedback=feedback,
                labels=counts, seed=seed or 0, progress=report,
            )  # fmt: skip
        keep(record, printed=record["rows"])
    if not as_json:
        show_llm.crosscheck(record)
        show.folder(keep.folder)
    if record["disagreements"]:
        raise RuntimeError(f"table and network disagree: {'; '.join(record['disagreements'])}")


def _oracles(game: str, seed: int | None, as_json: bool, out: Path | None) -> None:
    """Check the objectives that oracles are fitted by on a pairwise game.

    Raises:
        ValueError: another game, or one with certain wins.
        RuntimeError: one that ends elsewhere.
    """
    from mnpo.cli import show, show_llm
    from mnpo.llm.crosscheck.oracle_check import check_oracles
    from mnpo.oracles import Pairwise
    from mnpo.sim.load import load_game

    options = {"rules": [ORACLES], "game": game, "seed": seed}
    with recorded("crosscheck", options, out, as_json) as keep:
        oracle = load_game(game, seed=seed).oracle
        if not isinstance(oracle, Pairwise):
            raise ValueError(
                f"{game} is no pairwise game, which oracles are fitted to; for example {ORACLES_GAME}"
            )
        rows = check_oracles(oracle.matrix[0], seed or 0)
        keep({"kind": "crosscheck-oracles", "game": game, "rows": rows}, printed=rows)
    if not as_json:
        show_llm.crosscheck_oracles(rows)
        show.folder(keep.folder)
    wrong = [f"{row['kind']} by {row['objective']}" for row in rows if not row["agrees"]]
    if wrong:
        raise RuntimeError(f"table and trainer disagree: {', '.join(wrong)}")


def every_rule() -> list[str]:
    """Return what `all` stands for: every rule of the form (U), with the options that its preset names."""
    from mnpo.presets import RULES

    return [f"{name}:{variant}".rstrip(":") for name, preset in RULES.items() for variant in preset.variants]


def cases_of(options: dict[str, Any]) -> list[Case]:
    """Return the rules with their games.

    Args:
        options: `rules`, `game`, `feedback`, `eta`, `tau` and `seed`, as the command takes them.

    Raises:
        ValueError: an unknown rule, option or game.
    """
    from mnpo.choices import choose
    from mnpo.llm.crosscheck.positions import Case
    from mnpo.oracles import Pairwise
    from mnpo.presets import RULES
    from mnpo.sim.load import load_game
    from mnpo.sim.spec import DEFAULT_TAU

    choose(options["feedback"], _GAMES, "kind of feedback")
    names = [name for given in options["rules"] for name in (every_rule() if given == "all" else [given])]
    cases = []
    for name in dict.fromkeys(names):
        title, _, rest = name.partition(":")
        preset = choose(title, RULES, "rule")
        asked = _parsed(name, rest)
        alike, different = _GAMES[options["feedback"]]
        text = options["game"] or (different if title == "ht-mnpo" else alike)
        fixed = "players=" in text.partition(":")[2]
        source = load_game(text, seed=options["seed"], players=None if fixed else asked.get("players"))
        if "players" not in preset.options:
            count = asked.pop("players", None)
        elif isinstance(source.oracle, Pairwise):
            count = None  # n are the player's own past; two players' gap is the duality gap
        else:
            count = source.oracle.players or asked.setdefault("players", source.players or 3)
        tau = source.tau if options["tau"] is None else options["tau"]
        if isinstance(tau, tuple):
            raise ValueError(f"{text} has a tau for each player; give one for all with --tau")
        known = {"eta": options["eta"], "tau": DEFAULT_TAU if tau is None else tau}
        spec = {"name": title, **{key: known[key] for key in known if key in preset.options}, **asked}
        strength = 0.0 if preset.unregularised else spec["tau"]
        cases.append(Case(name, spec, source.game(players=count, tau=strength), text))
    return cases


def _parsed(name: str, text: str) -> dict[str, Any]:
    """Read a rule's options, key=value with commas; several numbers with strokes, weights=0.7/0.3.

    Raises:
        ValueError: something else, or an option that the rule does not take.
    """
    from mnpo.choices import choose
    from mnpo.options import Option
    from mnpo.presets import RULES

    preset = RULES[name.partition(":")[0]]
    known = {"players": Option("of the game", kind=int), **preset.options}
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"a rule's options are written key=value; found {part!r}")
        option = choose(key, known, f"option of rule {preset.name}")
        if key in found:
            raise ValueError(f"option {key!r} of rule {preset.name} is given twice")
        found[key] = option.read(value, f"{preset.name}:{key}")
    return found
