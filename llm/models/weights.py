"""Models whose weights are all their own: nothing is left as it was drawn, and nothing in a folder is left over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled

from mnpo.choices import choose
from mnpo.llm.models import folders
from mnpo.llm.models.reading import reading

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}

#: Weights in one byte of a file, where they are packed as closely as they can be, those that a head may add, and
#: layers that are made at once.
_PACKED, _HEADS, _FEW = 8, 2**24, 256
#: Tensors that a folder may hold though the model has no place for them, since what it computes does not depend on
#: them: tables that older versions saved (rotary frequencies, causal masks), the value head of a policy trained by
#: PPO, layers that predict further tokens, and what a model of images and texts has besides its language model.
_HARMLESS = re.compile(
    r"rotary_emb\.inv_freq$|(attn|attention)\.(masked_)?bias$|(^|\.)position_ids$|^v_head\.|(^|\.)mtp\."
    r"|(^|\.)(vision_tower|vision_model|visual|audio_tower|multi_modal_projector|mm_projector)\."
)


def configuration(folder: Path, *, gguf_file: str | None = None, trust_remote_code: bool = False) -> Any:
    """Read a model's configuration and nothing else.

    Args:
        folder: of the model.
        gguf_file: the file in the folder, for weights in GGUF; unless given, the only weights there are.
        trust_remote_code: whether code in the folder may run.

    Raises:
        ValueError: a folder without one, or of an unknown kind of model.
    """
    gguf = in_gguf(folder, gguf_file)
    folders.check_settings(folder)
    with reading(f"no configuration of a model in {folder}"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **gguf)


def load_whole(
    network: Any,
    folder: Path,
    *,
    dtype: str,
    attn_implementation: str | None = None,
    gguf_file: str | None = None,
    trust_remote_code: bool = False,
    head: str | None = None,
    spare: tuple[str, ...] = (),
    **options: Any,
) -> PreTrainedModel:
    """Load a model all of whose weights the folder holds, and which takes all that the folder holds.

    Args:
        network: a class with `from_pretrained`.
        folder: of the model.
        dtype: of the weights in memory, one of `DTYPES`.
        attn_implementation: transformers' name; unless given, "eager" for models with a soft-cap on the attention,
            which other implementations leave out, and transformers' choice for all others.
        gguf_file: the file in the folder, for weights in GGUF; they are dequantised.
        trust_remote_code: whether code in the folder may run.
        head: what the parts outside the model's body are called where all that lacks is in them.
        spare: beginnings of names of tensors that the folder may hold though this network does not use them.
        options: further ones of `from_pretrained`.

    Raises:
        ValueError: no weights, or weights that are missing, of other shapes, not finite, or that no part of the
            model takes.
    """
    folders.check_weights(folder)
    precision = choose(dtype, DTYPES, "dtype")
    config = configuration(folder, gguf_file=gguf_file, trust_remote_code=trust_remote_code)
    if not in_gguf(folder, gguf_file):
        _check_sizes(network, config, folder, trust_remote_code)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    if attn_implementation is None and capped:
        attn_implementation = "eager"
    with reading(f"cannot load the model {folder}"):
        model, found = network.from_pretrained(
            folder,
            dtype=precision,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to say which, below
            **in_gguf(folder, gguf_file),
            **options,
        )
    _check(model, found, folder, head, spare)
    check_finite(model.named_parameters(), f"model {folder}")
    return model


def check_finite(weights: Iterable[tuple[str, Any]], what: str) -> None:
    """Refuse weights that are no numbers.

    Args:
        weights: by name.
        what: whose they are, which begins the line.

    Raises:
        ValueError: names them.
    """
    broken = [name for name, one in weights if not bool(torch.isfinite(one).all())]
    if broken:
        raise ValueError(f"{what} has weights that are not finite: {named(sorted(broken))}")


def _check_sizes(network: Any, config: Any, folder: Path, trust_remote_code: bool) -> None:
    """Refuse a configuration that asks for far more weights than the files can hold: all of them would be made.

    Raises:
        ValueError: says how many.
    """
    tensors, size = folders.weights_on_disk(folder)
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > max(tensors, _FEW):
        raise ValueError(
            f"model {folder}: config.json says {layers} layers (num_hidden_layers); the weights are {tensors} "
            "tensors"
        )
    if trust_remote_code and getattr(config, "auto_map", None):
        return  # what its code makes is not known before it runs
    if is_deepspeed_zero3_enabled():
        return  # whatever is built is shared out among the processes
    with reading(f"cannot build the model {folder} as its config.json says"), torch.device("meta"):
        empty = network.from_config(config) if hasattr(network, "from_config") else network(config)
    wanted = sum(weights.numel() for weights in empty.parameters())
    if wanted > _PACKED * size + _HEADS:
        raise ValueError(
            f"model {folder}: config.json asks for {wanted} weights, the files hold {size} bytes: its sizes "
            "(hidden_size, vocab_size, ..) are not those of the weights"
        )


def _check(
    model: PreTrainedModel, found: dict[str, Any], folder: Path, head: str | None, spare: tuple[str, ...]
) -> None:
    # Buffers are computed where a folder lacks them; tied weights transformers does not count as missing.
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    body = f"{model.base_model_prefix}."
    missing = sorted(parameters & set(found["missing_keys"]), key=lambda name: (name.startswith(body), name))
    if missing:
        whole = head is not None and not missing[0].startswith(body)
        raise ValueError(
            f"model {folder} {f'has no {head}' if whole else 'lacks weights'}: {named(missing)} missing"
        )
    misshapen = sorted(
        f"{name} is {tuple(has)}, not {tuple(wanted)}" for name, has, wanted in found["mismatched_keys"]
    )
    if misshapen:
        raise ValueError(f"model {folder} has weights of other shapes: {named(misshapen)}")
    strange = sorted(
        name for name in found["unexpected_keys"] if not name.startswith(spare) and not _HARMLESS.search(name)
    )
    if strange:
        raise ValueError(
            f"model {folder} holds weights for which {type(model).__name__} has no place: {named(strange)}"
        )


def check_positions(config: Any, tokens: int, what: str) -> None:
    """Refuse texts for which a model has no positions.

    Args:
        config: of the model.
        tokens: of the longest text.
        what: how the line begins: the model.

    Raises:
        ValueError: says how many there are of both.
    """
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(most, int) and 0 < most < tokens:
        raise ValueError(
            f"{what} has {most} positions, and texts have up to {tokens} tokens; give max_length={most} or less"
        )


def in_gguf(folder: Path, asked: str | None) -> dict[str, str]:
    """Return what `from_pretrained` is told where a folder's weights are in GGUF; nothing elsewhere."""
    file = folders.gguf_file(folder, asked)
    return {} if file is None else {"gguf_file": file}


def named(names: Iterable[str]) -> str:
    """Return the first three of several names."""
    listed = list(names)
    return ", ".join(listed[:3]) + ", .." * (len(listed) > 3)
