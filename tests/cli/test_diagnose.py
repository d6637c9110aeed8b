"""`mnpo sim diagnose` as a user types it."""

import json

import numpy as np
import pytest


def judged(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def row(scores, responses=None, **more):
    count = len(next(iter(scores.values()))) if isinstance(scores, dict) else len(scores)
    texts = responses or [f"response {k}" for k in range(count)]
    return {"prompt": "why?", "all_generated_responses": texts, "all_rm_scores": scores, **more}


def test_a_game_gives_a_record_a_table_and_a_figure(mnpo, tmp_path):
    status, out, err = mnpo("sim", "diagnose", "annotators", "--out", "found")
    assert status == 0, err
    assert "recommended" in out
    assert {path.name for path in (tmp_path / "found").iterdir()} >= {
        "results.json",
        "diagnosis.png",
        "diagnosis.svg",
    }
    record = json.loads((tmp_path / "found" / "results.json").read_text())
    assert [found["players"] for found in record["equilibria"]] == [2, 3, 4, 6]
    assert record["cycles"][0]["cycle"][0]["beats_next"] > 0.5


def test_judged_responses_in_both_forms_are_grouped_by_their_number(mnpo, tmp_path):
    """Three annotators, in an object and in columns; the majority goes round in a circle of whichever K."""
    ranks = [[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]]
    nested = [dict(zip("abc", ranks, strict=True))] * 2
    nested += [{name: [*scores, 0.0] for name, scores in zip("abc", ranks, strict=True)}]
    judged(tmp_path / "nested.jsonl", [row(scores) for scores in nested])
    columns = []
    for scores in nested:
        entry = row(scores)
        entry |= {f"all_rm_scores_{name}": values for name, values in entry.pop("all_rm_scores").items()}
        columns.append(entry)
    judged(tmp_path / "columns.jsonl", columns)
    found = []
    for name in ("nested", "columns"):
        status, out, err = mnpo("sim", "diagnose", f"{name}.jsonl", "--json", "--tau", "0.2")
        assert status == 0, err
        found.append(json.loads(out))
    assert found[0] | {"game": ""} == found[1] | {"game": ""}
    assert found[0]["responses"] == {"3": 2, "4": 1}
    assert found[0]["disagreement"]["mean"] == pytest.approx((2 * 2 / 3 + 1 / 3) / 3)
    *annotators, population = found[0]["transitivity"]
    assert all(one["cyclicity"]["mean"] == pytest.approx(0, abs=1e-12) for one in annotators)
    assert population["no_winner"]["mean"] == 1
    assert population["triples"]["mean"] == pytest.approx((1 + 1 + 1 / 4) / 3)


def test_votes_are_noisy_by_their_number(mnpo, tmp_path):
    """Nine votes a pair are nine labels; `--labels` has the last word."""
    split = {("a", "b"): 6, ("b", "c"): 6, ("a", "c"): 4}
    votes = [
        {"model_a": one, "model_b": two, "winner": "model_a" if k < wins else "model_b"}
        for (one, two), wins in split.items()
        for k in range(9)
    ]
    judged(tmp_path / "votes.jsonl", votes)
    found = json.loads(mnpo("sim", "diagnose", "votes.jsonl", "--json")[1])
    given = json.loads(mnpo("sim", "diagnose", "votes.jsonl", "--labels", 9, "--json")[1])
    more = json.loads(mnpo("sim", "diagnose", "votes.jsonl", "--labels", 900, "--json")[1])
    assert any("shares of 9 votes" in note for note in found["notes"])
    assert found["transitivity"] == given["transitivity"]
    assert "than noise makes transitive ones" in found["recommendation"]["reasons"]["rule"]
    assert more["recommendation"]["rule"] == "prox"
    assert found["transitivity"][0]["noise"]["cyclicity"] > more["transitivity"][0]["noise"]["cyclicity"]


def test_scale_divides_rewards(mnpo, tmp_path):
    judged(tmp_path / "one.jsonl", [row([0.0, 2.0, 6.0])])
    judged(tmp_path / "half.jsonl", [row([0.0, 1.0, 3.0])])
    runs = [
        json.loads(mnpo("sim", "diagnose", "one.jsonl", "--scale", 2, "--json")[1]),
        json.loads(mnpo("sim", "diagnose", "half.jsonl", "--json")[1]),
    ]
    assert runs[0]["equilibria"] == runs[1]["equilibria"]


BAD = {
    "two responses": ("two.jsonl", (), "2 responses, at least 3"),
    "one response": ("same.jsonl", (), "all responses are the same"),
    "hole": ("hole.jsonl", (), "line 1: score 1 of scores must be a number; found None"),
    "annotators differ": ("differ.jsonl", (), "line 2: must have the scores of the lines before"),
    "ragged": ("ragged.jsonl", (), "must be 4 numbers"),
    "matrix of two": ("two.csv", (), "at least 3 responses"),
    "hole in a matrix": ("hole.npy", (), "finite"),
    "even": ("even.csv", (), "responses must differ"),
    "scale": ("even.csv", ("--scale", 0), "scale must be"),
    "tau": ("rps", ("--tau", 0), "tau must be a number above 0"),
    "labels": ("rps", ("--labels", 0), "--labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(mnpo, tmp_path, case):
    judged(tmp_path / "two.jsonl", [row([1.0, 2.0])])
    judged(tmp_path / "same.jsonl", [row([1.0, 1.0, 1.0], ["a"] * 3)])
    judged(tmp_path / "hole.jsonl", [row([1.0, None, 1.0])])
    judged(tmp_path / "differ.jsonl", [row([1.0, 2.0, 1.0]), row({"a": [1.0, 2.0, 1.0]})])
    judged(tmp_path / "ragged.jsonl", [row([1.0, 2.0, 1.0], list("abcd"))])
    (tmp_path / "two.csv").write_text("0.5,0.6\n0.4,0.5\n")
    (tmp_path / "even.csv").write_text("0.5,0.5,0.5\n" * 3)
    np.save(tmp_path / "hole.npy", np.where(np.eye(3), 0.5, np.nan))
    name, options, said = BAD[case]
    status, out, err = mnpo("sim", "diagnose", name, *options)
    assert status == 2
    assert said in err
    assert err.strip().count("\n") == 0
    assert out == ""
    assert not any((tmp_path / "runs").glob("diagnose*")) if (tmp_path / "runs").exists() else True
