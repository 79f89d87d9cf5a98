"""Model folders as people have them: what is wrong with one is named before anything is loaded."""

import json
import os
import shutil

import pytest

from deepred_common.cli import UserError
from deepred_common.models import architectures, folders, load_errors, loading

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"


def _replace(old, new, name):
    def change(folder):
        file = folder / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    return change


def _cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def _lfs(name):
    return lambda folder: (folder / name).write_text(LFS)


def _rename(old, new):
    return lambda folder: (folder / old).rename(folder / new)


FAULTS = {
    "weights are a pointer": (
        _lfs("model.safetensors"),
        "model.safetensors is a Git LFS pointer",
        "lfs pull",
    ),
    "tokenizer is a pointer": (_lfs("tokenizer.json"), "tokenizer.json is a Git LFS pointer", "lfs pull"),
    "config is a pointer": (_lfs("config.json"), "config.json is a Git LFS pointer", "lfs pull"),
    "weights are cut": (_cut("model.safetensors", 100_000), "model.safetensors is cut short", "Download"),
    "tokenizer is cut": (_cut("tokenizer.json", 100_000), "tokenizer.json is cut short", "Download"),
    "a shard without its index": (
        _rename("model.safetensors", "model-00001-of-00002.safetensors"),
        "model.safetensors.index.json is missing",
        "Download",
    ),
    "tokenizer of another version": (
        _replace('"type": "BPE"', '"type": "BPE2"', "tokenizer.json"),
        "tokenizer.json has a part of the type BPE2",
        "pip install -U tokenizers",
    ),
}
NEWER = {
    "architecture": (
        _replace('"model_type": "llama"', '"model_type": "qwen9"', "config.json"),
        "has the architecture qwen9, which transformers",
        "pip install -U transformers",
    ),
    "no chat model": (
        _replace('"model_type": "llama"', '"model_type": "t5"', "config.json"),
        "is a t5 model, no causal language model",
        "Take a chat model",
    ),
}


@pytest.fixture
def folder(tmp_path, tiny_models):
    return shutil.copytree(tiny_models["llama"], tmp_path / "base model")


@pytest.mark.parametrize("kind", [*FAULTS, *NEWER])
def test_what_is_wrong_is_named_before_the_settings(kind, folder, script, data_file, tmp_path, pipeline):
    change, fault, remedy = (FAULTS | NEWER)[kind]
    adapter = pipeline("llama").final
    change(folder)
    new = tmp_path / "new"
    commands = [
        ("finetune_temporal", "--model_name", folder, "--dev", "--dev_path", data_file, "--output_dir", new),
        ("evaluate_temporal", "--model_path", folder, "--test_file", data_file, "--output", new),
        ("merge_lora", "--base_model", folder, "--lora_path", adapter, "--output_path", new, "--verify"),
        ("convert_to_gguf", "--model_path", folder, "--output_path", f"{new}.gguf", "--verify"),
    ]
    for command in commands:
        code, out, err = script(*command)
        assert code == 2 and out == "", err
        assert fault in err and remedy in err and len(err.splitlines()) <= 2, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base model"]


def test_a_missing_shard_is_named(folder):
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / shards["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(UserError, match=r"model-00002-of-00002\.safetensors is missing"):
        folders.require_model_folder(folder)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_good_folder_passes(kind, tiny_models):
    assert folders.require_model_folder(tiny_models[kind])["model_type"] == kind


def test_which_text_parts_can_be_trained():
    for kind, text, loads in (
        ("gemma3", "gemma3_text", True),
        ("mistral3", "mistral", True),
        ("mistral3", "ministral3", True),
        ("qwen3_5", "qwen3_5_text", True),
        ("qwen2_5_vl", "qwen2_5_vl_text", False),
    ):
        fault = architectures.fault({"model_type": kind, "text_config": {"model_type": text}})
        assert (fault is None) == loads and (loads or "cannot be trained alone" in fault)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "MLX"),
    ],
)
def test_a_quantised_base_is_refused_before_the_training_not_after_it(
    settings, method, folder, script, data_file, tmp_path
):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    new = ("--dev", "--dev_path", data_file, "--output_dir", tmp_path / "new")
    code, out, err = script("finetune_temporal", "--model_name", folder, *new)
    assert code == 2 and out == "" and f"is quantised ({method})" in err and "16-bit original" in err


@pytest.mark.parametrize("place", ["snapshots/0123abcd", "unzipped"])
def test_a_model_in_a_sub_folder_is_pointed_out(place, folder, tmp_path):
    """The hub's cache keeps each commit so; an archive often holds one folder."""
    (tmp_path / "outer" / place).parent.mkdir(parents=True)
    folder.rename(tmp_path / "outer" / place)
    with pytest.raises(UserError, match=rf"no config\.json\. Did you mean .*/outer/{place}\?"):
        folders.require_model_folder(tmp_path / "outer")


# ---- the hub -------------------------------------------------------------------------------------


def test_weights_that_a_hub_model_has_twice_are_downloaded_once__fake_hub(monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    needed = ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json", "chat_template.jinja"]
    needed += ["LICENSE", "NOTICE", "GEMMA_TERMS.html"]
    twice = ["original/model.safetensors", "metal/model.bin", "consolidated.safetensors", "onnx/config.json"]
    chosen = []

    def download(name, revision, allow_patterns, ignore_patterns):
        files = filter_repo_objects(
            needed + twice, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        )
        chosen.extend(files)
        return "folder"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    loading.download("some/model")
    assert chosen == needed


@pytest.mark.parametrize("token", ["hf_old", None])
def test_a_token_that_the_hub_refuses_is_named(token, monkeypatch, tmp_path):
    class Refused(OSError):
        response = type("Response", (), {"status_code": 401})

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as raised, load_errors.hub_errors("some/model"):
        try:
            raise Refused("Invalid username or password.")
        except Refused as error:
            raise OSError("A connection error when trying to load some/model:\n401 Unauthorized") from error
    message = str(raised.value)
    assert "when trying to load some/model: 401 Unauthorized" in message
    assert ("unset HF_TOKEN" in message) == bool(token)


@pytest.mark.parametrize(
    ("variables", "tried"),
    [
        ({}, ("huggingface.co", 443)),
        ({"NO_PROXY": "localhost"}, ("huggingface.co", 443)),
        ({"https_proxy": "http://proxy:3128"}, None),
        ({"https_proxy": "http://proxy:3128", "NO_PROXY": "huggingface.co"}, ("huggingface.co", 443)),
        ({"http_proxy": "http://proxy:3128"}, ("huggingface.co", 443)),
        ({"all_proxy": "http://proxy:3128"}, None),
        ({"HF_ENDPOINT": "http://mirror"}, ("mirror", 80)),
        ({"HF_ENDPOINT": "https://mirror"}, ("mirror", 443)),
        ({"HF_ENDPOINT": "http://mirror:8080"}, ("mirror", 8080)),
    ],
)
def test_without_a_network_only_the_cache_is_searched(variables, tried, monkeypatch):
    """The hub's own client would retry for a minute. Behind a proxy it cannot be seen whether it answers."""
    addresses = []

    def out_of_reach(address, timeout):
        addresses.append(address)
        raise OSError("unreachable")

    for name in os.environ:
        if name.lower().endswith("_proxy") or name == "HF_ENDPOINT":
            monkeypatch.delenv(name)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("socket.create_connection", out_of_reach)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    folders.check_name("some/model")
    assert addresses == ([tried] if tried else [])
    assert os.environ.pop("HF_HUB_OFFLINE", None) == ("1" if tried else None)


# ---- what only loading tells ---------------------------------------------------------------------


def test_tensors_that_the_weights_lack_are_no_random_numbers(folder):
    """transformers would fill them in, and mention it in its log only."""
    import torch

    _replace('"num_hidden_layers": 2', '"num_hidden_layers": 3', "config.json")(folder)
    with pytest.raises(UserError, match=r"lack 9 tensors .* such as model\.layers\.2\.input_layernorm"):
        loading.load_model(folder, torch.float32)


def test_weights_of_other_shapes_than_the_config_says(folder):
    import torch

    _replace('"intermediate_size": 512', '"intermediate_size": 256', "config.json")(folder)
    with pytest.raises(UserError, match="other shapes than its config"):
        loading.load_model(folder, torch.float32)


def test_a_tokenizer_that_its_library_cannot_read(folder):
    _replace('"merges": [', '"merges": [1, ', "tokenizer.json")(folder)
    with pytest.raises(UserError, match=r"its tokenizer\.json cannot be read .*\n.*pip install -U"):
        loading.load_tokenizer(folder)


def test_a_bug_of_ours_is_not_explained_away():
    with pytest.raises(TypeError), load_errors.hub_errors("some/model"):
        len(5)
