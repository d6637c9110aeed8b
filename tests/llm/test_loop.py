"""`mnpo llm train` and its stages as a user runs them: killed, stage by stage, with many players, and refused."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnpo.cli import show_llm
from mnpo.llm import tiny
from mnpo.llm.annotate import annotate
from mnpo.llm.commands import STAGES
from mnpo.llm.config import Config, load, presets
from mnpo.llm.evaluate import evaluate, interval
from mnpo.llm.loop import iteration_config, train
from mnpo.llm.plots import FIGURE
from mnpo.llm.recipes import BIASED, TAUGHT, taught
from mnpo.llm.sample import sample
from runs import entries, kill_when, mnpo

#: A run of a few seconds.
SMALL = (
    "iterations=2", "prompt_dataset_name=tiny:prompts:20", "eval_prompts=5", "num_generations=4",
    "eval_generations=2", "per_device_generation_batch_size=8", "per_device_eval_batch_size=4", "max_steps=4",
    "per_device_train_batch_size=8", "save_steps=2", "logging_steps=1",
)  # fmt: skip


class Server(ThreadingHTTPServer):
    """A judge over HTTP that prefers the longer response, and the first of two equals; it counts questions."""

    questions: Counter[str]
    delay = 0.004
    answer: str | None = None

    def __init__(self) -> None:
        self.questions = Counter()
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def oracle(self) -> str:
        template = r"{prompt}\n###\n{first}\n###\n{second}"
        return (
            f'oracle={{kind: judge, name: judge, model: any, base_url: "{self.address}", template: "{template}", '
            "retries: 0, concurrency: 2}"
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        self.server.questions[question] += 1
        time.sleep(self.server.delay)
        _, first, second = question.split("\n###\n")
        verdict = self.server.answer or ("[[A]]" if len(first) >= len(second) else "[[B]]")
        message = {"role": "assistant", "content": verdict}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "any",
                 "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model that answers."""
    return tiny.build("tiny:styles", tmp_path_factory.mktemp("base"))


def run_stage(name: str, config: Config) -> dict[str, Any]:
    return STAGES[name].do(config, None)


def run(base: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    return train(
        load("tiny", [f"model_name_or_path={base}", f"output_dir={folder}", *SMALL, *overrides]), run_stage
    )


def weights(record: dict[str, Any]) -> list[bytes]:
    return [(Path(row["model"]) / "model.safetensors").read_bytes() for row in record["iterations"]]


def test_killed_in_every_stage(base: Path, tmp_path: Path, server: Server) -> None:
    """SIGKILL while sampling, annotating, scoring, fitting and evaluating: the same bits, and nothing bought twice."""
    whole = run(base, tmp_path / "whole", server.oracle)
    asked = Counter(server.questions)
    server.questions.clear()
    folder = tmp_path / "killed"
    arguments = ["train", f"model_name_or_path={base}", f"output_dir={folder}", *SMALL, server.oracle]
    first, second = folder / "iteration-1", folder / "iteration-2"
    stops = {
        "sample": lambda: any(file.stat().st_size > 2000 for file in folder.glob("samples/*/*.arrows")),
        "annotate": lambda: server.questions.total() > 20,
        "score": lambda: any(file.stat().st_size > 500 for file in folder.glob("scores/*/*.arrows")),
        "fit": lambda: (first / "fit/checkpoint-2/complete.json").exists(),
        "evaluate": lambda: len({f.parent for f in folder.glob("samples/*/*.arrows") if f.stat().st_size > 1500}) > 1,
        "second fit": lambda: (second / "fit/checkpoint-2/complete.json").exists(),
    }  # fmt: skip
    bought = {}
    for stage, ready in stops.items():
        kill_when(arguments, ready)
        bought[stage] = [len(entries(folder / what)) for what in ("samples", "answers", "scores")]
    assert 0 < bought["sample"][0] < 15 * 4
    assert 0 < bought["annotate"][1] < bought["score"][1]
    assert 0 < bought["score"][2] < bought["fit"][2]
    assert bought["fit"][0] < bought["evaluate"][0] < bought["second fit"][0]
    assert not (second / "model").exists()
    record = run(base, folder, server.oracle)
    assert weights(record) == weights(whole)
    for what in ("samples", "answers", "scores"):
        found = entries(folder / what)
        assert len(found) == len(set(found)), f"{what} bought twice"
        assert sorted(found) == sorted(entries(tmp_path / "whole" / what))
    # Questions that were under way when the process was killed were put, but their answers never arrived.
    assert set(server.questions) == set(asked)
    assert server.questions.total() - asked.total() <= 4
    assert [row["win_rate"] for row in record["iterations"]] == [
        row["win_rate"] for row in whole["iterations"]
    ]
    assert not list(folder.rglob(".*"))
    again = train(load("tiny", arguments[1:]), lambda stage, _: pytest.fail(f"{stage} was run again"))
    assert again["iterations"] == record["iterations"]
    with pytest.raises(
        ValueError, match=r"holds a run with another configuration \(learning_rate: 0.0003 there, 0.1"
    ):
        run(base, folder, server.oracle, "learning_rate=0.1")
    assert weights(json.loads((folder / "results.json").read_text())) == weights(whole)


def test_what_a_run_leaves(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    record = run(base, folder, "schedule={2: {rule.eta: 9, rule.players: 2, learning_rate: 0.0001}}")
    assert json.loads((folder / "results.json").read_text()) == record
    assert [(row["iteration"], row["player"]) for row in record["iterations"]] == [
        (1, "policy"),
        (2, "policy"),
    ]
    for row in record["iterations"]:
        assert {"loss", "kl", "length", "model", "win_rate"} <= set(row)
        for rival in ("reference", "previous"):
            rate = row["win_rate"][rival]["styles"]
            assert 0 <= rate["low"] <= rate["mean"] <= rate["high"] <= 1
        AutoModelForCausalLM.from_pretrained(row["model"])
        AutoTokenizer.from_pretrained(row["model"])
    one, two = (json.loads((folder / f"iteration-{t}/results.json").read_text()) for t in (1, 2))
    assert one["rule"]["eta"] == 4
    assert [anchor["weight"] for anchor in one["rule"]["anchors"]] == pytest.approx([0.2, 0.4, 0.4])
    assert two["rule"]["eta"] == 9
    assert [anchor["weight"] for anchor in two["rule"]["anchors"]] == pytest.approx([0.45, 0.55])
    assert [row["anchor"] for row in two["anchors"]] == ["reference", "current"]
    for ending in ("png", "svg"):
        assert (folder / f"{FIGURE}.{ending}").stat().st_size > 5000
    assert not list(folder.glob("iteration-*/fit/checkpoint-*"))
    # The first iteration again, by hand: stage by stage, in a folder of its own.
    hand = tmp_path / "by-hand"
    for stage in ("sample", "annotate", "score", "fit", "evaluate"):
        by_hand = [f"output_dir={hand}", "scores_dir=null", "eval_model=null"]
        show_llm.STAGES[stage](run_stage(stage, load(str(folder / "iteration-1/config.yaml"), by_hand)))
    show_llm.trained(record, folder)
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "responses of",
        "15 train, 5 eval",
        "win rate against",
        "wins against",
        TAUGHT["win-rate"],
    ):
        assert part in shown
    assert (hand / "model/model.safetensors").read_bytes() == weights(record)[0]
    found = json.loads((hand / "evaluation.json").read_text())
    held = load_from_disk(found["folder"])
    assert len(held) == found["prompts"] == 5
    assert all(len(held[0][name]) == 2 for name in ("policy", "reference", "previous"))
    assert found["win_rate"]["reference"] == record["iterations"][0]["win_rate"]["reference"]
    assert found["models"][0]["drawn"] == 0  # the stores know them


PLAYERS = (
    "rule={name: ht-mnpo, eta: 4, tau: 0.05, anchor: %s}",
    "players=[{name: terse, oracle: {name: short, traits: forms, utilities: {brief: 9}}}, "
    "{name: gruff, learning_rate: 5e-4, oracle: {name: rude, traits: styles, utilities: {gruff: 2}}}]",
    "iterations=1",
)


@pytest.mark.parametrize("anchor", ["opponents", "own"])
def test_heterogeneous_players(anchor: str, base: Path, tmp_path: Path) -> None:
    """Each against the other's responses, under its own oracle, anchored as asked; all oracles judge all players."""
    folder = tmp_path / "run"
    record = run(base, folder, PLAYERS[0] % anchor, *PLAYERS[1:])
    assert [row["player"] for row in record["iterations"]] == ["terse", "gruff"]
    for row, other in zip(record["iterations"], ("gruff", "terse"), strict=True):
        assert set(row["win_rate"]) == {"reference", "previous", other}
        assert set(row["win_rate"][other]) == {"terse", "gruff"}
        fitted = json.loads((Path(row["model"]).parent / "results.json").read_text())
        named = {"opponents": "opponent-1", "own": "current"}[anchor]
        assert [entry["anchor"] for entry in fitted["anchors"]] == ["reference", named]
    first, second = (row["win_rate"] for row in record["iterations"])
    assert first["gruff"]["terse"]["mean"] == pytest.approx(1 - second["terse"]["terse"]["mean"])
    # Both start alike, and still draw responses of their own.
    answers = []
    for player in ("terse", "gruff"):
        sampled = json.loads((folder / f"iteration-1/{player}/samples.json").read_text())
        assert [entry["name"] for entry in sampled["models"]] == [
            "policy",
            {"terse": "gruff", "gruff": "terse"}[player],
        ]
        answers.append(list(load_from_disk(sampled["folder"])))
    assert answers[0][0]["responses"] == answers[1][0]["opponents"][0]
    assert answers[0][0]["responses"] != answers[1][0]["responses"]
    assert sampled["models"][1]["drawn"] == 0  # of the other player, who drew them


def test_players_move_towards_what_they_are_paid_for(base: Path, tmp_path: Path) -> None:
    """The sign of the whole loop: two players with opposite tastes part, each preferred by its own oracle."""
    record = run(
        base, tmp_path / "run", PLAYERS[0] % "own", *PLAYERS[1:], "max_steps=40", "prompt_dataset_name=tiny:prompts:60",
        "eval_prompts=20", "eval_generations=4", "per_device_generation_batch_size=64",
        "players=[{name: kind, oracle: {name: k, traits: styles, utilities: {gruff: -3}}}, "
        "{name: gruff, oracle: {name: r, traits: styles, utilities: {gruff: 3}}}]",
    )  # fmt: skip
    kind, gruff = (row["win_rate"] for row in record["iterations"])
    assert kind["gruff"]["kind"]["low"] > 0.55
    assert gruff["kind"]["gruff"]["low"] > 0.55
    assert gruff["reference"]["gruff"]["low"] > 0.5


def test_external_opponents_and_given_pairs(base: Path, tmp_path: Path) -> None:
    """Iteration 1 on pairs that are there already; an external policy as an anchor throughout."""
    external = tiny.build("tiny:llama", tmp_path)
    record = run(
        base, tmp_path / "run", "first_pairs=dataset", "dataset_name=tiny:pairs:40", "eval_size=8",
        "rule={name: eo-mnpo, eta: 2, tau: 0.1, external_tau: [0.2]}", f"external_models=[{external}]",
    )  # fmt: skip
    rows = json.loads((tmp_path / "run/iteration-1/results.json").read_text())["rows"]["train"]
    assert record["iterations"][0]["pairs"] == rows["kept"] - 8 > 20
    assert not (tmp_path / "run/iteration-1/samples.json").exists()
    assert (tmp_path / "run/iteration-2/samples.json").exists()
    for t in (1, 2):
        fitted = json.loads((tmp_path / f"run/iteration-{t}/results.json").read_text())
        assert "external-1" in [entry["anchor"] for entry in fitted["anchors"]]


def test_a_population_in_groups(base: Path, tmp_path: Path) -> None:
    """n = 4: group win rates of annotators, each told apart in the evaluation."""
    members = [{"name": style, "traits": "styles", "utilities": {style: 3}, "weight": w}
               for style, w in (("plain", 5), ("formal", 4), ("playful", 3))]  # fmt: skip
    oracle = json.dumps({"kind": "population", "name": "people", "members": members})
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in tiny.prompts(20)))
    arguments = (
        f"oracle={oracle}", "group_size=3", "num_generations=6", "iterations=1", f"prompt_dataset_name={file}",
    )  # fmt: skip
    record = run(base, tmp_path / "run", *arguments)
    rates = record["iterations"][0]["win_rate"]["reference"]
    assert set(rates) == {"people", "people/plain", "people/formal", "people/playful"}
    mean = sum(w * rates[f"people/{m['name']}"]["mean"] for w, m in zip((5, 4, 3), members, strict=True)) / 12
    assert rates["people"]["mean"] == pytest.approx(mean)
    file.write_text(file.read_text() + '{"prompt": "One more?"}\n')
    with pytest.raises(ValueError, match=r"the content of data prompt_dataset_name"):
        run(base, tmp_path / "run", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero3"])
def test_two_processes(mode: str, base: Path, tmp_path: Path) -> None:
    """Every stage shared by two processes: the same samples and answers, weights that differ by rounding alone."""
    one = run(base, tmp_path / "one", "iterations=1")
    overrides = [o for o in SMALL if not o.startswith(("iterations", "per_device_train"))]
    found = mnpo(
        "train", "tiny", f"model_name_or_path={base}", f"output_dir={tmp_path / 'two'}", *overrides, "iterations=1",
        "per_device_train_batch_size=4", "--num-processes", "2", "--accelerate", mode, "--json",
    )  # fmt: skip
    two = json.loads(found)
    a, b = (AutoModelForCausalLM.from_pretrained(record["iterations"][0]["model"]) for record in (one, two))
    for first, second in zip(a.parameters(), b.parameters(), strict=True):
        assert (first - second).abs().max() < 1e-4
    for what in ("samples", "answers"):
        whole = json.loads(
            (
                tmp_path / f"one/iteration-1/{'samples' if what == 'samples' else 'annotations'}.json"
            ).read_text()
        )
        other = json.loads(
            (
                tmp_path / f"two/iteration-1/{'samples' if what == 'samples' else 'annotations'}.json"
            ).read_text()
        )
        assert whole["manifest"] == other["manifest"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["iterations=0"], "iterations must be at least 1; found 0"),
        (["num_generations=0"], "num_generations must be at least 1; found 0"),
        (["rule.players=1"], "players must be at least 2; found 1"),
        (["players=[{name: a, oracle: styles}]"], "players must be at least 2"),
        (["players=[{name: a}, {name: a}]"], "different names"),
        (["players=[{name: a}, {name: reference}]"], "not one in use; found 'reference'"),
        (["players=[{name: a}, {name: b, iterations: 2}]"], "player b: iterations is the same for all players"),
        (["players=[{name: a}, {name: b, orcale: x}]"], "unknown key 'orcale'"),
        (["schedule={7: {rule.eta: 1}}"], "schedule names iterations from 1 to 2; found 7"),
        (["schedule={2: {rule.eta: 1000}}"], "eta must be at most 1/tau"),
        (["schedule={2: {pairing: third, target: label}}"], "pairing=third needs target=win-rate"),
        (["schedule={2: {iterations: 9}}"], "schedule of iteration 2: iterations is the same for all players"),
        (["schedule={2: 5}"], "schedule must give keys for iterations"),
        (["players=[a, b]"], "players must be a list of keys and values"),
        (["players=[{name: a, model_name_or_path: x}, {name: b}]"], "player a: model_name_or_path is the same for all"),
        (["players=[{name: a}, {name: current}]"], "not one in use; found 'current'"),
        (["past_models=[x]"], "past_models is set by the loop"),
        (["eval_prompts=0"], "at least 2 held-out prompts: eval_prompts=0 leaves 0"),
        (["eval_prompts=1"], "at least 2 held-out prompts: eval_prompts=1 leaves 1"),
        (["oracle=null"], "the configuration lacks oracle"),
        (["first_pairs=dataset", "dataset_name=null"], "first_pairs=dataset needs dataset_name"),
        (["oracle={kind: reward, model: %s}"], "was found"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_done(
    overrides: list[str], message: str, base: Path, tmp_path: Path
) -> None:
    if "%s" in overrides[0]:
        overrides, message = [overrides[0] % base], "reward"
    with pytest.raises(ValueError, match=r".") as caught:
        run(base, tmp_path / "run", *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run").glob("iteration-*/*"))


def test_a_judge_that_is_down_or_talks_nonsense(base: Path, tmp_path: Path, server: Server) -> None:
    """The run stops with one line and status 2, says what is left, and goes on when the judge does."""
    folder = tmp_path / "run"
    arguments = [
        "train",
        f"model_name_or_path={base}",
        f"output_dir={folder}",
        *SMALL,
        server.oracle,
        "iterations=1",
    ]
    server.answer = "I like both."
    error = mnpo(*arguments, expect=2)
    line = error.strip().splitlines()[-1]
    assert "gave no verdict" in line
    assert "questions are left" in line
    server.answer = None
    whole = run(base, tmp_path / "whole", server.oracle, "iterations=1")
    assert weights(run(base, folder, server.oracle, "iterations=1")) == weights(whole)
    config = load("tiny", [f"model_name_or_path={base}", f"output_dir={tmp_path / 'down'}", *SMALL,
                           'oracle={kind: judge, name: j, model: m, base_url: "http://127.0.0.1:9/v1", retries: 0}'])  # fmt: skip
    sample(config)
    with pytest.raises(ValueError, match=r"does not answer.*of \d+ questions are left"):
        annotate(config)


def test_stages_refuse_what_the_one_before_did_not_leave(base: Path, tmp_path: Path) -> None:
    config = load("tiny", [f"model_name_or_path={base}", f"output_dir={tmp_path}", *SMALL])
    with pytest.raises(ValueError, match="holds no samples; mnpo llm sample draws them"):
        annotate(config)
    with pytest.raises(ValueError, match="lacks dataset_name, and output_dir holds no preferences"):
        run_stage(
            "fit", load("tiny", [f"model_name_or_path={base}", f"output_dir={tmp_path}", "dataset_name=null"])
        )
    with pytest.raises(ValueError, match="at least 2 held-out prompts"):
        evaluate(load("tiny", [f"model_name_or_path={base}", f"output_dir={tmp_path}", "eval_prompts=1"]))
    sample(config)
    with pytest.raises(
        ValueError, match="are 4 responses to each prompt, num_generations is 5; sample again"
    ):
        annotate(
            load(
                "tiny", [f"model_name_or_path={base}", f"output_dir={tmp_path}", *SMALL, "num_generations=5"]
            )
        )
    shutil.rmtree(tmp_path / "prompts-and-responses")


def test_records_say_what_pairs_teach() -> None:
    """Unbiased is said of those kinds of pairs alone that test_pairing.py finds to be."""

    def said(*overrides: str) -> str:
        return taught(load("tiny", list(overrides)))

    assert said() == TAUGHT["win-rate"]
    assert said("target=label", "pairing=iid") == TAUGHT["label"]
    assert said("target=label", "pairing=iid", "labels=sampled") == TAUGHT["label"]
    for target in ("target=win-rate", "target=label"):
        assert said(target, "pairing=best-worst") == BIASED["best-worst"]
    assert said("pairing=third", "labels=hard") == BIASED["hard"]
    assert said("target=label", "labels=hard") == BIASED["hard"]
    assert said("temperature=0.8", "top_p=0.95").endswith("drawn at temperature 0.8, top-p 0.95")


def test_a_run_can_be_moved(base: Path, tmp_path: Path) -> None:
    """Where models lie, and how that is spelt, is no part of a run."""
    run(base, tmp_path / "here", "iterations=1")
    (tmp_path / "here").rename(tmp_path / "there")
    arguments = [f"model_name_or_path={base}", f"output_dir={tmp_path}/./there", *SMALL, "iterations=1"]
    train(load("tiny", arguments), lambda stage, _: pytest.fail(f"{stage} was run again"))
    # A stage that was run by hand with other settings does not pass for the run's own.
    run_stage("evaluate", load(str(tmp_path / "there/iteration-1/config.yaml"), ["eval_generations=1"]))
    stages = []

    def counted(stage: str, config: Config) -> dict[str, Any]:
        stages.append(stage)
        return run_stage(stage, config)

    train(load("tiny", arguments), counted)
    assert stages == ["evaluate"]


def test_intervals_cover(tmp_path: Path) -> None:
    """Student's interval holds the true mean as often as it says."""
    rng = np.random.default_rng(0)
    found = [interval(rng.random(12)) for _ in range(2000)]
    assert np.mean([rate["low"] <= 0.5 <= rate["high"] for rate in found]) == pytest.approx(0.95, abs=0.015)


def test_packaged_runs_are_whole(tmp_path: Path) -> None:
    """Every preset says how its iterations go; the published one in the numbers of the paper."""
    for name in presets():
        config = load(name, [f"output_dir={tmp_path}"])
        player = str(config.players[0]["name"]) if config.players else "policy"
        names = [str(p["name"]) for p in config.players] or [player]
        last = iteration_config(
            config, config.iterations, player, dict.fromkeys(names, ["base"] * config.iterations)
        )
        assert last.model_name_or_path == "base"
        assert config.oracle is not None or config.players
    published = load("gemma-2-9b-it")
    assert published.iterations == 3
    assert (published.num_generations, published.temperature, published.top_p) == (5, 0.8, 0.95)
    assert (published.pairing, published.first_pairs, published.prompt_use) == (
        "best-worst",
        "dataset",
        "split",
    )
    assert (published.max_length, published.max_prompt_length) == (2048, 1800)
    training = published.training
    assert (training["learning_rate"], training["warmup_steps"], training["lr_scheduler_type"]) == (
        5e-7,
        0.1,
        "cosine",
    )
    assert training["weight_decay"] == 0
    assert training["bf16"] is True
    rule = published.the_rule()
    assert rule is not None
    assert 1 / float(rule.eta) == pytest.approx(0.0075)
    assert [weight for _, weight in rule.anchors] == pytest.approx([1 / 3] * 3)
    assert len(load("gemma-2-9b-it-ht").players) == 3
