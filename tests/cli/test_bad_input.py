"""What is said of bad input."""

import numpy as np
import pytest

BAD = {
    "no command": (("simm",), "No such command"),
    "unknown option": (("sim", "solve", "rps", "--player", 2), "--players"),
    "no number": (("sim", "solve", "rps", "--players", "x"), "--players"),
    "missing file": (("sim", "solve", "none.csv"), "no such file: none.csv"),
    "empty file": (("sim", "solve", "empty.csv"), "empty.csv is empty"),
    "ragged": (("sim", "solve", "ragged.csv"), "line 2"),
    "not square": (("sim", "solve", "wide.csv"), "square"),
    "nan": (("sim", "solve", "nan.csv"), "finite"),
    "outside": (("sim", "solve", "outside.csv"), "[0, 1]"),
    "sums": (("sim", "solve", "sums.csv"), "P + Pᵀ = 1"),
    "game": (("sim", "solve", "rsp"), "did you mean 'rps'"),
    "rule": (("sim", "run", "rps", "--rule", "inpoo"), "did you mean 'inpo'"),
    "advantage": (("sim", "run", "rps", "--advantage", "x"), "choose from current, population"),
    "another rule's option": (
        ("sim", "run", "rps", "--rule", "inpo", "--anchor", "own"),
        "--anchor: rule inpo takes no",
    ),
    "refresh": (
        ("sim", "run", "rps", "--rule", "mpo", "--refresh", 2.5),
        "--refresh must be a whole number; found '2.5'",
    ),
    "refresh zero": (("sim", "run", "rps", "--rule", "mpo", "--refresh", 0), "refresh must be"),
    "weights": (
        ("sim", "run", "rps", "-n", 3, "--weights", "0.7,x"),
        "--weights must be a number; found 'x'",
    ),
    "weights of others": (
        ("sim", "run", "rps", "-n", 3, "--weights", "0.7,0.2"),
        "weights must be 2 numbers",
    ),
    "preflib": (("sim", "solve", "bad.soc"), "bad.soc, line 3"),
    "json": (("sim", "solve", "bad.json"), "bad.json, line 2"),
    "tau": (("sim", "solve", "rps", "--tau", "-0.1"), "tau must be at least 0"),
    "tau text": (("sim", "solve", "rps", "--tau", "a,b"), "tau must be a number"),
    "players": (("sim", "solve", "rps", "--players", 1), "players must be an integer of at least 2"),
    "study players": (("sim", "--players", "2,x"), "integers"),
    "study one player": (("sim", "--players", "1,2"), "at least 2"),
    "reference zero": (("sim", "solve", "rps", "--reference", "zero.json"), "greater than 0"),
    "reference length": (("sim", "solve", "rps", "--reference", "short.json"), "3 probabilities"),
    "policies": (("sim", "verify", "rps", "sums.json"), "sum to 1"),
    "policy shape": (("sim", "verify", "rps", "short.json"), "policies must have shape"),
    "memory": (("sim", "solve", "tensor:responses=50,players=8"), "GiB"),
    "out is a file's child": (("sim", "run", "rps", "--steps", 3, "--out", "empty.csv/x"), "cannot write"),
    "out is not empty": (("sim", "run", "rps", "--steps", 3, "--out", "full"), "not an empty folder"),
    "out of solve": (("sim", "solve", "rps", "--out", "nowhere/e.json"), "cannot write"),
    "step too long": (("sim", "run", "rps", "--eta", 50, "--tau", 0.1), "at most 1/tau"),
    "method": (("sim", "solve", "rps", "--method", "newtn"), "method must be"),
    "misplaced": (("sim", "--tau", 0.1, "solve", "rps"), "goes after 'solve'"),
    "labels": (("sim", "solve", "labels.csv"), "same order"),
    "names twice": (("sim", "show", "twice.csv"), "named twice"),
    "too many players": (("sim", "solve", "rps", "--players", 10**9), "GiB"),
    "too many responses": (("sim", "show", "random:responses=100000"), "GiB"),
    "alternatives": (("sim", "solve", "huge.soi"), "GiB"),
    "four axes": (("sim", "show", "four.npy"), "three axes"),
    "tiny tau": (("sim", "solve", "rps", "--tau", 1e-300), "at least 1e-12"),
    "no pairwise at 0": (("sim", "solve", "minority", "--players", 3, "--tau", 0), "choose a small tau"),
    "no record": (("sim", "plot", "broken"), "no record of a run"),
    "seed twice": (("sim", "solve", "random:seed=1", "--seed", 2), "given twice"),
    "check rule": (("sim", "check", "inpoo"), "did you mean 'inpo'"),
    "check test": (("sim", "check", "inpo", "--test", "rsp"), "did you mean 'rps'"),
    "rates without tau": (("sim", "rates", "rps", "--tau", 0), "tau above 0"),
    "tune rule": (("sim", "tune", "rps", "--rule", "tdmnpo"), "did you mean 'td-mnpo'"),
    "tune without weights": (("sim", "tune", "rps", "--rule", "onpo", "--weights"), "no history weights"),
    "sweep rule": (("sim", "sweep", "rps", "--rules", "inpo,onpoo", "--out", "sw"), "did you mean 'onpo'"),
    "sweep game": (("sim", "sweep", "rsp", "--out", "sw"), "did you mean 'rps'"),
    "sweep folder": (("sim", "sweep", "rps", "--out", "full"), "not a sweep's folder"),
    "sweep backend": (("sim", "sweep", "rps", "--backend", "spark", "--out", "sw"), "choose from"),
    "external missing": (("sim", "run", "rps", "--rule", "eo-mnpo"), "needs 1 external"),
    "pairs": (("sim", "run", "rps", "--samples", 5, "--pairs", "thrid"), "did you mean 'third'"),
    "pairs without samples": (("sim", "run", "rps", "--pairs", "iid"), "--samples"),
    "no such pair of test and objective": (("sim", "check", "dpo", "--test", "minority-10"), "two players"),
    "few steps": (("sim", "check", "inpo", "--test", "rps", "--steps", 3), "at least 100"),
    "nash-md has no best step": (("sim", "tune", "random", "--rule", "nash-md"), "off the equilibrium"),
    "nothing holds": (
        ("sim", "run", "rps", "--rule", "eo-mnpo", "-t", 0, "--external-tau", 0),
        "not all be 0",
    ),
    "too many externals": (
        ("sim", "run", "rps", "--rule", "inpo", "--external", "third.json"),
        "needs 0 external",
    ),
    "no jobs": (("sim", "sweep", "rps", "--jobs", 0, "--out", "sw"), "jobs must be"),
    "samples of a group": (("sim", "run", "minority", "-n", 3, "--samples", 5), "pairwise payoffs"),
    "negative tolerance": (("sim", "verify", "rps", "third.json", "--tol", -1), "--tol"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_line_and_status_2(mnpo, tmp_path, case):
    files = {
        "empty.csv": "", "ragged.csv": "0.5,0.6\n0.4\n", "wide.csv": "0.5,0.6\n", "nan.csv": "0.5,nan\n0.4,0.5\n",
        "outside.csv": "0.5,1.6\n-0.6,0.5\n", "sums.csv": "0.5,0.6\n0.5,0.5\n",
        "bad.soc": "# NUMBER ALTERNATIVES: 2\n1: 1,2\n1: 1,z\n", "bad.json": '{"oracle":\n,}',
        "zero.json": "[0.5, 0.5, 0.0]", "short.json": "[0.5, 0.5]", "sums.json": "[0.5, 0.4, 0.3]",
        "third.json": "[0.3, 0.3, 0.4]", "labels.csv": ",x,y\ny,0.5,0.7\nx,0.3,0.5\n",
        "twice.csv": "x,x\n0.5,0.7\n0.3,0.5\n", "huge.soi": "# NUMBER ALTERNATIVES: 1000000000\n1: 1\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "four.npy", np.full((2, 2, 2, 2), 0.5))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.json").write_text('{"kind": "compare"}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    arguments, words = BAD[case]
    status, out, err = mnpo(*arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("mnpo: ")
    assert err.count("\n") == 1
    assert words in err
    left = {path.name for path in tmp_path.iterdir()} - {"runs"}
    assert left == before
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())
    assert (tmp_path / "full" / "keep").read_text() == "mine"
