"""Before each stage a worker is as it was when it started."""

from __future__ import annotations

import json
import subprocess
import sys

#: Run in a process of its own, since a fresh one is what is compared with.
CODE = """
import json, os, random, torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import set_seed
from transformers.integrations.deepspeed import HfDeepSpeedConfig, is_deepspeed_zero3_enabled
from mnpo.llm.runtime.fresh import Beginning

def state():
    return {
        "environment": sorted(os.environ.items()),
        "seed": torch.initial_seed(),
        "drawn": torch.rand(3, device="cpu").tolist(),
        "threads": torch.get_num_threads(),
        "type": str(torch.ones(1).dtype),
        "device": str(torch.ones(1).device),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "linear": torch.nn.functional.linear.__name__,
        "zero3": is_deepspeed_zero3_enabled(),
        "shared": [bool(one._shared_state) for one in (AcceleratorState, GradientState, PartialState)],
    }

beginning = Beginning()
before = state()
Accelerator(cpu=True)
set_seed(7)
os.environ.update(ACCELERATE_MIXED_PRECISION="bf16", PATH="/nowhere")
del os.environ["HOME"]
torch.set_num_threads(3)
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)
torch.backends.cudnn.benchmark = True
linear = torch.nn.functional.linear
torch.nn.functional.linear = lambda *given: linear(*given)
kept = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
changed = {**state(), "drawn": None}
beginning.restore()
first = random.random()
set_seed(7)
beginning.restore()
print(json.dumps([before, changed, state(), first == random.random()]))
"""


def test_what_libraries_keep_is_put_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, changed, after, same = json.loads(done.stdout.splitlines()[-1])
    assert after == before
    assert {name for name in before if before[name] == changed[name]} == set()
    assert not same, "what is random in every process was not"
