"""A stage says which one before it has left nothing, or something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from loops import SMALL, run_stage

from mnpo.llm.config import load


def test_stages_refuse_what_the_one_before_did_not_leave(untaught: Path, tmp_path: Path) -> None:
    config = load("tiny", [f"model_name_or_path={untaught}", f"output_dir={tmp_path}", *SMALL])
    with pytest.raises(ValueError, match="holds no samples; mnpo llm sample draws them"):
        run_stage("annotate", config)
    with pytest.raises(ValueError, match="lacks dataset_name, and output_dir holds no preferences"):
        run_stage(
            "fit",
            load("tiny", [f"model_name_or_path={untaught}", f"output_dir={tmp_path}", "dataset_name=null"]),
        )
    with pytest.raises(ValueError, match="at least 2 held-out prompts"):
        run_stage(
            "evaluate",
            load("tiny", [f"model_name_or_path={untaught}", f"output_dir={tmp_path}", "eval_prompts=1"]),
        )
    run_stage("sample", config)
    with pytest.raises(
        ValueError, match="are 4 responses to each prompt, num_generations is 5; sample again"
    ):
        run_stage(
            "annotate",
            load(
                "tiny",
                [f"model_name_or_path={untaught}", f"output_dir={tmp_path}", *SMALL, "num_generations=5"],
            ),
        )
    shutil.rmtree(tmp_path / "prompts-and-responses")
