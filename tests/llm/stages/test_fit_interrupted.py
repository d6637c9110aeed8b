"""`mnpo llm fit` interrupted, shared among processes, on a full disk and called again: the same bits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from fits import SMALL, fit, weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mnpo.llm.config import load
from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_tokenizer
from runs import command, entries, kill_when, mnpo


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("fit") / "run"
    fit(load("tiny", [f"output_dir={folder}", "per_device_eval_batch_size=2", *SMALL]))
    return folder


def test_a_fit_that_was_killed_ends_with_the_same_bits(finished: Path, tmp_path: Path) -> None:
    """SIGKILL while scoring, while fitting and while saving: the same bits, and nothing scored twice."""
    folder = tmp_path / "run"
    arguments = ["fit", "tiny", f"output_dir={folder}", "per_device_eval_batch_size=2", *SMALL]
    kill_when(arguments, lambda: any(f.stat().st_size > 3000 for f in folder.glob("scores/*/*.blocks")))
    some = len(entries(folder / "scores"))
    kill_when(arguments, lambda: (folder / "fit/checkpoint-2/complete.json").exists())
    kill_when(arguments, lambda: (folder / "fit/checkpoint-4/complete.json").exists())
    assert not (folder / "model").exists()
    (folder / "fit/checkpoint-4/complete.json").unlink()  # as if it were killed while saving
    (folder / "fit/checkpoint-4/optimizer.pt").write_bytes(b"half")
    record = fit(load("tiny", arguments[2:]))
    assert record.resumed in ("checkpoint-2", "checkpoint-6")
    assert weights(folder) == weights(finished)
    scores = entries(folder / "scores")
    assert 0 < some < len(scores)
    assert len(scores) == len(set(scores)) == len(entries(finished / "scores"))
    assert not list(folder.glob(".*"))


def test_a_finished_run_is_not_done_again(finished: Path) -> None:
    before = (finished / "model/model.safetensors").stat().st_mtime_ns
    again = load("tiny", [f"output_dir={finished}", "per_device_eval_batch_size=4", *SMALL])
    assert fit(again).resumed == "complete"
    assert (finished / "model/model.safetensors").stat().st_mtime_ns == before
    changed = load("tiny", [f"output_dir={finished}", *SMALL, "learning_rate=0.5"])
    with pytest.raises(ValueError, match=r"learning_rate: 0.001 there, 0.5 here"):
        fit(changed)


def test_what_is_logged_and_saved_is_whole(finished: Path) -> None:
    record = json.loads((finished / "results.json").read_text())
    entries = [entry for entry in record["log"] if "loss" in entry]
    assert len(entries) == 6
    wanted = {"loss", "margin", "accuracy", "logps/chosen", "logps/rejected", "kl", "length", "grad_norm",
              "learning_rate", "tokens_per_second", "peak_memory_gb"}  # fmt: skip
    assert all(wanted <= set(entry) for entry in entries)
    assert abs(entries[0]["kl"]) < 1e-4  # training starts at the reference
    assert abs(record["eval"]["kl"]) > 1e-4
    model = AutoModelForCausalLM.from_pretrained(finished / "model")
    checkpoint = AutoModelForCausalLM.from_pretrained(finished / "fit/checkpoint-6")
    assert type(model).__name__ == "Gemma2ForCausalLM"
    for a, b in zip(model.parameters(), checkpoint.parameters(), strict=True):
        assert torch.equal(a, b)
    assert load_tokenizer(finished / "model").chat_template == tiny.CHAT_TEMPLATE


@pytest.mark.parametrize("mode", ["ddp", pytest.param("zero2", marks=pytest.mark.slow), "zero3"])
def test_two_processes_are_one(mode: str, finished: Path, tmp_path: Path) -> None:
    """The same losses and weights to 1e-4 at the same global batch, and nothing compiled for it."""
    folder = tmp_path / mode
    compiled = tmp_path / "compiled"
    mnpo(
        "fit", "tiny", f"output_dir={folder}", *SMALL, "per_device_train_batch_size=2",
        "--num-processes", "2", "--accelerate", mode, TORCH_EXTENSIONS_DIR=str(compiled),
    )  # fmt: skip
    assert not compiled.exists()
    one, two = (json.loads((f / "results.json").read_text()) for f in (finished, folder))
    assert two["processes"] == 2
    assert two["distributed"] == ("MULTI_CPU" if mode == "ddp" else "DEEPSPEED")
    losses = [[entry["loss"] for entry in record["log"] if "loss" in entry] for record in (one, two)]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert two["eval"]["loss"] == pytest.approx(one["eval"]["loss"], rel=1e-4)
    expected, found = (load_file(f / "model/model.safetensors") for f in (finished, folder))
    start = load_file(finished / "tiny-gemma2/model.safetensors")
    for name, tensor in expected.items():
        assert (found[name] - tensor).abs().max() < 1e-4
        assert (start[name] - tensor).abs().max() > 1e-4 or "layernorm" not in name
    AutoModelForCausalLM.from_pretrained(folder / "model")


def test_a_full_disk_is_one_line_and_the_fit_goes_on_when_there_is_room(
    finished: Path, tmp_path: Path
) -> None:
    """Where files cannot grow, the run stops with one line; with room again it goes on to the same bits."""
    folder = tmp_path / "run"
    arguments = command("fit", "tiny", f"output_dir={folder}", "per_device_eval_batch_size=2", *SMALL)
    limited = (
        f"ulimit -f 6000; exec {' '.join(repr(a) for a in arguments)}"  # 6 MB: the model, not its optimizer
    )
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr[-2000:]
    assert [line for line in done.stderr.splitlines() if "mnpo: " in line] == [done.stderr.splitlines()[-1]]
    assert "cannot write the checkpoint" in done.stderr
    assert not (folder / "model").exists()
    assert not list(folder.glob("fit/checkpoint-*"))
    assert len(entries(folder / "scores")) == len(entries(finished / "scores"))
    fit(load("tiny", arguments[arguments.index("tiny") + 1 :]))
    assert weights(folder) == weights(finished)


def test_commands_print_what_is_there(finished: Path, tmp_path: Path) -> None:
    """What is printed: presets, a configuration that reads back, scores that are known, a finished fit."""
    from typer.testing import CliRunner

    from mnpo.cli.llm import app

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "tiny" in [row["name"] for row in json.loads(run("presets", "--json"))]
    assert "Gemma" in run("presets")
    file = tmp_path / "shown.yaml"
    file.write_text(run("show-config", "tiny", "rule.eta=3", "output_dir=here"))
    assert load(str(file)) == load("tiny", ["rule.eta=3", "output_dir=here"])
    given = ["tiny", f"output_dir={finished}", *SMALL]
    record = json.loads(run("score", *given, "--json"))
    assert [row["scored"] for row in record["anchors"]] == [0, 0]
    table = run("score", *given)
    assert "90 rows read" in table
    assert "reference" in table
    assert "nothing was done again" in run("fit", *given)
