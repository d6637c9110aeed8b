"""Policies and tokenizers: how they are loaded."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from mnpo.common.digests import data_digest
from mnpo.common.given import read_text
from mnpo.llm.data import templates
from mnpo.llm.models.folders import (
    WEIGHTS,
    base_of,
    check_policy,
    check_settings,
    check_weights,
    find,
    fingerprint,
    gguf_file,
    is_adapter,
)
from mnpo.llm.models.reading import reading, reason
from mnpo.llm.models.weights import DTYPES, check_finite, configuration, in_gguf, load_whole, named

#: Files that make a tokenizer.
_TOKENIZERS = ("tokenizer*", "vocab*", "merges*", "spiece*", "*.model")

__all__ = [
    "DTYPES",
    "WEIGHTS",
    "base_of",
    "check_policy",
    "check_same_tokens",
    "check_vocabulary",
    "check_weights",
    "configuration",
    "find",
    "fingerprint",
    "gguf_file",
    "has_tokenizer",
    "is_adapter",
    "load_model",
    "load_tokenizer",
    "merged",
    "set_template",
    "vocabulary_fingerprint",
]


def load_tokenizer(folder: Path, *, gguf_file: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer with a padding token.

    Raises:
        ValueError: a folder without one.
    """
    check_settings(folder)
    with reading(f"no tokenizer in {folder}"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, **in_gguf(folder, gguf_file)
        )
        tokenizer("a")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
    templates.check(tokenizer, folder)
    return tokenizer


def set_template(tokenizer: Any, file: Path) -> None:
    """Give a tokenizer the chat template in a file.

    Raises:
        ValueError: a file that is no template.
    """
    tokenizer.chat_template = read_text(file, templates.LONGEST)
    templates.check(tokenizer, file)


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a tokenizer, however broken."""
    return any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS)


def load_model(
    folder: Path,
    *,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    gguf_file: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a causal language model, or an adapter merged into its base model; all its weights can be trained.

    Args:
        folder: of the model or the adapter.
        dtype: of the weights in memory, one of `DTYPES`.
        attn_implementation: see `mnpo.llm.models.weights.load_whole`.
        gguf_file: the file in `folder`, for weights in GGUF; they are dequantised.
        trust_remote_code: whether code in the folder may run.

    Raises:
        ValueError: a folder without weights or configuration, with weights that do not fit, or of another kind of
            model.
    """
    check_policy(folder)
    if is_adapter(folder):
        if is_deepspeed_zero3_enabled():
            raise ValueError(
                f"{folder} is an adapter, which cannot be merged where ZeRO-3 shares out its base model; name the "
                "merged model"
            )
        base = load_model(
            base_of(folder),
            dtype=dtype,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
        )
        return merged(base, folder)
    model = load_whole(
        AutoModelForCausalLM,
        folder,
        dtype=dtype,
        attn_implementation=attn_implementation,
        gguf_file=gguf_file,
        trust_remote_code=trust_remote_code,
    )
    if in_gguf(folder, gguf_file):
        _forget_quantisation(model)
    return model


def merged(base: PreTrainedModel, adapter: Path, *, fresh: bool = False) -> PreTrainedModel:
    """Return a model with an adapter merged into its weights; it is named as the adapter.

    Args:
        base: the model that it belongs to.
        adapter: its folder.
        fresh: whether it was trained just now, and may have changed nothing.

    Raises:
        ValueError: PEFT is not installed, or an adapter that does not fit: weights of its that are missing, or that
            the model has no place for.
    """
    check_weights(adapter)
    try:
        from peft import PeftModel
    except ImportError:
        raise ValueError(
            f"{adapter} is an adapter, which needs the extra: pip install 'mnpo[peft]'"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT warns of what is refused below
            adapted = PeftModel.from_pretrained(base, adapter, torch_device="cpu")
            # Loaded again for what it tells: PEFT takes an adapter of which it knows no tensor without a word.
            told = adapted.load_adapter(adapter, "default", torch_device="cpu")
    except KeyError as error:  # the name of a tensor of a layer that was trained as a whole
        if not str(error.args[0]).startswith("base_model."):
            raise ValueError(f"cannot load the adapter {adapter}: {reason(error)}") from error
        raise ValueError(f"adapter {adapter} lacks weights: {error.args[0]} missing") from error
    except Exception as error:  # whatever a reader of weights can do
        raise ValueError(f"cannot load the adapter {adapter}: {reason(error)}") from error
    if told.missing_keys:
        raise ValueError(f"adapter {adapter} lacks weights: {named(sorted(told.missing_keys))} missing")
    if told.unexpected_keys:
        raise ValueError(
            f"adapter {adapter} holds weights for which {type(base).__name__} has no place: "
            f"{named(sorted(told.unexpected_keys))}"
        )
    _check_change(adapted, adapter, fresh)
    with reading(f"cannot merge the adapter {adapter}"):
        found: PreTrainedModel = adapted.merge_and_unload()
    check_finite(found.named_parameters(), f"the base model with the adapter {adapter}")
    for weights in found.parameters():  # PEFT has frozen those of the base model
        weights.requires_grad_(weights.is_floating_point())
    # An adapter that is trained on this model belongs to this one, not to the base model.
    found.name_or_path = str(adapter)
    return found


def _check_change(adapted: Any, adapter: Path, fresh: bool) -> None:
    """Refuse an adapter that makes numbers of no use, or the very model that it belongs to.

    Raises:
        ValueError: names the adapter.
    """
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(adapted)
    check_finite(weights.items(), f"adapter {adapter}")
    # A layer adds A·B, one of which is 0 as long as it was not trained. What else there is may change something.
    layers: dict[str, list[bool]] = {}
    for name, one in weights.items():
        layers.setdefault(name.partition(".lora_")[0], []).append(bool(one.any()))
    plain = all(re.search(r"\.lora_(embedding_)?[AB]\b", name) for name in weights)
    if plain and not fresh and not any(map(all, layers.values())):
        raise ValueError(
            f"adapter {adapter} changes nothing: A or B of all its layers is 0, as before training; name its base "
            "model instead"
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path, **options: Any) -> None:
    """Refuse a tokenizer with ids for which a model has no embedding.

    Args:
        tokenizer: of a policy.
        folder: of the model; of an adapter nothing is checked.
        options: of `load_model`.

    Raises:
        ValueError: names the model, the largest id and the number of embeddings.
    """
    if is_adapter(folder):
        return
    config = configuration(
        folder,
        gguf_file=options.get("gguf_file"),
        trust_remote_code=bool(options.get("trust_remote_code")),
    )
    rows, largest = config.get_text_config().vocab_size, max(tokenizer.get_vocab().values(), default=-1)
    if largest < 0:
        raise ValueError(f"the tokenizer of {folder} has no tokens")
    if largest >= rows:
        raise ValueError(
            f"the tokenizer does not match the model {folder}: it has ids up to {largest}, the model has {rows} "
            "embeddings"
        )


def check_same_tokens(tokenizer: PreTrainedTokenizerBase, name: str, folder: Path, **options: Any) -> None:
    """Refuse a model that means other tokens by the same ids.

    Args:
        tokenizer: the policy's.
        name: what the model is called.
        folder: of the model; without a tokenizer of its own, such as an adapter, it has the policy's.
        options: of `load_tokenizer`.

    Raises:
        ValueError: names the model.
    """
    # In GGUF the tokenizer stands in the weights.
    whole = has_tokenizer(folder) or bool(in_gguf(folder, options.get("gguf_file")))
    other = load_tokenizer(folder, **options) if whole else None
    if other is not None and vocabulary_fingerprint(other) != vocabulary_fingerprint(tokenizer):
        raise ValueError(
            f"the tokenizer of the {name} model {folder} does not match the policy's; only a model of "
            "external_models may have its own"
        )
    check_vocabulary(tokenizer, folder, **options)


def vocabulary_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of the tokens and their ids: equal if two models read the same ids alike."""
    return data_digest(*sorted(tokenizer.get_vocab().items()))


def _forget_quantisation(model: PreTrainedModel) -> None:
    """Weights read from GGUF are ordinary ones; without this mark they can be trained and saved."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
