"""Which models a run names, and how they are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import REQUIRED, RESERVED, Section, key

#: Names of policies besides past-1, .., opponent-1, .., external-1, ..
REFERENCE, CURRENT = "reference", "current"
DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True, kw_only=True)
class Models(Section):
    """The policies, and how models are loaded.

    A model is a folder (safetensors, GGUF or a PEFT adapter), a name on the Hub, or made on the spot:
    "tiny:gemma2", "tiny:llama", "tiny:gpt2" with random weights, "tiny:styles" that answers, "tiny:plain" in one
    style.
    """

    model_name_or_path: str = key(
        REQUIRED, "the policy that training starts from, π_t", scope="run", names_models=True
    )
    reference_model_name_or_path: str | None = key(
        None, "π_ref; the policy itself unless given", names_models=True
    )
    past_models: list[str] = key(
        [], "π_{t−1}, π_{t−2}, ..; whatever is older is the last of them", scope="iteration", names_models=True
    )  # fmt: skip
    opponent_models: list[str] = key(
        [], "the other players' policies (HT-MNPO)", scope="iteration", names_models=True
    )
    opponent_names: list[str] = key(
        [], "what they are called; opponent-1, .. unless given", scope="iteration"
    )
    external_models: list[str] = key(
        [], "policies from elsewhere, with tokenizers and templates of their own (EO-MNPO)", names_models=True
    )
    tokenizer_name_or_path: str | None = key(None, "the policy's own unless given", names_models=True)
    chat_template_path: str | None = key(None, "a Jinja file, instead of the tokenizer's template")
    special_tokens_in_text: str = key(
        "text",
        "what control tokens are that turns of conversations spell: text, or allow, the tokens themselves",
        choices=("text", "allow"),
        scope="run",
    )
    gguf_file: str | None = key(None, "which file, where a folder holds several weights in GGUF")
    dtype: str = key("float32", "of the weights; float32 with bf16=true is mixed precision", choices=DTYPES)
    attn_implementation: str | None = key(
        None, "transformers' name; eager for models whose attention has a soft-cap, unless given"
    )
    trust_remote_code: bool = key(False, "whether code that comes with a model may run")
    logprob_chunk: int | None = key(
        None, "response positions whose logits are in memory at once; from a memory budget unless given", least=1
    )  # fmt: skip
    share_prompts: bool | None = key(
        None,
        "whether a prompt is computed once for all its responses; where the model allows it unless given",
    )
    packing: bool = key(
        False, "whether a batch of pairs is one row without padding, for attention that keeps sequences apart"
    )

    @property
    def loading(self) -> dict[str, Any]:
        """What `mnpo.llm.models.loading.load_model` takes besides the folder."""
        return {
            "dtype": self.dtype,
            "attn_implementation": self.attn_implementation,
            "gguf_file": self.gguf_file,
            "trust_remote_code": self.trust_remote_code,
        }

    @property
    def reference(self) -> str:
        """π_ref."""
        return self.reference_model_name_or_path or self.model_name_or_path

    def policies(self) -> dict[str, str]:
        """Return all policies that are named: reference, current, past-1, .., opponent-1, .., external-1, .."""
        found = {REFERENCE: self.reference, CURRENT: self.model_name_or_path}
        for label, names in (
            ("past", self.past_models),
            ("opponent", self.opponent_models),
            ("external", self.external_models),
        ):
            found |= {f"{label}-{place}": name for place, name in enumerate(names, start=1)}
        return found

    def names_of_opponents(self) -> list[str]:
        """Return the other players' names.

        Raises:
            ValueError: names for some of them only, names that are in use, or one twice.
        """
        count = len(self.opponent_models)
        names = self.opponent_names or [f"opponent-{j + 1}" for j in range(count)]
        if len(names) != count:
            raise ValueError(f"opponent_names must name all {count} opponent_models; found {len(names)}")
        wrong = [
            name for name in names if name in RESERVED or name.startswith("past-") or names.count(name) > 1
        ]
        if wrong:
            raise ValueError(
                f"opponent_names must be different, none of {', '.join(RESERVED)} or past-..; found {wrong[0]!r}"
            )
        return names
