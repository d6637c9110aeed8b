"""Policies and tokenizers: how they are loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from mnpo.common.digests import data_digest
from mnpo.llm.data.formats import first_line
from mnpo.llm.models.folders import (
    WEIGHTS,
    base_of,
    check_policy,
    check_weights,
    find,
    fingerprint,
    gguf_file,
    is_adapter,
)
from mnpo.llm.models.weights import DTYPES, configuration, in_gguf, load_whole, named, reason

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
    "is_adapter",
    "load_model",
    "load_tokenizer",
    "merged",
    "vocabulary_fingerprint",
]


def load_tokenizer(folder: Path, *, gguf_file: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer with a padding token.

    Raises:
        ValueError: a folder without one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, **in_gguf(folder, gguf_file)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no tokenizer in {folder}: {first_line(error)}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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


def merged(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Return a model with an adapter merged into its weights; it is named as the adapter.

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
    try:
        found: PreTrainedModel = adapted.merge_and_unload()
    except (AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot merge the adapter {adapter}: {reason(error)}") from error
    for weights in found.parameters():  # PEFT has frozen those of the base model
        weights.requires_grad_(weights.is_floating_point())
    # An adapter that is trained on this model belongs to this one, not to the base model.
    found.name_or_path = str(adapter)
    return found


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
    rows, largest = config.get_text_config().vocab_size, max(tokenizer.get_vocab().values())
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
    try:
        other = load_tokenizer(folder, **options)
    except ValueError:
        other = None
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
