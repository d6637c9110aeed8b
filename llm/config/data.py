"""Which preference pairs and prompts a run reads."""

from __future__ import annotations

from dataclasses import dataclass

from mnpo.llm.config.keys import Section, key

#: Tokens of a text at most: more than any model reads.
LONGEST = 2**24


@dataclass(frozen=True, kw_only=True)
class Data(Section):
    """Preference pairs, and how long prompts and responses may be.

    Data are a file (JSONL, JSON, Parquet, also .gz), a folder of them or of a saved data set, a name on the Hub,
    or "tiny:pairs:<count>".
    """

    dataset_name: str | None = key(
        None, "preference pairs; those that annotate made in output_dir unless given", scope="run", names_data=True
    )  # fmt: skip
    dataset_config_name: str | None = key(None, "its configuration, on the Hub")
    dataset_split: str | None = key(None, "its split; train unless given")
    columns: dict[str, str] = key({}, "our column: the data set's, where names differ")
    max_samples: int | None = key(None, "read at most so many rows", least=1)
    eval_size: float = key(0, "held-out pairs: a number, or a fraction below 1", least=0, share=True)
    eval_dataset_name: str | None = key(None, "held-out pairs from elsewhere", names_data=True)
    eval_split: str | None = key(None, "its split")
    max_length: int = key(2048, "tokens of prompt and response", least=2, most=LONGEST)
    max_prompt_length: int = key(1800, "tokens of a prompt", scope="run", least=1, most=LONGEST)
    overlong: str = key(
        "truncate", "what happens to longer ones: truncate (prompts on the left, responses on the right) or drop",
        choices=("truncate", "drop"),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Prompts(Section):
    """Prompts to sample responses for, and the held-out ones of evaluations.

    Prompts are read from all that pairs are read from, from a text file with a prompt a line, or from
    "tiny:prompts:<count>".
    """

    prompt_dataset_name: str | None = key(
        None, "prompts; those of dataset_name unless given", scope="run", names_data=True
    )
    prompt_dataset_config_name: str | None = key(None, "its configuration, on the Hub", scope="run")
    prompt_dataset_split: str | None = key(None, "its split; train unless given", scope="run")
    max_prompts: int | None = key(None, "read at most so many", scope="run", least=1)
    prompt_part: list[int] | None = key(
        None, "[t, T]: only the t-th of T parts of the prompts", scope="iteration"
    )
    eval_prompts: float = key(
        0.1, "held-out prompts: a number, or a fraction below 1", scope="run", least=0, share=True
    )
    eval_prompt_dataset_name: str | None = key(
        None, "held-out prompts from elsewhere", scope="run", names_data=True
    )
    eval_prompt_dataset_split: str | None = key(None, "its split", scope="run")

    def __post_init__(self) -> None:
        super().__post_init__()
        part = self.prompt_part
        if part is not None and not (
            len(part) == 2 and all(type(n) is int for n in part) and 1 <= part[0] <= part[1]
        ):
            raise ValueError(f"prompt_part must be [t, T] with 1 <= t <= T; found {part}")
