"""The network that an oracle's fit starts from: a policy's body with a head of its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from mnpo.common.files import whole_folder
from mnpo.common.given import user_path
from mnpo.common.seals import damage, seal
from mnpo.llm.config import OracleFit
from mnpo.llm.data import templates
from mnpo.llm.models.folders import check_weights, find, gguf_file, is_adapter
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import load_model, load_tokenizer, set_template
from mnpo.llm.models.reading import reading
from mnpo.llm.models.weights import DTYPES, configuration, load_whole

#: The start, in the output folder, while the fit is not done.
START = "start"
#: What asks for a network that has a head already.
_CLASSIFIER = "ForSequenceClassification"


def outputs_of(fit: OracleFit, annotators: list[str]) -> list[str]:
    """Return the names of a reward model's outputs; none where it has one, for everything."""
    if fit.per_annotator and fit.annotator_parts == "head":
        return annotators
    return list(fit.rated) if fit.rates and len(fit.rated) > 1 else []


def start(job: Job, fit: OracleFit, outputs: list[str]) -> Path:
    """Return the folder of the network that is fitted first, made by the first process.

    A causal model gets a head with small random weights, drawn by the seed; a sequence classifier keeps its own.
    Its padding token is no end of a conversation: sequence classifiers of transformers read the last token that
    differs from it.

    Args:
        job: the stage at work; the model is its policy.
        fit: what is fitted.
        outputs: what a reward model's outputs are; none: one for everything.

    Raises:
        ValueError: a model that has no sequence classifier, or one with another number of outputs.
    """
    target = job.home / START
    body = _body(job)
    headed = _has_head(body, job.model.trust_remote_code)
    tokenizer = _own_tokenizer(job, body) if headed else job.tokenizer()
    if job.processes.first and damage(target) is not None:
        with whole_folder(target) as partial:
            if fit.oracle_kind == "pairwise":
                model: Any = load_model(body, **job.model.loading)
            else:
                model = _classifier(job, body, partial / "plain", fit, outputs)
            _pad_with_no_end(model, tokenizer)
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            seal(partial)
    job.processes.wait()
    return target


def load(job: Job, folder: Path, kind: str) -> PreTrainedModel:
    """Load a network that is to be fitted; all its weights can be trained."""
    loading = {name: value for name, value in job.model.loading.items() if name != "gguf_file"}
    if kind == "pairwise":
        return load_model(folder, **loading)
    return load_whole(AutoModelForSequenceClassification, folder, head="head", spare=("lm_head.",), **loading)


def _body(job: Job) -> Path:
    """Return the folder of the model that the fit starts from; unlike a policy it may have a head."""
    name = job.model.model_name_or_path
    folder = user_path(name)
    if folder.is_dir() and _has_head(folder, job.model.trust_remote_code):
        check_weights(folder)
        return find(name)
    return job.policy()


def _own_tokenizer(job: Job, folder: Path) -> Any:
    """Return the tokenizer of a sequence classifier, with the template that is asked for."""
    named, template = job.model.tokenizer_name_or_path, job.model.chat_template_path
    home = folder if named is None else find(named)
    tokenizer = load_tokenizer(home, trust_remote_code=job.model.trust_remote_code)
    if template is not None:
        set_template(tokenizer, user_path(template))
    return tokenizer


def _has_head(folder: Path, trust: bool) -> bool:
    if is_adapter(folder) or not (folder / "config.json").is_file():
        return False
    config = configuration(folder, trust_remote_code=trust)
    return any(name.endswith(_CLASSIFIER) for name in config.architectures or [])


def _classifier(job: Job, body: Path, plain: Path, fit: OracleFit, outputs: list[str]) -> PreTrainedModel:
    embedding = fit.oracle_kind == "embedding"
    count = 2 * fit.embedding_pairs if embedding else max(1, len(outputs))
    if is_adapter(body) or gguf_file(body, job.model.gguf_file) is not None:
        load_model(body, **job.model.loading).save_pretrained(plain)
        found = _with_head(job, plain, count)
        for file in plain.iterdir():
            file.unlink()
        plain.rmdir()
    elif _has_head(body, job.model.trust_remote_code):
        there = configuration(body, trust_remote_code=job.model.trust_remote_code).num_labels
        if there != count:
            raise ValueError(
                f"model {body} has {there} output{'s' * (there != 1)}; this fit of oracle_kind={fit.oracle_kind} "
                f"needs {count}"
            )
        return load(job, body, fit.oracle_kind)
    else:
        found = _with_head(job, body, count)
    model, missing = found
    size = model.config.get_text_config().hidden_size
    # Rewards start near 0, as OpenRLHF's do. Embeddings must not, for their logits have no slope there.
    # Vectors of length 1 or so: of SmolLM2 those ten times as long, squared, began at a loss of 1.4.
    deviation = 1 / math.sqrt(count * size) if embedding else 1 / (size + 1)
    drawn = torch.Generator().manual_seed(job.compute.seed)
    for name, weights in model.named_parameters():
        if name in missing:
            values = torch.randn(weights.shape, generator=drawn) * deviation * (weights.ndim > 1)
            weights.data.copy_(values)
    model.config.id2label = dict(enumerate(outputs or [f"output-{k + 1}" for k in range(count)]))
    model.config.label2id = {name: place for place, name in model.config.id2label.items()}
    return model


def _with_head(job: Job, folder: Path, count: int) -> tuple[PreTrainedModel, set[str]]:
    """Return a causal model's body with a head of so many outputs, and the names of what is not the body's."""
    configuration(folder, trust_remote_code=job.model.trust_remote_code)
    with reading(f"model {folder} cannot have the head of an oracle"):
        model, told = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=count,
            dtype=DTYPES[job.model.dtype],
            attn_implementation=job.model.attn_implementation,
            trust_remote_code=job.model.trust_remote_code,
            output_loading_info=True,
        )
    missing = set(told["missing_keys"])
    lacking = sorted(name for name in missing if name.startswith(f"{model.base_model_prefix}."))
    if lacking:
        raise ValueError(f"model {folder} lacks weights: {lacking[0]} missing")
    return model, missing


def _pad_with_no_end(model: PreTrainedModel, tokenizer: Any) -> None:
    """Give model and tokenizer a padding token that no conversation ends with."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    written = "" if tokenizer.chat_template is None else templates.render(tokenizer, turns)
    rows = model.config.get_text_config().vocab_size
    special = sorted(token for token in tokenizer.added_tokens_decoder if token < rows)
    usual = [token for token in (tokenizer.pad_token_id, tokenizer.unk_token_id) if token is not None]
    for token in [*usual, *special]:
        text = tokenizer.convert_ids_to_tokens(token)
        if text not in written and token not in (tokenizer.eos_token_id, tokenizer.bos_token_id):
            tokenizer.pad_token = text
            break
    # Where there is none, what is read is the end before the padding: nothing but tokens of the text.
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
