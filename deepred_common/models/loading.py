"""Loading models, tokenizers and adapters with transformers and peft, and what identifies a model's weights.

A model is given as a folder (a whole model, or a LoRA adapter whose base its config names) or as a hub name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import chat, cli, devices, provenance, template_changes
from deepred_common.cli import UserError
from deepred_common.models import adapter_names, architectures, safetensors_files, terms, tokenizer_files
from deepred_common.models.folders import (
    ADAPTER_CONFIG,
    default_template,
    embedding_rows,
    is_adapter,
    looks_like_path,
)
from deepred_common.models.load_errors import DOWNLOAD_AGAIN, LONGEST_REASON, hub_errors
from deepred_common.models.safetensors_files import Entry
from deepred_common.models.trained_weights import ADAPTER_WEIGHTS, Adapter, TunedModel, require_adapter

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# What a model needs besides its weights; no *.bin or *.pt is downloaded for a merge.
DOWNLOADED_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", *terms.FILES)
CODE_FILES = ("*.py",)  # a model's own code, where it may be run
# What changes replies beside the weights. Any other JSON file in the folder may be one of results.
FILES_BESIDE_WEIGHTS = (
    *("config.json", "generation_config.json", ADAPTER_CONFIG),
    *tokenizer_files.NAMES,
    *tokenizer_files.OTHERS,
)
# The same weights once more, as gpt-oss and Mistral have them, and parts for other uses.
SKIPPED_FILES = ("*/*", "consolidated*")
# oneDNN multiplies matrices in bf16 on a CPU. It keeps a program for each size that it has met, 1 024 if not
# told otherwise. Packed rows come in ever new sizes: a training of SmolLM2-135M held 1 GB of programs that it
# hardly used again. One forward and backward pass needs some 40.
ONEDNN_PRIMITIVES = 128


def set_up_libraries() -> None:
    """Keep the libraries' own messages out of what the user reads, and oneDNN's cache small.

    To be called before anything is computed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_PRIMITIVES))
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    # peft and trl still use names that transformers 5 calls deprecated; bitsandbytes names optional kernels.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def download(name: str, revision: str | None = None, patterns: Sequence[str] = DOWNLOADED_FILES) -> Path:
    """The folder of a hub model's files in the local cache, downloaded if need be; UserError if that fails.

    revision: a commit, branch or tag; None for the default branch. patterns: of the files' names.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(SKIPPED_FILES),
        )
    return Path(folder)


def base_folder(name: str | Path, revision: str | None, trust_remote_code: bool = False) -> Path:
    """A base as a folder: itself, or the hub's files at `revision`, with its own code if that may be run."""
    if looks_like_path(name):
        return Path(name)
    cli.progress(f"{name}{f' at {revision}' if revision else ''}: from the hub, or its cache here …")
    code = CODE_FILES if trust_remote_code else ()
    return download(str(name), revision, (*DOWNLOADED_FILES, *code))


def load_tokenizer(name: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name, with one chat template at most, and thinking switched off.

    Of several templates it keeps `default`, as llama.cpp does. UserError if none has that name.
    """
    from transformers import AutoTokenizer

    with hub_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(str(name), trust_remote_code=trust_remote_code)
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = default_template(tokenizer.chat_template, name)
    template_changes.remove_generation_tags(tokenizer)
    template_changes.settle_thinking(tokenizer)
    chat.space_as_server(tokenizer)
    return tokenizer


def load_config(name: str | Path, trust_remote_code: bool = False) -> PretrainedConfig:
    """The transformers config of a model's language model: of its text part, if it has others.

    UserError if transformers makes no causal language model of it.
    """
    return _load_config(name, trust_remote_code)[0]


def _load_config(name: str | Path, trust_remote_code: bool) -> tuple[PretrainedConfig, bool]:
    """load_config, and whether it is of a part only."""
    from transformers import AutoConfig

    with hub_errors(name):
        config = AutoConfig.from_pretrained(str(name), trust_remote_code=trust_remote_code)
    whole = config.to_dict()
    fault = architectures.fault(whole)
    if fault:
        raise UserError(f"the model {name} {fault}")
    text = config.get_text_config()
    if text is config or "auto_map" in whole:
        return config, False
    # What is said of the whole counts for its text part.
    text.tie_word_embeddings = config.tie_word_embeddings
    text.dtype = text.dtype or config.dtype
    if whole.get("quantization_config"):
        text.quantization_config = config.quantization_config
    return text, True


def load_model(name: str | Path, dtype: torch.dtype, trust_remote_code: bool = False, **options: Any) -> Any:
    """The causal language model, a PreTrainedModel, of a folder or hub name in `dtype`; safetensors only.

    Of a checkpoint that also takes images or sound, its text part. UserError if tensors are missing.
    Any, since type checkers misread what transformers makes of PreTrainedModel.to(). options: passed to
    from_pretrained (quantization_config, attn_implementation, device_map …).
    """
    from transformers import AutoModelForCausalLM

    config, is_part = _load_config(name, trust_remote_code)
    if devices.on_rocm():
        # Scaled-dot-product attention is a known cause of GPU hangs on ROCm.
        options.setdefault("attn_implementation", "eager")
    with hub_errors(name):
        model, report = AutoModelForCausalLM.from_pretrained(
            str(name),
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            key_mapping=architectures.TEXT_PART_NAMES if is_part else None,
            output_loading_info=True,
            **options,
        )
    missing = sorted(report["missing_keys"])
    if missing and not trust_remote_code:
        # transformers would fill them with random numbers, and say so only in its log.
        raise UserError(
            f"{name} could not be loaded: its weights lack {len(missing)} tensors that its config.json asks "
            f"for, such as {missing[0]}. {DOWNLOAD_AGAIN}"
        )
    return model


def tokens_without_rows(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[str]:
    """The tokens, in order, that an embedding of so many rows lacks: added, but the model not resized."""
    beyond = [(number, token) for token, number in tokenizer.get_vocab().items() if number >= rows]
    return [token for _, token in sorted(beyond)]


def require_rows(tokenizer: PreTrainedTokenizerBase, rows: int, name: str | Path, ids: Iterable[int]) -> None:
    """UserError naming the first of `ids` that the embedding of the model `name`, of `rows` rows, lacks."""
    for number in ids:
        if number >= rows:
            raise UserError(
                f"{name} has no embedding for {tokenizer.convert_ids_to_tokens(number)!r}, token {number} of "
                f"its tokenizer: its {rows} rows end before it.\nTokens were added without resizing the "
                "model. Use the tokenizer and chat template that belong to these weights."
            )


def require_same_tokens(
    tokenizer: PreTrainedTokenizerBase,
    adapter_tokenizer: PreTrainedTokenizerBase,
    adapter: Adapter | TunedModel,
    base: str | Path,
) -> None:
    """UserError unless each token of the base's `tokenizer` has the same id in the adapter's.

    Two models of one shape but of different families would merge without an error; their tokens differ.
    """
    ids = adapter_tokenizer.get_vocab()
    size = max(ids.values()) + 1
    # What is beyond all of the adapter's tokens has no row in the embedding, and was left out of it.
    own = [(token, number) for token, number in tokenizer.get_vocab().items() if number < size]
    if any(ids.get(token) != number for token, number in own):
        raise UserError(
            f"the {adapter.kind} {adapter.folder} does not fit the base {base}: their tokenizers differ.\n"
            f"It was trained on {adapter.base or 'another one'}."
        )


def load_adapter_tokenizer(
    adapter: Adapter | TunedModel, base: str | Path, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer in the adapter's folder, whose chat template it was trained with; if none, the base's.

    base: a folder or hub name. UserError if the two tokenizers differ in their tokens.
    """
    tokenizer = load_tokenizer(base, trust_remote_code)
    if not (adapter.folder / "tokenizer_config.json").exists():
        return tokenizer
    adapter_tokenizer = load_tokenizer(adapter.folder, trust_remote_code)
    require_same_tokens(tokenizer, adapter_tokenizer, adapter, base)
    return adapter_tokenizer


def load_with_adapter(
    adapter: Adapter, dtype: torch.dtype, base: str | Path | None = None, trust_remote_code: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer): the adapter's base (or `base`, if given) with the LoRA adapter on top, not merged.

    The adapter's own base is taken from the hub as it was in training. The model is a PeftModel. UserError if
    base and adapter do not fit.
    """
    from peft import PeftModel

    _require_known_settings(adapter)
    base = base or base_folder(adapter.base, adapter.config.get("revision"), trust_remote_code)
    model = load_model(base, dtype, trust_remote_code)
    tokenizer = load_adapter_tokenizer(adapter, base, trust_remote_code)
    rows = embedding_rows(adapter.tensors())
    if rows is not None and rows != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)  # what the adapter holds replaces them all
    try:
        with _as_peft_names(adapter, model) as folder:
            return PeftModel.from_pretrained(model, str(folder)), tokenizer
    except (RuntimeError, ValueError, KeyError) as error:
        lines = str(error).splitlines()
        detail = next((line.strip() for line in lines if "size mismatch" in line), lines[0])
        raise UserError(
            f"the adapter {adapter.folder} does not fit the base {base}: {detail[:LONGEST_REASON]}\n"
            f"It was trained on {adapter.base}."
        ) from error


def merge_by_peft(model: Any) -> Any:
    """The model of a PeftModel with its adapter merged in. UserError if a sum is not finite.

    Of embeddings that are tied, peft would change both where the adapter changes one of them.
    """
    inputs, output = model.get_input_embeddings(), model.get_output_embeddings()
    shared = {id(weight) for weight in inputs.parameters()}
    if hasattr(inputs, "base_layer") or hasattr(output, "base_layer"):
        for module in output.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                if id(weight) in shared:
                    setattr(module, name, type(weight)(weight.detach().clone(), weight.requires_grad))
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise UserError(
            f"peft refused to merge: {error}. The adapter is damaged or training diverged."
        ) from error


def load_trained(
    trained: Adapter | TunedModel, dtype: torch.dtype, base: str | Path, trust_remote_code: bool = False
) -> Any:
    """The model as it was trained: a PeftModel of an adapter on `base`, or the tuned model itself."""
    if isinstance(trained, Adapter):
        return load_with_adapter(trained, dtype, base, trust_remote_code)[0]
    return load_model(trained.folder, dtype, trust_remote_code)


def _require_known_settings(adapter: Adapter) -> None:
    """UserError if the installed peft does not know a setting of the adapter: it would only warn."""
    from peft import LoraConfig

    known = LoraConfig.__dataclass_fields__
    unknown = [f"{name}={value}" for name, value in adapter.config.items() if value and name not in known]
    if unknown:
        raise UserError(
            f"the adapter {adapter.folder} has {', '.join(unknown)}, which peft {metadata.version('peft')} "
            "does not know. A newer one may:\n  pip install -U peft"
        )


@contextlib.contextmanager
def _as_peft_names(adapter: Adapter, model: Any) -> Iterator[Path]:
    """The adapter's folder, or, if another tool named its tensors, a copy of it with the names of `model`.

    peft would leave out what it does not find by name, and say so only in a warning. ValueError for a tensor
    that `model` has no place for, unless it belongs to a part beside the text.
    """
    if adapter.config.get("layer_replication"):  # the layers are not there yet
        yield adapter.folder
        return
    modules = dict(model.named_modules())
    by_core = adapter_names.by_core(modules)
    tensors: dict[str, Entry] = {}
    targets: set[str] = set()
    unknown: list[str] = []
    for name, entry in adapter.tensors().items():
        module = adapter_names.module_of(name)
        own = module if module in modules else by_core.get(adapter_names.core(module))
        if own is not None:
            tensors[adapter_names.PREFIX + own + name[len(module) :]] = entry
            if "lora_" in name:
                targets.add(own)
        elif ".experts." in module:  # peft finds them where transformers 5 keeps all experts in one tensor
            tensors[adapter_names.PREFIX + name] = entry
        elif not architectures.OTHER_PARTS.search(module):
            unknown.append(module)
    if unknown:
        raise ValueError(f"{unknown[0]}: not in the base")
    if tensors.keys() == safetensors_files.read_header(adapter.weights).keys():
        yield adapter.folder
        return
    with tempfile.TemporaryDirectory() as folder:
        config = adapter.config | {"target_modules": sorted(targets)}
        (Path(folder) / ADAPTER_CONFIG).write_text(json.dumps(config), encoding="utf-8")
        shapes = {
            name: (safetensors_files.torch_dtype(entry.dtype), entry.shape) for name, entry in tensors.items()
        }
        values = (entry.read() for entry in tensors.values())
        safetensors_files.write(Path(folder) / ADAPTER_WEIGHTS, shapes, values)
        yield Path(folder)


def identity(name: str | Path) -> str | None:
    """What identifies a model's weights: one SHA-256 of all of a folder's weight files; the hub's commit."""
    folder = Path(name)
    if not folder.is_dir():
        return revision(name)
    hashes = [provenance.sha256(file) for file in sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def beside_weights(name: str | Path) -> dict[str, str] | None:
    """{file: SHA-256} of FILES_BESIDE_WEIGHTS in a model's folder; None if it is no folder.

    Of an adapter its base as well, if that is known here: "base" is its identity, and "base: config.json" one
    of its files.
    """
    folder = Path(name)
    if not folder.is_dir():
        return None
    present = [file for file in FILES_BESIDE_WEIGHTS if (folder / file).is_file()]
    by_file = {file: provenance.sha256(folder / file) for file in present}
    if is_adapter(folder):
        adapter = require_adapter(folder)
        commit = None if Path(adapter.base).is_dir() else adapter.config.get("revision")
        if base := commit or identity(adapter.base):
            of_base = beside_weights(adapter.base) or {}
            by_file |= {"base": base} | {f"base: {file}": digest for file, digest in of_base.items()}
    return by_file


def revision(name: str | Path, at: str | None = None) -> str | None:
    """The hub's commit that a model was loaded from; None for a folder, which has none.

    at: the commit, branch or tag that was asked for; None for the default branch.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).is_dir():
        return None
    # transformers' configs no longer know it; the cache keeps each commit's files in a folder of that name.
    try:
        cached = try_to_load_from_cache(str(name), "config.json", revision=at)
    except HFValidationError:  # no name that a model on the hub can have: whoever loads it says so
        return None
    return Path(cached).parent.name if isinstance(cached, str) else None
