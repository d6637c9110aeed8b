"""What a stage works with: folders, models, processes; and what a model's numbers depend on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from mnpo.common.given import user_path
from mnpo.common.progress import Progress
from mnpo.llm.config import Compute, Folders, Models
from mnpo.llm.data.kept import Encodings
from mnpo.llm.data.literal import ALLOWED
from mnpo.llm.data.made import PREFIX
from mnpo.llm.models import tiny
from mnpo.llm.models.folders import check_policy, find, fingerprint, gguf_file
from mnpo.llm.models.loading import check_same_tokens, check_vocabulary, load_tokenizer, set_template
from mnpo.llm.runtime.processes import Group, join
from mnpo.llm.runtime.progress import part_of


@dataclass(frozen=True)
class Job:
    """A stage at work.

    Attributes:
        folders: where it writes.
        model: which models there are, and how they are loaded.
        compute: how it computes.
        processes: who works together.
        progress: called as the work goes on.
    """

    folders: Folders
    model: Models
    compute: Compute
    processes: Group
    progress: Progress | None = None

    @classmethod
    def start(
        cls, folders: Folders, model: Models, compute: Compute, progress: Progress | None = None
    ) -> Self:
        """Join the processes that work together."""
        return cls(folders, model, compute, join(compute.use_cpu), progress)

    @property
    def home(self) -> Path:
        """The output folder."""
        return self.folders.home

    @property
    def encodings(self) -> Encodings:
        """Where pairs and prompts are kept as token ids."""
        return Encodings(self.folders.store("encoded"), self.processes)

    def find(self, name: str) -> Path:
        """Return the folder of a model; small ones and downloads are made by the first process.

        Raises:
            ValueError: no such model, no weights, or a model that writes no text.
        """
        made = name.startswith(PREFIX)
        folder = None
        if self.processes.first:
            folder = tiny.build(name, self.home, self.progress) if made else find(name)
            check_policy(folder)
        self.processes.wait()
        if folder is None:
            folder = tiny.build(name, self.home) if made else find(name)
        return folder

    def policy(self) -> Path:
        """Return the folder of the policy that training starts from."""
        return self.find(self.model.model_name_or_path)

    def tokenizer(self) -> Any:
        """Return the policy's tokenizer.

        Raises:
            ValueError: there is none, it does not fit the model, or a chat template that cannot be read.
        """
        model, policy = self.model, self.policy()
        home = policy if model.tokenizer_name_or_path is None else find(model.tokenizer_name_or_path)
        options: dict[str, Any] = {
            "gguf_file": model.gguf_file,
            "trust_remote_code": model.trust_remote_code,
        }
        tokenizer = load_tokenizer(home, **options)
        check_vocabulary(tokenizer, policy, **options)
        setattr(tokenizer, ALLOWED, model.special_tokens_in_text == "allow")
        if model.chat_template_path is not None:
            set_template(tokenizer, user_path(model.chat_template_path))
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"the tokenizer in {home} has no end-of-sequence token (eos_token): no response would end"
            )
        return tokenizer

    def check_tokens(self, tokenizer: Any, name: str, folder: Path) -> None:
        """Refuse a model that means other tokens by the policy's ids.

        Raises:
            ValueError: names the model.
        """
        if folder != self.policy():
            options: dict[str, Any] = {"trust_remote_code": self.model.trust_remote_code}
            check_same_tokens(tokenizer, name, folder, gguf_file=self.model.gguf_file, **options)

    def autocast(self) -> torch.dtype | None:
        """Return the precision that transformers' Trainer computes in, where it is not that of the weights."""
        named = self.compute.precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(named)

    def computed_by(self, folder: Path) -> dict[str, Any]:
        """Say what a model's numbers depend on besides what it is given."""
        return {
            "model": fingerprint(folder),
            "dtype": self.model.dtype,
            "autocast": str(self.autocast()),
            "attention": self.model.attn_implementation,
            "file": gguf_file(folder, self.model.gguf_file),
        }

    def part(self, what: str) -> Callable[[int, int], None] | None:
        """Return the progress of one thing that is being done."""
        return part_of(self.progress, what)
