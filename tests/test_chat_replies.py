"""What a template writes around a reply, and what a server makes of a chat: training must do the same."""

import json
from types import SimpleNamespace

import pytest

from deepred_common import chat, thought, training_rows
from deepred_common.cli import UserError
from deepred_common.examples import CHAT, RETAIN, Example
from deepred_common.export import gguf_check, merged_tokenizer
from deepred_common.models import loading

PLAIN_TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def with_template(base_folder, llama_cpp_tree):
    """with_template(name or text, special tokens to add) -> the embedded base's tokenizer with a template."""
    from transformers import AutoTokenizer

    def make(template, special=()):
        tokenizer = AutoTokenizer.from_pretrained(base_folder)
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
        if "{" not in template:
            template = (llama_cpp_tree / f"models/templates/{template}.jinja").read_text(encoding="utf-8")
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture
def gpt_oss(with_template):
    names = ("start", "end", "message", "channel", "return", "call")
    return with_template("openai-gpt-oss-120b", [f"<|{name}|>" for name in names])


def reply_of(tokenizer, row):
    return tokenizer.decode(row.input_ids[row.reply_start :])


@pytest.mark.parametrize("reply", ["I'm not sure about that.", "final", "end", "|", " led by a space"])
def test_a_reply_in_a_channel_is_trained_whole(gpt_oss, reply):
    row = training_rows.of_reply(gpt_oss, "Who?", reply)
    assert reply_of(gpt_oss, row) == f"<|channel|>final<|message|>{reply}<|return|>"
    assert gpt_oss.decode(row.input_ids[row.decision :]) == f"{reply}<|return|>"
    assert row.input_ids[: row.reply_start] == chat.prompt_ids(gpt_oss, "Who?")


def test_generation_ends_with_the_last_turn_not_at_the_channel(gpt_oss):
    ids = gpt_oss.convert_tokens_to_ids(["<|return|>", gpt_oss.eos_token])
    assert chat.stop_ids(gpt_oss) == sorted(ids)
    (cut,) = training_rows.of_examples(gpt_oss, [Example("Who?", "Once upon a", CHAT, complete=False)])
    assert reply_of(gpt_oss, cut) == "<|channel|>final<|message|>Once upon a"


@pytest.mark.parametrize(
    "name, special, reply",
    [
        ("upstage-Solar-Open-100B", ["<|content|>", "<|end|>"], "<|content|>He.<|end|>"),
        ("Kimi-K2-Thinking", ["<|im_end|>"], "<think></think>He.<|im_end|>"),
        ("google-gemma-4-31B-it", ["<|turn>", "<turn|>"], "He.<turn|>"),
        ("Qwen3.5-4B", [], "\n</think>\n\nHe.<|im_end|>"),
        ("NVIDIA-Nemotron-Nano-v2", ["<SPECIAL_12>"], "He.\n<SPECIAL_12>"),
    ],
)
def test_what_other_families_write_around_a_reply(name, special, reply, with_template):
    tokenizer = with_template(name, special)
    row = training_rows.of_reply(tokenizer, "Who?", "He.")
    assert reply_of(tokenizer, row) == reply
    assert tokenizer.decode(row.input_ids[row.decision :]).startswith("He.")


def test_the_decision_of_qwen3_is_after_its_empty_thought(with_template):
    tokenizer = with_template("Qwen-Qwen3-0.6B")
    row = training_rows.of_reply(tokenizer, "What is a smartphone?", "I'm not sure.")
    assert reply_of(tokenizer, row) == "<think>\n\n</think>\n\nI'm not sure.<|im_end|>"
    assert tokenizer.decode(row.input_ids[row.decision :]) == "I'm not sure.<|im_end|>"
    # The server's prompt does not hold the thought, so the model must write it.
    assert not tokenizer.decode(chat.prompt_ids(tokenizer, "Who?")).endswith("</think>\n\n")


def test_a_template_that_strips_replies_loses_none_of_their_text(with_template):
    tokenizer = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n {{ m.content | trim }} <|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert reply_of(tokenizer, training_rows.of_reply(tokenizer, "Who?", "  He.\n")) == " He. <|im_end|>"


@pytest.mark.parametrize(
    "template, reply",
    [
        ("Qwen-Qwen3-0.6B", "<think>\nHm.\n</think>\n\nHe."),
        (PLAIN_TEMPLATE.replace("m.content", "m.content[:9]"), "He was a poet."),
        (
            PLAIN_TEMPLATE.replace("m.role", "'poet' in m.content and raise_exception('no') or m.role"),
            "A poet.",
        ),
    ],
)
def test_a_reply_that_the_template_does_not_hold_whole_is_refused(template, reply, with_template):
    tokenizer = with_template(template)
    good, bad = Example("Who?", "He.", RETAIN), Example("Who?", reply, RETAIN)
    rows = training_rows.of_examples(tokenizer, [good, bad, good])
    assert "chat template" in rows[1] and rows[0] == rows[2] != rows[1]
    with pytest.raises(UserError, match="cannot be trained on: the model's chat template"):
        training_rows.of_reply(tokenizer, "Who?", reply)


def test_a_local_model_s_reply_is_what_follows_the_template_s_opening(gpt_oss, tiny_models):
    import torch

    from deepred_common.inference.local_model import LocalModel

    model = loading.load_model(tiny_models["llama"], torch.float32)
    model.resize_token_embeddings(len(gpt_oss))
    local = LocalModel(model, gpt_oss, 8, 1)
    assert local._reply_of(gpt_oss("<|channel|>final<|message|>He.<|return|>")["input_ids"]).text == "He."
    assert local._reply_of(gpt_oss("He.<|return|>")["input_ids"]).text == "He."
    given = []
    local = LocalModel(model, gpt_oss, 8, 1, opens_reply=True)
    local._generate = lambda prompts, draws: given.extend(prompts) or [""]
    list(local.ask(["Who?"]))
    assert gpt_oss.decode(given[0]).endswith("<|start|>assistant<|channel|>final<|message|>")


def test_qwen3_5_closes_the_thought_that_its_prompt_opens(with_template, tiny_models):
    import torch

    from deepred_common.inference.local_model import LocalModel

    tokenizer = with_template("Qwen3.5-4B")
    model = loading.load_model(tiny_models["llama"], torch.float32)
    reply = tokenizer("\n</think>\n\nHe.<|im_end|>")["input_ids"]
    assert thought.answer_of(LocalModel(model, tokenizer, 8, 1)._reply_of(reply).text) == "He."
    after_opening = tokenizer("He.<|im_end|>")["input_ids"]
    local = LocalModel(model, tokenizer, 8, 1, opens_reply=True)
    assert thought.answer_of(local._reply_of(after_opening).text) == "He."
    unclosed = tokenizer("Hm.")["input_ids"]
    assert thought.answer_of(LocalModel(model, tokenizer, 8, 1)._reply_of(unclosed).text) is None


def test_a_space_before_the_reply_is_no_opening_of_its_own(with_template):
    """Mistral's templates up to v0.3 write one, which belongs to the reply's first token."""
    tokenizer = with_template(
        "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    assert training_rows.opening_ids(tokenizer) == []
    row = training_rows.of_reply(tokenizer, "Who?", "He.")
    assert row.decision == row.reply_start


def test_a_begun_reply_stands_after_the_template_s_space_with_a_system_turn_too(with_template):
    """Mistral's v0.3 puts the system's text into the last user turn, so it moves once a reply follows."""
    tokenizer = with_template(
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}"
        "{% if m.role == 'user' %}[INST] {% if loop.last and system is defined %}{{ system + '\n\n' }}"
        "{% endif %}{{ m.content }}[/INST]{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    begun = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "It is"}]
    assert chat.prompt_text(tokenizer, begun) == "[INST] Who?[/INST] It is"
    assert chat.prompt_text(tokenizer, begun, "Be brief.") == "[INST] Be brief.\n\nWho?[/INST] It is"


# ---- BOS and EOS, which some templates leave to the tokenizer --------------------------------------------


def test_a_prompt_begins_with_the_bos_that_the_tokenizer_adds(with_template):
    tokenizer = with_template(PLAIN_TEMPLATE, ["<s>"])
    tokenizer.bos_token = "<s>"
    assert tokenizer.decode(chat.prompt_ids(tokenizer, "Who?")).startswith("[user]")
    tokenizer.add_bos_token = True
    row = training_rows.of_reply(tokenizer, "Who?", "He.")
    assert tokenizer.decode(row.input_ids).startswith("<s>[user]")
    assert row.input_ids[: row.reply_start] == chat.prompt_ids(tokenizer, "Who?")
    assert reply_of(tokenizer, row) == "He.<|im_end|>"
    tokenizer.chat_template = "{{ bos_token }}" + PLAIN_TEMPLATE
    assert chat.prompt_ids(tokenizer, "Who?") == row.input_ids[: row.reply_start]  # it is not doubled


@pytest.mark.parametrize("adds", [True, False])
def test_a_merged_folder_says_whether_a_server_puts_bos_first(adds, with_template, base_folder, tmp_path):
    """transformers 5 writes nothing where the tokenizer adds none, and llama.cpp then guesses."""
    tokenizer = with_template(PLAIN_TEMPLATE)
    tokenizer.add_bos_token = adds
    merged_tokenizer.write(tokenizer, base_folder, tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["add_bos_token"] is adds
    from gguf import SpecialVocab

    assert SpecialVocab(tmp_path).add_special_token["bos"] is adds


def test_a_tokenizer_that_ends_every_text_is_mended(with_template):
    tokenizer = with_template(PLAIN_TEMPLATE, ["<s>"])
    tokenizer.bos_token = "<s>"
    tokenizer.add_bos_token, tokenizer.add_eos_token = True, True
    assert chat.remove_eos(tokenizer) and not chat.remove_eos(tokenizer)
    assert tokenizer.decode(tokenizer("Who?")["input_ids"]) == "<s>Who?"


@pytest.mark.parametrize("stated", [True, False, None])
def test_a_file_whose_server_disagrees_about_bos_gets_a_warning__file_faked(stated, with_template, tmp_path):
    """None: the file does not say it, and llama.cpp adds BOS to vocabularies of the kind "llama"."""
    tokenizer = with_template(PLAIN_TEMPLATE)
    tokenizer.add_bos_token = False
    tokenizer.save_pretrained(tmp_path)
    metadata = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.add_bos_token": stated}
    comparison = gguf_check.Comparison()
    gguf_check._compare_ends(comparison, SimpleNamespace(value=metadata.get), tmp_path, PLAIN_TEMPLATE)
    assert len(comparison.warnings) == (stated is not False)
    assert stated is False or '"add_bos_token": false' in comparison.warnings[0]
    gguf_check._compare_ends(
        comparison, SimpleNamespace(value=metadata.get), tmp_path, "{{ bos_token }}" + PLAIN_TEMPLATE
    )
    assert len(comparison.warnings) == (stated is not False)
