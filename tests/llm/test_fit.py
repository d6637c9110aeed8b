"""`mnpo llm score` and `fit` as a user runs them: interrupted, shared among processes, and given bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_from_disk
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mnpo.llm import tiny
from mnpo.llm.anchors import anchor_models, anchor_weights
from mnpo.llm.config import Config, load, presets, to_yaml
from mnpo.llm.fit import fit
from mnpo.llm.models import fingerprint, load_model, load_tokenizer
from mnpo.llm.score import score_pairs
from mnpo.llm.scores import digest
from runs import command, entries, kill_when, mnpo

#: A run of a few seconds.
SMALL = (
    "max_samples=90", "eval_size=20", "max_steps=6", "save_steps=2", "logging_steps=1", "save_total_limit=null",
    "per_device_train_batch_size=4", "num_train_epochs=2", "model_name_or_path=tiny:gemma2", "learning_rate=1e-3",
    "target=label", "rule={name: td-mnpo, eta: 8, tau: 0.02, players: 3}",
)  # fmt: skip


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("fit") / "run"
    fit(load("tiny", [f"output_dir={folder}", "per_device_eval_batch_size=2", *SMALL]))
    return folder


def test_killed_and_continued(finished: Path, tmp_path: Path) -> None:
    """SIGKILL while scoring, while fitting and while saving: the same bits, and nothing scored twice."""
    folder = tmp_path / "run"
    arguments = ["fit", "tiny", f"output_dir={folder}", "per_device_eval_batch_size=2", *SMALL]
    kill_when(arguments, lambda: any(f.stat().st_size > 3000 for f in folder.glob("scores/*/*.arrows")))
    some = len(entries(folder / "scores"))
    kill_when(arguments, lambda: (folder / "fit/checkpoint-2/complete.json").exists())
    kill_when(arguments, lambda: (folder / "fit/checkpoint-4/complete.json").exists())
    assert not (folder / "model").exists()
    (folder / "fit/checkpoint-4/complete.json").unlink()  # as if it were killed while saving
    (folder / "fit/checkpoint-4/optimizer.pt").write_bytes(b"half")
    record = fit(load("tiny", arguments[2:]))
    assert record["resumed"] in ("checkpoint-2", "checkpoint-6")
    assert weights(folder) == weights(finished)
    scores = entries(folder / "scores")
    assert 0 < some < len(scores)
    assert len(scores) == len(set(scores)) == len(entries(finished / "scores"))
    assert not list(folder.glob(".*"))


def test_a_finished_run_is_not_done_again(finished: Path) -> None:
    before = (finished / "model/model.safetensors").stat().st_mtime_ns
    again = load("tiny", [f"output_dir={finished}", "per_device_eval_batch_size=4", *SMALL])
    assert fit(again)["resumed"] == "complete"
    assert (finished / "model/model.safetensors").stat().st_mtime_ns == before
    changed = load("tiny", [f"output_dir={finished}", *SMALL, "learning_rate=0.5"])
    with pytest.raises(ValueError, match=r"learning_rate: 0.001 there, 0.5 here"):
        fit(changed)


def test_what_is_logged_and_saved(finished: Path) -> None:
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


def small(tmp_path: Path, *overrides: str, data: list[dict[str, Any]] | None = None) -> Config:
    extra = []
    if data is not None:
        file = tmp_path / "pairs.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in data))
        extra = [f"dataset_name={file}"]
    return load("tiny", [f"output_dir={tmp_path / 'run'}", *SMALL, *extra, *overrides])


def test_lora(tmp_path: Path) -> None:
    """An adapter is trained; what is saved as the model is whole and answers as base and adapter do."""
    record = fit(small(tmp_path, "lora.r=4", "lora.target_modules=[q_proj,v_proj]", "learning_rate=0.01"))
    from peft import PeftModel

    merged = load_model(Path(record["model"]))
    base = load_model(tmp_path / "run/tiny-gemma2")
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        before = base(input_ids=ids).logits
        expected = PeftModel.from_pretrained(base, tmp_path / "run/adapter")(input_ids=ids).logits
        found = merged(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - before).abs().max() > 1e-3


def test_anchors_and_weights(tmp_path: Path) -> None:
    """Three-opponent TD-MNPO scores reference, current and two past policies, and weights them as the rule says."""
    folders = [tiny.build(f"tiny:gemma2:{seed}", tmp_path) for seed in (1, 2, 3)]
    config = small(
        tmp_path,
        f"reference_model_name_or_path={folders[0]}",
        f"past_models=[{folders[1]},{folders[2]}]",
        "rule.players=4", "rule.eta=2", "rule.tau=0.1", "rule.weights=[0.5,0.3,0.2]",
    )  # fmt: skip
    rule = config.the_rule()
    assert rule is not None
    assert anchor_weights(rule, config) == pytest.approx(
        {"reference": 0.2, "current": 0.4, "past-1": 0.24, "past-2": 0.16}
    )
    assert list(anchor_models(config)) == ["reference", "current", "past-1", "past-2"]
    record = score_pairs(config)
    assert [row["anchor"] for row in record["anchors"]] == ["reference", "current", "past-1", "past-2"]
    assert len({row["mean_chosen"] for row in record["anchors"]}) == 4
    assert all(row["reused"] == 0 for row in record["anchors"])
    again = score_pairs(config)
    assert all(row["scored"] == 0 for row in again["anchors"])
    # what is older than the past policies given is the last of them; without any it is the policy itself
    short = small(tmp_path, "rule.players=4", f"past_models=[{folders[1]}]")
    assert set(anchor_weights(short.the_rule(), short)) == {"reference", "current", "past-1"}
    alone = small(tmp_path, "rule.players=4")
    assert set(anchor_weights(alone.the_rule(), alone)) == {"reference", "current"}


def test_the_other_forms_of_mnpo(tmp_path: Path) -> None:
    """HT-MNPO is anchored on the other players, EO-MNPO on models with tokenizers of their own."""
    other, third = (tiny.build(f"tiny:gemma2:{seed}", tmp_path) for seed in (1, 2))
    ht = small(tmp_path, "rule={name: ht-mnpo, eta: 2, tau: 0.1}", f"opponent_models=[{other},{third}]")
    rule = ht.the_rule()
    assert rule is not None
    assert anchor_weights(rule, ht) == pytest.approx({"reference": 0.2, "opponent-1": 0.4, "opponent-2": 0.4})
    foreign = tiny.build("tiny:llama", tmp_path)
    tokenizer = json.loads((foreign / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    names = [name for name, place in vocabulary.items() if place >= 300]
    assert len(names) > 50
    for name, other_name in zip(names[::2], names[1::2], strict=False):  # the same tokens under other ids
        vocabulary[name], vocabulary[other_name] = vocabulary[other_name], vocabulary[name]
    (foreign / "tokenizer.json").write_text(json.dumps(tokenizer))
    eo = small(
        tmp_path,
        "rule={name: eo-mnpo, eta: 2, tau: 0.1, external_tau: [0.2]}",
        f"external_models=[{foreign}]",
    )
    record = fit(eo)
    assert [row["anchor"] for row in record["anchors"]] == ["reference", "external-1", "current"]
    data = load_from_disk(str(tmp_path / "run/scored"))["train"]
    row = data[0]
    encode = load_tokenizer(foreign)
    prompt = encode.apply_chat_template(json.loads(row["prompt"]), tokenize=False, add_generation_prompt=True)
    text = f"{prompt}{row['chosen']}<end_of_turn>"
    ids = encode(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    start = len(encode(prompt, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logps = load_model(foreign)(input_ids=ids).logits.log_softmax(-1)[0]
    expected = sum(float(logps[t - 1, ids[0, t]]) for t in range(start, ids.shape[1]))
    assert row["external-1_chosen"] == pytest.approx(expected, abs=1e-3)
    error = mnpo_error(tmp_path, f"reference_model_name_or_path={foreign}")
    assert "does not match the policy's" in error
    assert "external_models" in error


def mnpo_error(tmp_path: Path, *overrides: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the caller looks at the message
        fit(small(tmp_path, *overrides, f"output_dir={tmp_path / 'refused'}"))
    return str(caught.value)


def test_scores_belong_to_content(tmp_path: Path) -> None:
    """A changed model, a damaged file and a foreign store are computed again; moved files are not."""
    folder = tiny.build("tiny:gpt2", tmp_path)
    config = small(tmp_path, f"model_name_or_path={folder}", "max_samples=30", "eval_size=5")
    first = score_pairs(config)["anchors"][0]
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    assert fingerprint(copied) == fingerprint(folder)
    moved = score_pairs(small(tmp_path, f"model_name_or_path={copied}", "max_samples=30", "eval_size=5"))
    assert moved["anchors"][0]["scored"] == 0
    (file,) = (tmp_path / "run/scores").glob("*/*.arrows")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # a bit flips
    file.write_bytes(bytes(content))
    damaged = score_pairs(config)["anchors"][0]
    assert 0 < damaged["scored"] <= first["scored"]
    assert damaged["mean_chosen"] == pytest.approx(first["mean_chosen"], rel=1e-6)
    other = tiny.build("tiny:gpt2:9", tmp_path)
    strange = small(tmp_path, f"model_name_or_path={other}", "max_samples=30", "eval_size=5")
    found = score_pairs(strange)["anchors"][0]
    assert found["scored"] == first["scored"]
    stores = sorted((tmp_path / "run/scores").iterdir())
    mine = next(s for s in stores if s != file.parent)
    for kept in mine.glob("*.arrows"):
        kept.unlink()
    shutil.copy(file, mine)  # scores of another model under this one's name
    assert score_pairs(strange)["anchors"][0]["scored"] == first["scored"]
    assert digest([1, 2], [3]) != digest([1], [2, 3])


@pytest.mark.parametrize("objective", ["sppo", "kto", "simpo", "rpo", "gshf", "mnpo-bwd"])
def test_objectives_train(objective: str, tmp_path: Path) -> None:
    """Objectives that need further columns find them, and the loss on the training pairs falls."""
    rows = [{**row, "reward_chosen": 1.0, "reward_rejected": 0.0, "margin": 0.5} for row in tiny.pairs(60)]
    config = small(
        tmp_path, f"objective={objective}", "max_steps=24", "learning_rate=0.0003", "lr_scheduler_type=constant",
        "warmup_steps=0", "eval_size=0", "max_samples=16", "per_device_train_batch_size=16", data=rows,
    )  # fmt: skip
    losses = [entry["loss"] for entry in fit(config)["log"] if "loss" in entry]
    assert losses[-1] < losses[0]


def test_kto_estimate(tmp_path: Path) -> None:
    """KTO's z is 0 at the reference, so that its first loss is λ_w/2 + λ_l/2."""
    record = fit(small(tmp_path, "objective=kto", "max_steps=1", "eval_size=0"))
    assert record["log"][0]["loss"] == pytest.approx(1.0, abs=1e-4)


def test_targets(tmp_path: Path) -> None:
    """Win rates, rewards and margins give η times their gap; labels give η/2."""
    from mnpo.llm.columns import fit_columns

    rows = [{**row, "reward_chosen": 1.0, "reward_rejected": -0.5, "margin": 0.25} for row in tiny.pairs(20)]
    expected = {"label": 1.0, "reward": 3.0, "margin": 0.5}
    for target in ("label", "win-rate", "reward", "margin"):
        config = small(tmp_path, f"target={target}", "rule.eta=2", "eval_size=0", data=rows)
        score_pairs(config)
        data = load_from_disk(str(tmp_path / "run/scored"))["train"]
        fields = fit_columns(config, data)
        wanted = expected.get(target)
        gap = [2.0 * (win - loss) for win, loss in zip(data["win_chosen"], data["win_rejected"], strict=True)]
        assert fields["target"].tolist() == pytest.approx(gap if wanted is None else [wanted] * len(data))
        assert ("preference" in fields) == (target == "label")


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
def test_bad_input(case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    last = [text for text in error.splitlines() if "mnpo: " in text]
    assert len(last) == 1
    assert message in last[0]
    assert "Traceback" not in error
    assert not (tmp_path / "run/model").exists()
    assert not list((tmp_path / "run").glob(".*"))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """It names the step and the rows, in one process and in two; the checkpoint before it stays."""
    rows = [
        {**row, "margin": 1e200 if place == 7 else 1.0} for place, row in enumerate(tiny.pairs(24), start=1)
    ]
    rows = [row for row in rows if row["chosen"] != row["rejected"]]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = next(i for i, row in enumerate(rows, start=1) if row["margin"] > 1e100)
    given = [
        *SMALL, "target=margin", f"dataset_name={file}", "eval_size=0", "per_device_train_batch_size=2",
        "save_steps=1", "max_steps=20",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=rf"not finite at step \d+, in row {place} of the data"):
        fit(load("tiny", [f"output_dir={tmp_path / 'one'}", *given]))
    error = mnpo("fit", "tiny", f"output_dir={tmp_path / 'two'}", *given, "--num-processes", "2", expect=2)
    lines = [line for line in error.splitlines() if line.startswith("mnpo: ")]
    assert len(lines) == 1
    assert f"in row {place} of the data" in lines[0]
    assert not list(tmp_path.glob("*/model"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient can be infinite where the loss is finite; the checkpoint before it stays the last."""
    from mnpo.llm import trainer

    def broken(*arguments: Any) -> torch.Tensor:
        losses = trainer_losses(*arguments)
        return losses + (losses - losses.detach()).abs().sqrt()  # 0, with an infinite slope

    trainer_losses = trainer.pair_losses
    config = small(tmp_path, "max_grad_norm=0", "save_steps=1")
    monkeypatch.setattr(trainer, "pair_losses", broken)
    with pytest.raises(ValueError, match="the weights are not finite after step 1"):
        fit(config)
    assert not list((tmp_path / "run/fit").glob("checkpoint-*"))


def test_numbers_keep_their_precision(tmp_path: Path) -> None:
    """DeepSpeed's Trainer rounds what it is given to the weights' precision; log-probabilities are spared."""
    from transformers import TrainingArguments

    from mnpo.llm.trainer import Collator, PairTrainer
    from mnpo.objectives import objective

    trainer = PairTrainer(
        objective=objective("dpo"), parameters={}, model=load_model(tiny.build("tiny:gpt2", tmp_path)),
        args=TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True), data_collator=Collator(0, ("anchor",)),
    )  # fmt: skip
    trainer.is_deepspeed_enabled = True
    number = torch.tensor([-300.123456789], dtype=torch.float64)
    prepared = trainer._prepare_inputs({"anchor": number})["anchor"]
    assert prepared.dtype == torch.float64
    assert torch.equal(prepared, number)


def test_held_out_pairs_must_have_the_columns(tmp_path: Path) -> None:
    bare = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in tiny.pairs(30)]
    file = tmp_path / "held-out.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in bare))
    with pytest.raises(ValueError, match="preference must be in both"):
        score_pairs(small(tmp_path, f"eval_dataset_name={file}"))
    with pytest.raises(ValueError, match="needs the columns win_chosen and win_rejected"):
        score_pairs(small(tmp_path, f"eval_dataset_name={file}", "target=win-rate"))
    file.write_text("".join(json.dumps({**row, "weight": 2.0}) + "\n" for row in tiny.pairs(30)))
    with pytest.raises(ValueError, match="weight must be in both"):
        score_pairs(small(tmp_path, f"eval_dataset_name={file}"))


def test_full_disk(finished: Path, tmp_path: Path) -> None:
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


def test_configurations(tmp_path: Path) -> None:
    """Every preset reads back from its own YAML; a file may start from a preset; overrides go deep."""
    for name in presets():
        config = load(name)
        file = tmp_path / f"{name}.yaml"
        file.write_text(to_yaml(config))
        assert load(str(file)) == config
    file = tmp_path / "mine.yaml"
    file.write_text("preset: tiny\nlearning_rate: 5e-7\nobjective: {name: dpo, beta: 0.5}\n")
    config = load(str(file), ["objective.beta=0.25", "max_steps=3"])
    assert config.training["learning_rate"] == 5e-7
    assert config.the_objective()[1] == {"beta": 0.25}
    assert config.the_rule() is None
    published = load("gemma-2-9b-it").the_rule()
    assert published is not None
    assert published.tau == pytest.approx(0.0025)
    assert published.reference_weight == pytest.approx(1 / 3)


def test_from_the_command_line(finished: Path, tmp_path: Path) -> None:
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
