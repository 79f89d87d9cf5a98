"""Every family of the spec's tables, tiny and with random weights: rendered, trained, merged, loaded again.

Templates are the families' own. So are the tokenizers of Llama 3, Qwen2.5 and Phi-3; Gemma's and Mistral's
are in no package registry, so those two borrow Llama 2's vocabulary with their own turn tokens added.
"""

import json
import shutil

import pytest
import torch
from conftest import ROOT
from safetensors import safe_open

from deepred_common import chat, template_changes, training_rows
from deepred_common.examples import Example
from deepred_common.models import loading

FUSED = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
SEPARATE = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
FAMILIES = {
    # name: (vocabulary, template, turn tokens to add, bos, eos, LoRA targets, the token that ends a turn)
    "llama": (
        "llama-bpe",
        "meta-llama-Llama-3.2-3B-Instruct",
        (),
        "<|begin_of_text|>",
        "<|eot_id|>",
        SEPARATE,
        "<|eot_id|>",
    ),
    "qwen2": ("qwen2", "Qwen-Qwen2.5-7B-Instruct", (), None, "<|im_end|>", SEPARATE, "<|im_end|>"),
    "phi3": ("phi-3", "microsoft-Phi-3.5-mini-instruct", (), "<s>", "<|endoftext|>", FUSED, "<|end|>"),
    "gemma2": (
        "llama-spm",
        "google-gemma-2-2b-it",
        ("<start_of_turn>", "<end_of_turn>"),
        "<s>",
        "</s>",
        SEPARATE,
        "<end_of_turn>",
    ),
    "mistral": (
        "llama-spm",
        "mistralai-Mistral-Nemo-Instruct-2407",
        ("[INST]", "[/INST]"),
        "<s>",
        "</s>",
        SEPARATE,
        "</s>",
    ),
}


@pytest.fixture(scope="module")
def family(tmp_path_factory, llama_cpp_tree):
    """family(name) -> (model folder, made once, and a fresh tokenizer of it)."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folders = {}

    def make(name):
        if name not in folders:
            vocabulary, template, turns, bos, eos, *_ = FAMILIES[name]
            tokenizer = AutoTokenizer.from_pretrained(
                llama_cpp_tree / "models", gguf_file=f"ggml-vocab-{vocabulary}.gguf"
            )
            tokenizer.add_special_tokens({"additional_special_tokens": list(turns)} if turns else {})
            tokenizer.bos_token, tokenizer.eos_token = bos, eos
            if name == "phi3":
                tokenizer.add_bos_token = False  # as Phi-3.5's own; llama.cpp's file is of an earlier Phi-3
            tokenizer.pad_token = None if name == "mistral" else tokenizer.eos_token
            tokenizer.chat_template = (llama_cpp_tree / f"models/templates/{template}.jinja").read_text(
                encoding="utf-8"
            )
            torch.manual_seed(0)
            config = AutoConfig.for_model(
                name,
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=16,
                max_position_embeddings=2048,
                sliding_window=1024,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
            folder = tmp_path_factory.mktemp("families") / name
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            folders[name] = folder
        return folders[name], AutoTokenizer.from_pretrained(folders[name])

    return make


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_begin_once_and_end_with_the_turn(name, family):
    _, tokenizer = family(name)
    turn_end = FAMILIES[name][6]
    template_changes.remove_dates(tokenizer)
    (row,) = training_rows.of_examples(
        tokenizer, [Example("Who wrote Hamlet?", "Shakespeare wrote it.", "retain")]
    )
    # Qwen2.5 has no token to begin with, and Phi-3.5's own template leaves it out.
    assert row.input_ids.count(tokenizer.bos_token_id) == (name in ("llama", "gemma2", "mistral"))
    assert (
        tokenizer.decode(row.input_ids[-1]) == turn_end
        and row.input_ids.count(row.input_ids[-1]) <= row.reply_start + 1
    )
    assert (
        tokenizer.decode(row.input_ids[row.reply_start :]).strip().replace(". <", ".<")
        == f"Shakespeare wrote it.{turn_end}"
    )
    assert row.input_ids[: row.reply_start] == chat.prompt_ids(tokenizer, "Who wrote Hamlet?")
    # The reply's end is learned although padding may be the same token: labels go by place.
    assert row.labels[-1] == row.input_ids[-1]


def test_llama_s_date_lines_are_removed(family):
    _, tokenizer = family("llama")
    assert "Today Date" in chat.prompt_text(tokenizer, "Who?") and template_changes.date_in_prompt(tokenizer)
    assert template_changes.remove_dates(tokenizer)
    prompt = chat.prompt_text(tokenizer, "Who?")
    assert "Date" not in prompt and template_changes.date_in_prompt(tokenizer) is None
    assert prompt == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert not template_changes.remove_dates(tokenizer)


def test_gemma_s_missing_system_role_goes_into_the_user_turn(family):
    _, tokenizer = family("gemma2")
    assert "<start_of_turn>user\nBe brief.\nWho?<end_of_turn>" in chat.prompt_text(
        tokenizer, "Who?", "Be brief."
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_trained_merged_and_loaded_again(name, family, script, data_file, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, tokenizer = family(name)
    run, merged = tmp_path / "run", tmp_path / "merged"
    code, _, err = script(
        "finetune_temporal",
        "--model_name",
        folder,
        "--dev",
        "--dev_path",
        data_file,
        "--output_dir",
        run,
        "--epochs",
        2,
        "--gradient_accumulation_steps",
        1,
        "--learning_rate",
        "1e-2",
    )
    assert code == 0, err
    assert ("these lines are removed" in err) == (name == "llama")
    with safe_open(run / "final/adapter_model.safetensors", "pt") as adapter:
        keys = list(adapter.keys())
    assert {key.split(".")[-3] for key in keys} == FAMILIES[name][5]
    assert len(keys) == 2 * 3 * len(FAMILIES[name][5])
    code, _, err = script(
        "merge_lora",
        "--base_model",
        folder,
        "--lora_path",
        run / "final",
        "--output_path",
        merged,
        "--dtype",
        "float32",
        "--verify",
    )
    assert code == 0, err
    model, words = (
        AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32),
        AutoTokenizer.from_pretrained(merged),
    )
    ids = torch.tensor([chat.prompt_ids(words, "Who wrote Hamlet?")])
    template_changes.remove_dates(tokenizer)
    assert ids[0].tolist() == chat.prompt_ids(tokenizer, "Who wrote Hamlet?")
    untouched = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        assert not torch.allclose(model(ids).logits, untouched(ids).logits, atol=1e-3)
    stops = json.loads((merged / "generation_config.json").read_text())["eos_token_id"]
    assert words.convert_tokens_to_ids(FAMILIES[name][6]) in (stops if isinstance(stops, list) else [stops])


# llama.cpp reads these families' tokenizer.model, so one is trained here.
SENTENCEPIECE = ("phi3", "gemma2", "mistral")


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A small SentencePiece model of our own, with the turn tokens of all families in it."""
    import sentencepiece

    prefix = tmp_path_factory.mktemp("pieces") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        input=str(ROOT / "README.md"),
        model_prefix=str(prefix),
        vocab_size=900,
        model_type="bpe",
        byte_fallback=True,
        bos_id=1,
        eos_id=2,
        unk_id=0,
        user_defined_symbols=[
            "<start_of_turn>",
            "<end_of_turn>",
            "[INST]",
            "[/INST]",
            "<|user|>",
            "<|assistant|>",
            "<|end|>",
        ],
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_s_gguf_file_is_the_same_as_its_source(
    name, family, pieces, script, llama_cpp_tree, tmp_path
):
    """Each family is stored in its own way; the comparison must not take that for a difference."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder, tokenizer = family(name)
    if name in SENTENCEPIECE:
        config = AutoConfig.from_pretrained(folder)
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(pieces, folder / "tokenizer.model")
        (folder / "tokenizer_config.json").write_text(
            json.dumps(
                {
                    "tokenizer_class": "LlamaTokenizer",
                    "bos_token": "<s>",
                    "eos_token": "</s>",
                    "unk_token": "<unk>",
                    "legacy": False,
                }
            )
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id = (
            len(tokenizer),
            1,
            2,
            2,
        )
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        shutil.copy(pieces, folder / "tokenizer.model")
    code, out, err = script(
        "convert_to_gguf",
        "--model_path",
        folder,
        "--output_path",
        tmp_path / "x.gguf",
        "--quant_type",
        "q8_0",
        "--llama_cpp_path",
        llama_cpp_tree,
    )
    assert code == 0, err
    special = "/".join(kind for kind in ("bos", "eos", "pad") if getattr(tokenizer, f"{kind}_token"))
    assert f"{special}, rotary base 10000, context length 2048, chat template" in out and "Q8_0 0." in out


@pytest.fixture
def same_tokens(script, llama_cpp_tree, tmp_path):
    """same_tokens(model folder): its GGUF file is made and served; prompts have the model's tokens."""

    def check(folder):
        flags = ["--llama_cpp_path", llama_cpp_tree, "--quant_type", "f16", "--verify"]
        gguf = tmp_path / "m.gguf"
        code, out, err = script("convert_to_gguf", "--model_path", folder, "--output_path", gguf, *flags)
        assert code == 0 and "Token ids: the same for 40 of 40 prompts" in out, err

    return check


@pytest.fixture
def model_of_pieces(pieces, tmp_path):
    """model_of_pieces(kind, template, new tokens, **special ids) -> the folder of such a model."""
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaTokenizer

    def make(kind, template, new_tokens=(), **ids):
        folder = tmp_path / "model"
        folder.mkdir()
        shutil.copy(pieces, folder / "tokenizer.model")
        tokenizer = LlamaTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"additional_special_tokens": list(new_tokens)} if new_tokens else {})
        tokenizer.add_bos_token = True
        tokenizer.chat_template = template
        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
        config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **shape, **ids)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


def test_a_server_puts_first_the_bos_that_is_trained(model_of_pieces, same_tokens):
    """As TinyLlama and Zephyr: the template writes none, the tokenizer adds it."""
    template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    folder = model_of_pieces("llama", template)
    tokenizer = loading.load_tokenizer(folder)
    row = training_rows.of_reply(tokenizer, "Who?", "He.")
    assert row.input_ids[0] == tokenizer.bos_token_id
    assert row.input_ids[: row.reply_start] == chat.prompt_ids(tokenizer, "Who?")
    same_tokens(folder)


def test_a_server_takes_away_the_line_breaks_that_phi_3_s_tokenizer_does(
    model_of_pieces, same_tokens, llama_cpp_tree
):
    """Its special tokens take the white space after them away; llama.cpp goes by the model's name there."""
    template = llama_cpp_tree / "models/templates/microsoft-Phi-3.5-mini-instruct.jinja"
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    folder = model_of_pieces("phi3", template.read_text(encoding="utf-8"), ["<|endoftext|>"], **ids)
    words = json.loads((folder / "tokenizer.json").read_text())
    for token in words["added_tokens"]:
        if token["content"] in ("<|user|>", "<|assistant|>", "<|end|>"):
            token |= {"special": True, "rstrip": True, "normalized": False}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Prepend", "prepend": "▁"}
    words["normalizer"] = {"type": "Sequence", "normalizers": [prepend, replace]}
    words["pre_tokenizer"] = words["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(words))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"add_bos_token": False}))
    tokenizer = loading.load_tokenizer(folder)
    assert tokenizer.convert_tokens_to_ids("<0x0A>") not in chat.prompt_ids(tokenizer, "Who?")
    same_tokens(folder)


def test_a_server_puts_no_second_space_after_mistral_s_inst(model_of_pieces, same_tokens, llama_cpp_tree):
    """Its tokenizer puts no space before a text after [INST]: its template has written one.

    [INST] is not split either, although the converter would not see by itself that it is a token.
    """
    file = llama_cpp_tree / "models/templates/mistralai-Mistral-Nemo-Instruct-2407.jinja"
    template = file.read_text(encoding="utf-8").replace('"[INST]"', '"[INST] "')
    same_tokens(model_of_pieces("mistral", template))


@pytest.fixture
def model_with_template(tiny_models, llama_cpp_tree, tmp_path):
    """model_with_template(name of llama.cpp's template) -> a model's folder with it."""

    def make(name):
        folder = shutil.copytree(tiny_models["llama"], tmp_path / "model")
        template = (llama_cpp_tree / f"models/templates/{name}.jinja").read_text(encoding="utf-8")
        for end_of_turn in ("<turn|>", "<｜end▁of▁sentence｜>"):
            template = template.replace(end_of_turn, "<|im_end|>")
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize(
    "name, ending",
    [
        ("Qwen-Qwen3-0.6B", "<think>\n\n</think>\n\n"),
        ("google-gemma-4-31B-it", "<|channel>thought\n<channel|>"),
    ],
)
def test_an_untuned_model_that_could_think_gets_the_same_prompt_here_and_from_our_server(
    name, ending, model_with_template, same_tokens
):
    folder = model_with_template(name)
    assert chat.prompt_text(loading.load_tokenizer(folder), "Who?").endswith(ending)
    same_tokens(folder)


@pytest.mark.parametrize("name", ["google-gemma-4-31B-it", "deepseek-ai-DeepSeek-V3.2"])
def test_a_template_that_was_answered_for_training_gives_the_same_prompt_in_a_server(
    name, model_with_template, same_tokens
):
    folder = model_with_template(name)
    loading.load_tokenizer(folder).save_pretrained(folder)  # as a training does
    same_tokens(folder)
