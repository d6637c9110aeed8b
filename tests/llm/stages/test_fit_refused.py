"""Bad input to `mnpo llm fit` is one line with exit status 2, and leaves nothing that looks like a result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fits import SMALL

from mnpo.llm.models import tiny

PAIR = {"prompt": "a b", "chosen": "yes", "rejected": "no"}
BAD: dict[str, tuple[list[str], str]] = {
    "unknown key": (["learnig_rate=1"], "unknown key 'learnig_rate'; did you mean 'learning_rate'?"),
    "unknown preset": (["--preset", "tinny"], "did you mean 'tiny'?"),
    "unknown objective": (["objective=dpoo"], "did you mean 'dpo'?"),
    "unknown parameter": (["objective={name: dpo, betta: 1}"], "did you mean 'beta'?"),
    "missing columns": (["dataset_name=DATA/no-rejected.jsonl"], "lacks the column rejected"),
    "objective's column": (["objective=rpo"], "needs the columns reward_chosen and reward_rejected"),
    "target's column": (["target=margin"], "needs the column margin"),
    "labels are not enough": (["rule.advantage=population"], "give target=win-rate"),
    "no weights": (["model_name_or_path=DATA/empty"], "holds no weights"),
    "no model": (["model_name_or_path=./nowhere"], "./nowhere: no such folder"),
    "no data": (["dataset_name=./nowhere.jsonl"], "no such file"),
    "another vocabulary": (["tokenizer_name_or_path=DATA/large"], "does not match the model"),
    "weights": (["rule={eta: 1, anchors: [{source: reference, weight: 0.3}, {source: own, weight: 0.3}]}"],
                "anchor weights must sum to 1; found 0.6"),
    "weights of players": (["rule.weights=[0.5,0.2]"], "sum to 1"),
    "no opponents": (["rule={name: ht-mnpo, eta: 1, tau: 0.1}"], "opponent_models"),
    "all malformed": (["dataset_name=DATA/malformed.jsonl"], "row 1: "),
    "no room": (["max_prompt_length=512"], "below max_length"),
    "a text for a number": (["learning_rate=fast"], "learning_rate must be a number; found 'fast'"),
    "hold-out": (["eval_size=5000"], "eval_size must leave pairs to train on"),
    "processes": (["--num-processes", "0"], "num-processes must be at least 1"),
    "accelerate": (["--accelerate", "zero5"], "unknown setting 'zero5'"),
    "lora": (["lora.target_modules=[nothing]"], "lora: "),
    "chosen by mnpo": (["remove_unused_columns=true"], "is set by mnpo"),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "no-rejected.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b"}) + "\n")
    (folder / "malformed.jsonl").write_text(json.dumps({**PAIR, "chosen": 3}) + "\nnot json\n")
    (folder / "empty").mkdir()
    large = tiny.tokenizer()
    large.add_tokens([f"<extra{i}>" for i in range(900)])
    large.save_pretrained(folder / "large")
    return folder


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line_and_leaves_no_result(
    case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, status 2, nothing left behind that looks like a result."""
    from mnpo.cli import main as cli

    arguments, message = BAD[case]
    given = [argument.replace("DATA", str(data)) for argument in arguments]
    preset = given.pop() if given[0] == "--preset" else "tiny"
    line = [
        "llm",
        "fit",
        preset,
        f"output_dir={tmp_path / 'run'}",
        *SMALL,
        *(g for g in given if g != "--preset"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mnpo", *line])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    last = [text for text in error.splitlines() if "mnpo: " in text and "mnpo: note: " not in text]
    assert len(last) == 1
    assert message in last[0]
    assert "Traceback" not in error
    assert not (tmp_path / "run/model").exists()
    assert not list((tmp_path / "run").glob(".*"))
