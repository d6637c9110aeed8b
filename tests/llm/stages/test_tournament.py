"""Tournaments whose exact answer is known, and what one more player costs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import Server, says
from typer.testing import CliRunner

from mnpo import Game, Pairwise, PlackettLuce, solve
from mnpo.cli.main import app
from mnpo.llm.data.made import STYLE_WINS, STYLES
from mnpo.llm.data.made import prompts as made_prompts
from mnpo.llm.oracles.base import TextOracle

NAMES = list(STYLES)
PROMPTS = made_prompts(12)


def play(*words: str) -> Any:
    result = CliRunner().invoke(app, ["llm", "tournament", *words, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Responses of somebody who answers in one style, by style; the prompts beside them."""
    found = {}
    for style, (first, *_) in STYLES.items():
        rows = [{"prompt": prompt, "response": first.format("tea")} for prompt in PROMPTS]
        found[style] = str(write(tmp_path / f"{style}.jsonl", rows))
    write(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    return found


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def rows_of(found: dict[str, Any], oracle: str = "styles") -> dict[str, Any]:
    return {row["name"]: row for row in found["results"][oracle]["players"]}


def common(tmp_path: Path) -> list[str]:
    return [f"prompt_dataset_name={tmp_path / 'prompts.jsonl'}", f"output_dir={tmp_path / 'out'}",
            "bootstrap_draws=10", "use_cpu=true"]  # fmt: skip


def test_the_meta_game_is_the_styles_own(files: dict[str, str], tmp_path: Path) -> None:
    """The equilibrium is the cycle's, which ratings cannot show; a mixture is met at its own rate."""
    found = play(*files.values(), "oracle=styles", "tournament_tau=0.1", "against={plain: 1, gruff: 3}",
                 *common(tmp_path))  # fmt: skip
    rows = rows_of(found)
    matrix = np.array(found["results"]["styles"]["matrix"])
    order = [NAMES.index(row["name"]) for row in found["results"]["styles"]["players"]]
    assert np.abs(matrix - STYLE_WINS[np.ix_(order, order)]).max() < 1e-12
    for tau, key in ((0.0, "lottery"), (0.1, "equilibrium")):
        exact = np.asarray(solve(Game(Pairwise(STYLE_WINS), players=2, tau=tau)).policies).reshape(-1, 4)[0]
        assert [rows[name][key] for name in NAMES] == pytest.approx(exact.tolist(), abs=1e-8)
    best = max(NAMES, key=lambda name: rows[name]["rating"])
    assert rows[best]["exploitability"] > 0.15  # the highest rating is beaten by the next in the circle
    assert min(rows[name]["lottery"] for name in NAMES[:3]) > 0.2
    mixture = STYLE_WINS @ [0.25, 0, 0, 0.75]
    assert [rows[name]["win_rate_against_mixture"] for name in NAMES] == pytest.approx(mixture.tolist())
    assert found["results"]["styles"]["cycles_found"] == [
        {"players": ["plain", "playful", "formal"], "support": 1.0}
    ]
    game = tmp_path / "out" / "games" / "styles.json"
    solved = CliRunner().invoke(app, ["sim", "solve", str(game), "--tau", "0.1", "--json"])
    assert solved.exit_code == 0, solved.output
    assert np.array(json.loads(solved.stdout)["policies"])[0, 0] == pytest.approx(
        [rows[NAMES[k]]["equilibrium"] for k in order], abs=1e-8
    )
    assert (tmp_path / "out/tournament-styles.png").stat().st_size > 5000


class Worth(TextOracle):
    """Rewards a letter."""

    kind = "reward"

    def __init__(self, name: str, letter: str) -> None:
        self.name, self._letter = name, letter

    def key(self) -> dict[str, Any]:
        return {"worth": self._letter}

    def answer(self, questions: Any, device: Any) -> Any:
        yield [(place, float(one.first.count(self._letter))) for place, one in enumerate(questions)]


def test_populations_groups_and_agreement(files: dict[str, str], tmp_path: Path) -> None:
    """A panel of rewards: each member beside it, and the equilibrium of three who meet at once."""
    from mnpo.llm.config import Draft
    from mnpo.llm.stages.running import run_stage

    draft = Draft({"folders": {"output_dir": str(tmp_path / "out")}, "model": {"model_name_or_path": "none"},
                   "prompts": {"prompt_dataset_name": str(tmp_path / "prompts.jsonl")}})  # fmt: skip
    panel = {"kind": "population", "name": "all", "members": [Worth("e", "e"), Worth("a", "a")]}
    draft.sections["contest"]["entrants"] = files
    draft.sections["tournament"] |= {
        "tournament_oracles": {"all": panel}, "meet_at_once": 3, "tournament_tau": 0.3,
        "bootstrap_draws": 0,
    }  # fmt: skip
    found = run_stage("tournament", draft.resolved()).as_dict()
    assert list(found["results"]) == ["all", "e", "a"]
    assert len(found["agreement"]) == 3
    worth = {
        letter: np.array([STYLES[name][0].format("tea").count(letter) for name in NAMES], float)
        for letter in "ea"
    }
    for letter in "ea":
        exact = solve(Game(PlackettLuce(worth[letter]), players=3, tau=0.3))
        shares = [rows_of(found, letter)[name]["group_equilibrium"] for name in NAMES]
        assert shares == pytest.approx(np.asarray(exact.policies).reshape(-1, 4)[0].tolist(), abs=1e-8)
    # A panel is somebody drawn by weight: its win rates are the members' mean.
    matrices = {}
    for name, one in found["results"].items():
        order = [NAMES.index(row["name"]) for row in one["players"]]
        matrices[name] = np.array(one["matrix"])[np.ix_(np.argsort(order), np.argsort(order))]
    assert matrices["all"] == pytest.approx((matrices["e"] + matrices["a"]) / 2)


def test_one_more_player_costs_one_more_row(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.reply = lambda parts, before: says("Hooray for tea, tra la la!")
        endpoint = f"{{name: served, base_url: '{server.url}', model: m}}"
        two = [files["plain"], files["formal"]]
        first = play(*two, "oracle=styles", *common(tmp_path))
        assert first["oracles"][0]["asked"] == 12
        third = play(*two, endpoint, "oracle=styles", "temperature=0", *common(tmp_path))
        assert (third["oracles"][0]["asked"], third["oracles"][0]["reused"]) == (24, 12)
        served = next(player for player in third["players"] if player["name"] == "served")
        assert (served["drawn"], len(server.seen)) == (12, 12)
        again = play(*two, endpoint, "oracle=styles", "temperature=0", *common(tmp_path))
        assert (again["oracles"][0]["asked"], len(server.seen)) == (0, 12)
        assert again["results"] == third["results"]
        assert rows_of(third)["served"]["win_rate"] == pytest.approx(np.mean([0.35, 0.7]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{plain}"], "at least two players; found plain"),
        (["{plain}", "{plain}"], "two players are called 'plain'"),
        (["{plain}", "other.jsonl"], "player other.jsonl: other.jsonl: no such file"),
        (
            ["{plain}", "{foreign}"],
            r"no prompt of 12 has an answer of every player; answered: plain 12, foreign 0",
        ),
        (
            ["{plain}", "{formal}", "against={nobody: 1}"],
            "the mixture names 'nobody'; players are plain, formal",
        ),
        (["{plain}", "{formal}", "against={plain: -1}"], "weights of a mixture"),
        (["{plain}", "{formal}", "meet_at_once=3"], "needs tournament_tau above 0"),
        (["{plain}", "{formal}", "oracle=nobody"], "nobody"),
        (
            ["{plain}", "{name: x, base_url: 'http://127.0.0.1:9/v1', model: m, temperature: 1}"],
            "temperature is not",
        ),
        (["{plain}", "{name: x, base_url: 'http://127.0.0.1:9/v1', model: m, rows: 1}"], "'rows'"),
        (["{plain}", "{name: x}"], "found the keys none"),
    ],
)
def test_bad_input_is_told(files: dict[str, str], tmp_path: Path, words: list[str], message: str) -> None:
    files["foreign"] = str(write(tmp_path / "foreign.jsonl", [{"prompt": "?", "response": "!"}]))
    filled = [files.get(word[1:-1], word) for word in words]
    oracle = [] if any(word.startswith("oracle") for word in words) else ["oracle=styles"]
    with pytest.raises(ValueError, match=message):
        play(*filled, *oracle, *common(tmp_path))


@pytest.mark.slow
def test_models_taught_a_style_each(tmp_path: Path) -> None:
    """Networks, not files: their meta-game is the styles', as far as they keep to their style."""
    models = [f"tiny:{style}" for style in NAMES]
    found = play(*models, "oracle=styles", "prompt_dataset_name=tiny:prompts:40", "tournament_generations=2",
                 f"output_dir={tmp_path}", "use_cpu=true", "max_new_tokens=40")  # fmt: skip
    rows = rows_of(found)
    exact = np.asarray(solve(Game(Pairwise(STYLE_WINS), players=2, tau=0)).policies).reshape(-1, 4)[0]
    assert [rows[name]["lottery"] for name in models] == pytest.approx(exact.tolist(), abs=0.03)
    assert found["results"]["styles"]["cycles_found"][0]["support"] == 1.0
    best = max(models, key=lambda name: rows[name]["rating"])
    assert rows[best]["exploitability"] > 0.15


def test_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup, mathematics and escapes in names have no effect, and never cost the results."""
    names = ["[red]a[/red]", "$\\frac{b$", "c\x1b[31m", "d_{e}^", "\ud800"]
    rows = {
        name: [{"prompt": prompt, "response": f"It is {k}."} for prompt in PROMPTS]
        for k, name in enumerate(names)
    }
    files = {name: str(write(tmp_path / f"{k}.jsonl", rows[name])) for k, name in enumerate(names)}
    from mnpo.cli import show_evaluation
    from mnpo.llm.config import Draft
    from mnpo.llm.stages.running import run_stage

    write(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    draft = Draft({"folders": {"output_dir": str(tmp_path / "out")}, "model": {"model_name_or_path": "none"},
                   "prompts": {"prompt_dataset_name": str(tmp_path / "prompts.jsonl")}})  # fmt: skip
    draft.sections["contest"]["entrants"] = files
    draft.sections["tournament"] |= {"tournament_oracles": {"$x": "styles"}, "bootstrap_draws": 0}
    found = run_stage("tournament", draft.resolved()).as_dict()
    assert {row["name"] for row in found["results"]["$x"]["players"]} == set(names)
    show_evaluation.tournament(found, tmp_path)
    shown = capsys.readouterr().out
    assert "[red]a" in shown
    assert "\x1b[31m" not in shown
    assert (tmp_path / "out" / "games" / "-x.json").is_file()
