"""Adapters of other tools: other names, a grown vocabulary, as a pickle, several in a folder."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest
import tiny
import torch

from deepred_common.models import loading, safetensors_files, trained_weights

IDS = torch.tensor([[5, 700, 3, 42]])


def write(folder, tensors):
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    safetensors_files.write(folder / "adapter_model.safetensors", shapes, tensors.values())


def tensors_of(folder):
    header = safetensors_files.read_header(folder / "adapter_model.safetensors")
    return {name: entry.read() for name, entry in header.items()}


def logits(folder):
    model = loading.load_model(folder, torch.float32)
    with torch.inference_mode():
        return model(IDS).logits


@pytest.fixture
def trained(tiny_models, tokenizer, tmp_path):
    """trained(added, save): a random adapter on the tiny Llama, and the logits of base + adapter.

    added: tokens that the vocabulary was grown by. save: whether their embeddings are in the adapter.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def make(added=(), save="auto"):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(tiny_models["llama"], dtype=torch.float32)
        words = AutoTokenizer.from_pretrained(tiny_models["llama"])
        if added:
            words.add_special_tokens({"additional_special_tokens": list(added)})
            model.resize_token_embeddings(len(words))
        model = tiny.add_lora(model, target_modules=["q_proj", "up_proj"])
        model.save_pretrained(tmp_path / "adapter", save_embedding_layers=save)
        if added:
            words.save_pretrained(tmp_path / "adapter")
        with torch.inference_mode():
            return tmp_path / "adapter", model.eval()(IDS).logits

    return make


def merge(script, base, adapter, out, *flags):
    return script("merge_lora", "--base_model", base, "--lora_path", adapter, "--output_path", out, *flags)


NAMES = {
    "a language model of its own": (".model.layers", ".model.language_model.layers"),
    "in a language model": ("base_model.model.model.", "base_model.model.language_model.model."),
    "no prefix": ("base_model.model.", ""),
    "the adapter's name": (".weight", ".default.weight"),
    "torch.compile": ("base_model.model.", "base_model.model._orig_mod."),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_other_tools(kind, trained, tiny_models, script, tmp_path):
    """Merged and loaded with peft, which would leave out what it does not find, and only warn."""
    adapter, wanted = trained()
    write(adapter, {name.replace(*NAMES[kind]): tensor for name, tensor in tensors_of(adapter).items()})
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m", "--dtype", "float32")
    assert code == 0, err
    assert torch.allclose(logits(tmp_path / "m"), wanted, atol=1e-4)
    model, _ = loading.load_with_adapter(trained_weights.require_adapter(adapter), torch.float32)
    with torch.inference_mode():
        assert torch.allclose(model.eval()(IDS).logits, wanted, atol=1e-4)


def test_a_grown_vocabulary_is_merged_as_it_is(trained, tiny_models, script, tmp_path):
    adapter, wanted = trained(["<|one|>", "<|two|>"])
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m", "--dtype", "float32")
    assert code == 0, err
    assert wanted.shape[-1] == 49154 and torch.allclose(logits(tmp_path / "m"), wanted, atol=1e-4)
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (49154, True)
    assert loading.load_tokenizer(tmp_path / "m").convert_tokens_to_ids("<|two|>") == 49153
    model, _ = loading.load_with_adapter(trained_weights.require_adapter(adapter), torch.float32)
    with torch.inference_mode():
        assert torch.allclose(model.eval()(IDS).logits, wanted, atol=1e-4)


def test_a_grown_vocabulary_that_was_not_saved_is_named_with_the_command(
    trained, tiny_models, script, tmp_path
):
    adapter, _ = trained(["<|one|>", "<|two|>"], save=False)
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m")
    assert code == 2 and not (tmp_path / "m").exists()
    assert "from 49152 to 49154 tokens" in err and "<|one|>, <|two|>" in err
    command = shlex.split(err.strip().splitlines()[-1])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    code, _, err = merge(script, tmp_path / "m-base", adapter, tmp_path / "m")
    assert code == 0, err
    assert logits(tmp_path / "m").shape[-1] == 49154


def test_half_a_grown_vocabulary_is_refused(trained, tiny_models, script, tmp_path):
    adapter, _ = trained(["<|one|>"])
    write(adapter, {name: t for name, t in tensors_of(adapter).items() if "lm_head" not in name})
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m")
    assert code == 2 and "embed_tokens.weight 49153 rows and lm_head.weight 49152 rows" in err


def test_a_padding_token_without_a_row_is_left_out(trained, tiny_models, script, tmp_path):
    adapter, wanted = trained()
    words = loading.load_tokenizer(tiny_models["llama"])
    words.add_special_tokens({"pad_token": "<|PAD_TOKEN|>"})
    words.save_pretrained(adapter)
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m", "--dtype", "float32")
    assert code == 0 and "<|PAD_TOKEN|>: left out" in err, err
    merged = loading.load_tokenizer(tmp_path / "m")
    assert (len(merged), merged.pad_token) == (49152, words.eos_token)
    assert torch.allclose(logits(tmp_path / "m"), wanted, atol=1e-4)


def test_a_pickle_is_named_with_the_command_that_converts_it(trained, tiny_models, script, tmp_path):
    adapter, wanted = trained()
    torch.save(tensors_of(adapter), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m", "--dtype", "float32")
    assert code == 2 and "adapter_model.bin is a pickle" in err
    command = shlex.split(err.strip().splitlines()[-1])
    subprocess.run([sys.executable, *command[1:]], check=True)
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m", "--dtype", "float32")
    assert code == 0, err
    assert torch.allclose(logits(tmp_path / "m"), wanted, atol=1e-4)


def test_adapters_in_sub_folders_are_named(trained, tiny_models, script, tmp_path):
    adapter, _ = trained()
    shutil.move(adapter, tmp_path / "run/temporal")
    code, _, err = merge(script, tiny_models["llama"], tmp_path / "run", tmp_path / "m")
    assert code == 2 and f"Did you mean {tmp_path}/run/temporal?" in err
    shutil.copytree(tmp_path / "run/temporal", tmp_path / "run/other")
    for command in (
        ("merge_lora", "--base_model", tiny_models["llama"], "--output_path", tmp_path / "m", "--lora_path"),
        ("evaluate_temporal", "--model_path"),
    ):
        code, _, err = script(*command, tmp_path / "run")
        assert code == 2 and "give the folder of one: other, temporal" in err, err


@pytest.mark.parametrize("settings", [{"layer_replication": [[0, 2], [1, 2]]}])
def test_an_adapter_that_repeats_layers_is_refused(settings, trained, tiny_models, script, tmp_path):
    adapter, _ = trained()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | settings))
    code, _, err = merge(script, tiny_models["llama"], adapter, tmp_path / "m")
    assert code == 2 and "repeats layers" in err
