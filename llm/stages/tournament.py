"""The stage that holds tournaments: everybody against everybody on the same prompts, under every oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import kendalltau

from mnpo.common.files import clear_partials, write_json
from mnpo.common.ornaments import add_figures
from mnpo.common.progress import Progress
from mnpo.common.style import printable
from mnpo.common.tournament_figure import tournament_figures
from mnpo.llm.config import Compute, Contest, Data, Folders, Judging, Models, Prompts, Sampling, Tournament
from mnpo.llm.data.formats import Text
from mnpo.llm.data.prompts import prompt_texts, read_prompts
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.asking import Asking, judge
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import Panel, panels_of
from mnpo.llm.players.base import Answers
from mnpo.llm.players.words import player_of
from mnpo.llm.stages.annotate import answered_record
from mnpo.llm.stages.records import Played, TournamentHeld
from mnpo.meta_game import Matches, group_equilibrium, mixture_of, ranked
from mnpo.numerics import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Numbers of a table of groups at most, M^n.
MOST = 2_000_000
#: The folder of the games that `mnpo sim` reads.
GAMES = "games"


def tournament(
    folders: Folders,
    model: Models,
    data: Data,
    prompts: Prompts,
    sampling: Sampling,
    judging: Judging,
    contest: Contest,
    tournament: Tournament,
    compute: Compute,
    progress: Progress | None = None,
) -> TournamentHeld:
    """Let players answer the same prompts, judge every pair of them, and rank them.

    Args:
        folders: everything is written below `output_dir`; responses and answers are kept by content, so that one
            more player costs what is its own.
        model: how models are loaded; whose tokenizer splits a run's held-out prompts off.
        data: where prompts come from unless `prompts` says, and how long they may be.
        prompts: what is asked.
        sampling: how responses are drawn.
        judging: the oracle, where `tournament` names none.
        contest: who plays.
        tournament: what is computed.
        compute: seed, device and precision.
        progress: called as the work goes on.

    Raises:
        ValueError: fewer than two players, no prompt that all of them answer, or somebody who does not answer.
    """
    asked_for = tournament
    players = {name: player_of(name, spec) for name, spec in contest.entrants.items()}
    if len(players) < 2:
        raise ValueError(f"a tournament needs at least two players; found {', '.join(players) or 'none'}")
    if asked_for.against:
        mixture_of(tuple(players), asked_for.against)
    check_groups(len(players), asked_for)
    panels = panels_of(
        judging.oracle, asked_for.tournament_oracles, trust_remote_code=model.trust_remote_code
    )
    job = Job.start(folders, model, compute, progress)
    if job.processes.first:
        clear_partials(job.home)
    asked = _asked(job, data, prompts, asked_for)
    count = asked_for.tournament_generations
    found = {
        name: player.answers(job, sampling, data.max_length, asked, count) for name, player in players.items()
    }
    common = [k for k in range(len(asked)) if all(answers.texts[k] is not None for answers in found.values())]
    if not common:
        each = ", ".join(f"{name} {_answered(answers)}" for name, answers in found.items())
        raise ValueError(f"no prompt of {len(asked)} has an answer of every player; answered: {each}")
    texts = [
        (asked[k], [said for answers in found.values() for said in answers.texts[k] or ()]) for k in common
    ]
    lengths = np.array([[len(said) for said in responses] for _, responses in texts], dtype=float)
    lengths = lengths.reshape(len(texts), len(players), count).mean(2)
    results, taken = dict[str, dict[str, Any]](), list[Asking]()
    for title, panel in panels.items():
        judged, asking = _judged(job, panel, texts, len(players), count)
        taken += asking
        groups = {title: range(len(panel.members))}
        if len(panel.members) > 1:
            groups |= {member.oracle.name: range(k, k + 1) for k, member in enumerate(panel.members)}
        for name, members in groups.items():
            results[name] = _ranked(judged, members, lengths, list(players), count, asked_for, compute.seed)
    record = TournamentHeld(
        prompts=len(common),
        asked=len(asked),
        generations=count,
        players=[
            Played(**players[name].as_dict(), answered=_answered(answers), drawn=answers.drawn,
                   reused=answers.reused, seconds=answers.seconds, length=float(lengths[:, k].mean()))
            for k, (name, answers) in enumerate(found.items())
        ],
        against=asked_for.against or None,
        tau=asked_for.tournament_tau,
        meet_at_once=asked_for.meet_at_once,
        results=results,
        agreement=_agreement(results),
        oracles=[answered_record(one) for one in taken],
    )  # fmt: skip
    if job.processes.first:
        _write(job.home, record)
    job.processes.wait()
    return record


def check_groups(players: int, asked_for: Tournament) -> None:
    """Refuse groups that have no equilibrium that is computed, or a table that is too large.

    Raises:
        ValueError: says what to set.
    """
    n = asked_for.meet_at_once
    if n > 2 and asked_for.tournament_tau <= 0:
        raise ValueError(
            f"meet_at_once={n} needs tournament_tau above 0: the equilibrium of a regularised game"
        )
    if n > 2 and players**n > MOST:
        raise ValueError(f"meet_at_once={n} needs a table of {players}^{n} groups, more than {MOST:,}")


def _asked(job: Job, data: Data, prompts: Prompts, asked_for: Tournament) -> list[Text]:
    """Return what is asked."""
    if asked_for.tournament_prompts == "all":
        return job.processes.agree(lambda: prompt_texts(data, prompts)[0])
    split, _ = read_prompts(data, prompts, job.tokenizer(), job.compute.seed, job.encodings)
    if not split["eval"]:
        raise ValueError("no prompt is held out: give eval_prompts, or tournament_prompts=all")
    return [prompt.text for prompt in split["eval"]]


def _answered(answers: Answers) -> int:
    return sum(said is not None for said in answers.texts)


def _judged(
    job: Job, panel: Panel, texts: Sequence[tuple[Text, list[str]]], players: int, count: int
) -> tuple[list[list[Judged]], list[Asking]]:
    """Return what each member says of each prompt's responses, (members, prompts)."""
    wanted = [
        (a * count + k, b * count + k) for a, b in combinations(range(players), 2) for k in range(count)
    ]
    judgments, taken = judge(job, panel, texts, players * count, wanted)
    said = [
        one
        for start in range(0, len(texts), judgments.at_once)
        for one in judgments.between(start, min(start + judgments.at_once, len(texts)))
    ]
    return [list(member) for member in zip(*said, strict=True)], taken


def _ranked(
    judged: Sequence[Sequence[Judged]],
    members: range,
    lengths: Array,
    names: list[str],
    count: int,
    asked_for: Tournament,
    seed: int,
) -> dict[str, Any]:
    """Rank players under some of the members, drawn by weight."""
    size = len(names)
    total = sum(judged[m][0].weight for m in members)
    chances = sum(
        judged[m][0].weight / total * np.stack([_between(said, size, count) for said in judged[m]])
        for m in members
    )
    found = ranked(
        Matches.of_chances(names, np.asarray(chances), lengths),
        tau=asked_for.tournament_tau,
        against=asked_for.against or None,
        draws=asked_for.bootstrap_draws,
        seed=seed,
    )
    if asked_for.meet_at_once > 2:
        tensor = sum(
            judged[m][0].weight / total * _groups(judged[m], size, count, asked_for.meet_at_once)
            for m in members
        )
        shares = group_equilibrium(np.asarray(tensor), asked_for.tournament_tau)
        for row in found["players"]:
            row["group_equilibrium"] = float(shares[names.index(row["name"])])
    return found


def _between(said: Judged, players: int, count: int) -> Array:
    """Return how likely each player beats each other on one prompt, (M, M)."""
    if said.rewards is None:
        assert said.wins is not None
        own = [said.wins[k::count, k::count] for k in range(count)]
        return np.asarray(np.mean(own, axis=0))
    size = players * count
    return np.asarray(said.matrix(size).reshape(players, count, players, count).mean((1, 3)))


def _groups(judged: Sequence[Judged], players: int, count: int, n: int) -> Array:
    """Return each player's win rate in each group of n, (M, .., M): response k meets the others' response k."""
    shape = (players,) * n

    def along(values: Array, axis: int) -> Array:
        return values.reshape([players if place == axis else 1 for place in range(n)])

    total = np.zeros(shape)
    for said in judged:
        for k in range(count):
            if said.rewards is None:
                assert said.wins is not None
                table = said.wins[k::count, k::count]
                parts = [
                    table.reshape([players if place in (0, axis) else 1 for place in range(n)])
                    for axis in range(1, n)
                ]
                total += sum(parts) / (n - 1)
            else:
                odds = np.exp(said.rewards[k::count] - said.rewards[k::count].max())
                total += along(odds, 0) / sum(along(odds, axis) for axis in range(n))
    return total / (len(judged) * count)


def _agreement(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how the rankings of each two oracles agree: Kendall's tau-b of their win rates."""
    rates = {
        name: {row["name"]: row["win_rate"] for row in found["players"]} for name, found in results.items()
    }
    found = []
    for first, second in combinations(rates, 2):
        order = list(rates[first])
        value = kendalltau([rates[first][k] for k in order], [rates[second][k] for k in order]).statistic
        found.append({"first": first, "second": second, "kendall": None if np.isnan(value) else float(value)})
    return found


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Return names as they may stand in a folder, no two alike."""
    found, seen = dict[str, str](), Counter[str]()
    for name in names:
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".") or "oracle"
        seen[plain.lower()] += 1
        found[name] = plain + (f"-{seen[plain.lower()]}" if seen[plain.lower()] > 1 else "")
    return found


def _write(home: Path, record: TournamentHeld) -> None:
    """Write the record and the games first, then what is drawn."""
    record.write(home)
    files = file_names(list(record.results))
    (home / GAMES).mkdir(exist_ok=True)
    for name, found in record.results.items():
        content = {
            "oracle": "pairwise",
            "matrix": found["matrix"],
            "responses": [row["name"] for row in found["players"]],
        }
        write_json(home / GAMES / f"{files[name]}.json", content)
    add_figures(
        lambda: {f"tournament-{files[name]}": _figure(record, name) for name in record.results}, home, dpi=200
    )


def _figure(record: TournamentHeld, name: str) -> Figure:
    figure = tournament_figures({**record.results[name], "tau": record.tau})["tournament"]
    figure.suptitle(printable(f"{name}, {record.prompts} prompts"), fontsize=9)
    return figure
