"""An adapter alone as a GGUF file: on its base's file it replies as the merged model, and what is refused."""

import json
import shutil

import pytest
import tiny

from deepred_common.evaluation import equivalence
from deepred_common.export import gguf_adapter
from deepred_common.export.gguf_file import GgufFile

PROMPTS = equivalence.PROMPTS


@pytest.fixture(scope="session")
def adapter_of(tiny_models, tmp_path_factory):
    """adapter_of(**options of LoraConfig): an adapter of the tiny Llama that changes every reply."""
    import torch
    from transformers import AutoModelForCausalLM

    def make(**options):
        folder = tmp_path_factory.mktemp("adapter") / "final"
        model = AutoModelForCausalLM.from_pretrained(tiny_models["llama"], dtype=torch.float32)
        torch.manual_seed(3)
        settings = {"lora_alpha": 8, "target_modules": "all-linear"} | options
        tiny.add_lora(model, **settings).save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def convert(script, llama_cpp_tree, tmp_path):
    def call(model, *more, name="x.gguf"):
        source = ("--model_path", model, "--llama_cpp_path", llama_cpp_tree)
        return script("convert_to_gguf", *source, "--output_path", tmp_path / name, *more)

    return call


def test_base_and_adapter_reply_as_the_merged_model(
    adapter_of, tiny_models, convert, script, llama_cpp_tree, tmp_path
):
    """Llama's, whose matrices the converter permutes."""
    base, adapter, merged = tiny_models["llama"], adapter_of(), tmp_path / "merged"
    names = ("--base_model", base, "--lora_path", adapter, "--output_path", merged)
    assert script("merge_lora", *names, "--dtype", "float32")[0] == 0
    for model, name in ((base, "base.gguf"), (merged, "merged.gguf")):
        assert convert(model, "--quant_type", "f32", name=name)[0] == 0
    code, out, err = convert(base, "--lora", adapter, "--quant_type", "f32")
    assert code == 0, err
    assert "GGUF adapter: " in out and "Same as in " in out and "28 matrices, alpha 8" in out
    assert f"--lora {tmp_path / 'x.gguf'}" in out

    def replies(gguf, lora=None):
        return equivalence.served(gguf, llama_cpp_tree, PROMPTS, lora)[1]

    alone, together = replies(tmp_path / "base.gguf"), replies(tmp_path / "base.gguf", tmp_path / "x.gguf")
    same = [one == other for one, other in zip(together, replies(tmp_path / "merged.gguf"), strict=True)]
    assert sum(same) >= len(PROMPTS) - 1, together  # a tie may fall to the other side by rounding
    assert not set(alone) & set(together)


def test_verify_compares_with_base_and_adapter(adapter_of, tiny_models, convert, tmp_path):
    code, out, err = convert(tiny_models["llama"], "--lora", adapter_of(), "--verify")
    assert code == 0, err
    assert "Token ids: the same for 40 of 40 prompts." in out and "does not answer" not in err
    assert "quant_type        f16  [default]" in out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.gguf", "x.gguf.log"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"use_dora": True}, "has DoRA"),
        ({"use_rslora": True}, "has rsLoRA, or several alphas"),
        ({"alpha_pattern": {"q_proj": 3}}, "has rsLoRA, or several alphas"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "has a LoRA on the embedding"),
        ({"target_modules": ["q_proj", "lm_head"]}, "has a LoRA on the embedding, or on an output layer"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, "has whole weights"),
    ],
)
def test_what_an_adapter_s_file_cannot_hold_is_to_be_merged(
    options, reason, adapter_of, tiny_models, convert, tmp_path
):
    code, out, err = convert(tiny_models["llama"], "--lora", adapter_of(**options))
    assert code == 2 and reason in err and "Merge it:\n  python scripts/merge_lora.py" in err and not out
    assert not list(tmp_path.iterdir())


def test_one_rank_for_some_matrices_is_no_obstacle(adapter_of, tiny_models, convert, tmp_path):
    """llama.cpp divides alpha by each matrix's own rank, as peft does."""
    options = {"rank_pattern": {"q_proj": 2}}
    assert convert(tiny_models["llama"], "--lora", adapter_of(**options))[0] == 0
    shapes = {
        tensor.shape[0] for name, tensor in GgufFile(tmp_path / "x.gguf").tensors.items() if "_a" in name
    }
    assert {2, 4} <= shapes


def test_wrong_use_is_said_in_a_line(
    adapter_of, tiny_models, convert, script, tokenizer, tmp_path, tmp_path_factory
):
    base, adapter, other = tiny_models["llama"], adapter_of(), tmp_path_factory.mktemp("other")
    tiny.save_base(other, tokenizer)  # of another hidden size
    for model, more, message in (
        (
            base,
            ["--lora", adapter, "--quant_type", "q4_k_m"],
            "an adapter is not quantised. Choose one of f32",
        ),
        (base, ["--lora", base], "is no adapter but a whole model"),
        (base, ["--lora", tmp_path], "is not a LoRA adapter: it has no adapter_config.json"),
        (base, ["--lora", tmp_path / "none"], "none does not exist"),
        (tmp_path / "none", ["--lora", adapter], "the adapter's base "),
        (other, ["--lora", adapter], "does not fit the base"),
        (base, ["--lora", adapter, "--copy_to_lmstudio"], "LM Studio loads no adapters"),
        (base, ["--lora", adapter, "--modelfile"], "add the line ADAPTER"),
    ):
        code, out, err = convert(model, *more)
        assert code == 2 and message in err and not out, err
    code, _, err = script("convert_to_gguf", "--lora", adapter, "--output_path", tmp_path / "x.gguf")
    assert code == 2 and "required: --model_path" in err
    assert not list(tmp_path.iterdir())


def test_another_base_or_chat_template_is_warned_of(adapter_of, tiny_models, convert, tmp_path):
    """Only the name tells another base of the same shape."""
    base, adapter = tiny_models["llama"], shutil.copytree(adapter_of(), tmp_path / "adapter")
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "a/b"}))
    code, _, err = convert(base, "--lora", adapter)
    assert code == 0 and "was trained with another chat template than" in err
    assert f"the adapter was trained on a/b, not {base}." in err


def test_an_adapter_s_file_that_differs_is_not_kept(adapter_of, tiny_models, convert, tmp_path, monkeypatch):
    real = gguf_adapter.convert

    def other_alpha(tree, adapter, *more):
        copy = shutil.copytree(adapter, tmp_path / "copy")
        config = json.loads((copy / "adapter_config.json").read_text())
        (copy / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 9}))
        real(tree, copy, *more)

    monkeypatch.setattr(gguf_adapter, "convert", other_alpha)
    code, _, err = convert(tiny_models["llama"], "--lora", adapter_of())
    assert code == 2 and "its alpha is 9.0, in the source 8" in err and "is not kept" in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "x.gguf.log"]
