"""Checkpoints with an image part: their text part is trained, merged and converted, and the rest is kept."""

import json

import pytest
import tiny
import torch

from deepred_common import devices
from deepred_common.models import loading, safetensors_files

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
IMAGE_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
KINDS = {
    # model type: (text part, image part, further settings)
    "gemma3": ({"sliding_window": 512}, {}, {"mm_tokens_per_image": 4}),
    "mistral3": ({"model_type": "mistral"}, {"model_type": "pixtral", "head_dim": 16}, {}),
}
IDS = torch.tensor([[5, 700, 3, 42]])


@pytest.fixture
def base(tmp_path, tokenizer):
    from transformers import AutoConfig, AutoModelForImageTextToText

    def make(kind):
        text, image, further = KINDS[kind]
        config = AutoConfig.for_model(
            kind,
            text_config={**SIZES, "vocab_size": len(tokenizer), **text},
            vision_config={**IMAGE_SIZES, **image},
            **further,
        )
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_trained_merged_and_converted(kind, base, script, data_file, tmp_path, llama_cpp_tree):
    from transformers import AutoModelForImageTextToText

    folder, run, merged = base(kind), tmp_path / "run", tmp_path / "merged"
    flags = "--epochs 1 --gradient_accumulation_steps 1 --learning_rate 1e-2 --replay_share 0".split()
    data = ("--dev", "--dev_path", data_file)
    code, _, err = script("finetune_temporal", "--model_name", folder, *data, "--output_dir", run, *flags)
    assert code == 0, err
    code, out, err = script(
        "merge_lora", "--base_model", folder, "--lora_path", run / "final", "--output_path", merged,
        "--dtype", "float32", "--verify",
    )  # fmt: skip
    assert code == 0 and "Base + adapter against merged" in out, err
    before, after = safetensors_files.read_weights(folder), safetensors_files.read_weights(merged)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name].read(), after[name].read())}
    assert len(changed) == 2 * 7 and all(name.startswith("language_model.model.layers.") for name in changed)
    config = json.loads((merged / "config.json").read_text())
    assert config["model_type"] == kind and config["text_config"]["rope_theta"] > 0
    # The whole checkpoint, as others load it, answers text as its text part does.
    whole = AutoModelForImageTextToText.from_pretrained(merged, dtype=torch.float32)
    with torch.inference_mode():
        part = loading.load_model(merged, torch.float32)(IDS).logits
        assert torch.equal(whole(input_ids=IDS).logits, part)
    code, out, err = script(
        "convert_to_gguf", "--model_path", merged, "--output_path", tmp_path / "x.gguf",
        "--quant_type", "q8_0", "--llama_cpp_path", llama_cpp_tree,
    )  # fmt: skip
    assert code == 0, err
    assert f"Same as in {merged}: {28 if kind == 'gemma3' else 20} tensors, 49152 tokens" in out
    assert "rotary base" in out


def test_all_weights_of_the_text_part_are_trained_and_merged_and_the_rest_is_kept(
    base, script, data_file, tmp_path
):
    folder, run, merged = base("gemma3"), tmp_path / "run", tmp_path / "merged"
    flags = "--full --epochs 1 --gradient_accumulation_steps 1 --learning_rate 1e-3 --replay_share 0".split()
    data = ("--dev", "--dev_path", data_file, "--output_dir", run)
    code, _, err = script("finetune_temporal", "--model_name", folder, *data, *flags)
    assert code == 0, err
    code, _, err = script(
        "finetune_temporal", "--model_name", folder, *data, *flags, "--epochs", 2, "--resume_latest"
    )
    assert code == 0, err
    code, out, err = script(
        "merge_lora", "--base_model", folder, "--lora_path", run / "final", "--output_path", merged,
        "--dtype", "float32", "--verify",
    )  # fmt: skip
    assert code == 0 and "largest logit difference 0.000 (the training itself moves" in out, err
    before, after = safetensors_files.read_weights(folder), safetensors_files.read_weights(merged)
    assert before.keys() == after.keys()
    kept = {name for name in before if torch.equal(before[name].read(), after[name].read())}
    assert kept == {name for name in before if not name.startswith("language_model.")}
    assert json.loads((merged / "config.json").read_text())["model_type"] == "gemma3"


def test_an_adapter_that_peft_trained_on_the_whole_checkpoint(base, script, tmp_path, monkeypatch):
    from transformers import AutoModelForImageTextToText

    # In bf16 the random model's likeliest tokens tie, and rounding chooses among them.
    monkeypatch.setattr(devices, "native_precisions", lambda: ("fp32",))
    folder = base("gemma3")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    targets = r".*(language_model|vision_tower).*\.(q_proj|v_proj)"
    model = tiny.add_lora(model, target_modules=targets)
    model.save_pretrained(tmp_path / "adapter")
    code, out, err = script(
        "merge_lora", "--base_model", folder, "--lora_path", tmp_path / "adapter",
        "--output_path", tmp_path / "merged", "--dtype", "float32", "--verify",
    )  # fmt: skip
    assert code == 0 and "10 of 10 greedy replies identical" in out, err
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    expected = model.merge_and_unload().state_dict()
    assert all(
        torch.allclose(value, expected[name], atol=1e-6) for name, value in merged.state_dict().items()
    )


def test_a_text_part_that_cannot_be_trained_alone_is_named_before_the_settings(
    tiny_models, script, data_file, tmp_path
):
    import shutil

    folder = shutil.copytree(tiny_models["llama"], tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    nested = {"model_type": "qwen2_5_vl", "text_config": config | {"model_type": "qwen2_5_vl_text"}}
    (folder / "config.json").write_text(json.dumps(nested))
    for command in (
        ("finetune_temporal", "--dev", "--dev_path", data_file, "--model_name"),
        ("evaluate_temporal", "--test_file", data_file, "--model_path"),
    ):
        code, out, err = script(*command, folder)
        assert code == 2 and out == "" and "its text part (qwen2_5_vl_text) cannot be trained alone" in err
