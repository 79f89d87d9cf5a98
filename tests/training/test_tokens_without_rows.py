"""A tokenizer with more tokens than the embedding has rows: refused only where it matters."""

import shutil

import pytest
from transformers import AutoTokenizer


@pytest.fixture
def base(tiny_models, tmp_path):
    """base(change) -> (a copy of the tiny Llama, whose tokenizer has one token more), changed by change()."""

    def make(change):
        folder = shutil.copytree(tiny_models["llama"], tmp_path / "base")
        words = AutoTokenizer.from_pretrained(folder)
        words.add_special_tokens({"additional_special_tokens": ["<|more|>"]})
        change(words)
        words.save_pretrained(folder)
        return folder

    return make


def commands(folder, data_file, out):
    flags = "--epochs 1 --gradient_accumulation_steps 1 --replay_share 0".split()
    data = ("--dev", "--dev_path", data_file)
    yield ("finetune_temporal", "--model_name", folder, *data, "--output_dir", out / "run", *flags)
    yield (
        "evaluate_temporal", "--model_path", folder, "--test_file", data_file, "--max_tokens", 2,
        "--output", out / "o.json",
    )  # fmt: skip


def test_a_padding_token_without_a_row(base, script, data_file, tmp_path):
    folder = base(lambda words: setattr(words, "pad_token", "<|more|>"))
    for command in commands(folder, data_file, tmp_path):
        code, _, err = script(*command)
        assert code == 0, err
    code, _, err = script(
        "merge_lora", "--base_model", folder, "--lora_path", tmp_path / "run/final",
        "--output_path", tmp_path / "merged",
    )  # fmt: skip
    assert code == 0 and "<|more|>: left out of the tokenizer" in err, err
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == 49152


def test_a_token_of_the_template_without_a_row(base, script, data_file, tmp_path):
    def use(words):
        words.chat_template = words.chat_template.replace("<|im_end|>", "<|more|>")

    folder = base(use)
    for command in commands(folder, data_file, tmp_path):
        code, _, err = script(*command)
        assert code == 2 and "has no embedding for '<|more|>', token 49152" in err, err
        assert "Traceback" not in err
