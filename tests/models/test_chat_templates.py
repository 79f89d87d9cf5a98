"""Several chat templates, each with a name; and what is changed in a template when it is loaded."""

import pytest

from deepred_common import chat, template_changes, training_rows
from deepred_common.cli import UserError
from deepred_common.models import folders, loading

TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"


@pytest.fixture
def tokenizer_copy(base_folder):
    return loading.load_tokenizer(base_folder)


@pytest.mark.parametrize("legacy", [False, True])
def test_of_several_templates_the_default_is_taken_and_said(legacy, tokenizer_copy, tmp_path, capsys):
    tokenizer_copy.chat_template = {"tool_use": "tools", "default": TEMPLATE}
    tokenizer_copy.save_pretrained(tmp_path, save_jinja_files=not legacy)
    loaded = loading.load_tokenizer(tmp_path)
    assert loaded.chat_template == TEMPLATE == folders.read_chat_template(tmp_path)
    line = capsys.readouterr().err
    assert "several chat templates" in line and "`default` is used" in line and line.count("\n") == 1


def test_several_templates_without_a_default_are_named(tokenizer_copy, tmp_path):
    tokenizer_copy.chat_template = {"rag": TEMPLATE, "tool_use": TEMPLATE}
    tokenizer_copy.save_pretrained(tmp_path, save_jinja_files=False)
    for read in (loading.load_tokenizer, folders.read_chat_template):
        with pytest.raises(UserError, match=r"\(rag, tool_use\), and none is named `default`"):
            read(tmp_path)


TAGGED = (
    "{%- for m in messages %}\n  {% if m.role == 'assistant' %}\n"
    "{{- '<|im_start|>assistant\n' -}}\n    {%- generation -%} {{ m.content }}<|im_end|>\n"
    "  {% endgeneration %}\n"
    "  {% else %}\n<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n  {% endif %}\n{% endfor %}"
)


def test_generation_tags_which_only_transformers_knows_become_tags_that_change_nothing(
    tokenizer_copy, tmp_path
):
    """SmolLM3 has them, and every template that trl prepares for a loss on the assistant's turns."""
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}] * 2
    tokenizer_copy.chat_template = TAGGED
    with_tags = tokenizer_copy.apply_chat_template(turns, tokenize=False)
    tokenizer_copy.save_pretrained(tmp_path)
    loaded = loading.load_tokenizer(tmp_path)
    assert "generation" not in loaded.chat_template
    assert loaded.apply_chat_template(turns, tokenize=False) == with_tags


@pytest.fixture
def loaded_with(tokenizer_copy, llama_cpp_tree, tmp_path):
    """loaded_with(name of llama.cpp's template, special tokens) -> a tokenizer with it, saved and loaded."""

    def make(name, special=()):
        tokenizer_copy.add_special_tokens({"additional_special_tokens": list(special)} if special else {})
        template = (llama_cpp_tree / f"models/templates/{name}.jinja").read_text(encoding="utf-8")
        tokenizer_copy.chat_template = template
        tokenizer_copy.save_pretrained(tmp_path)
        return loading.load_tokenizer(tmp_path), template

    return make


@pytest.mark.parametrize(
    "name, ending, reply",
    [
        ("Qwen-Qwen3-0.6B", "<|im_start|>assistant\n<think>\n\n</think>\n\n", "He.<|im_end|>"),
        ("Qwen3.5-4B", "<|im_start|>assistant\n<think>\n\n</think>\n\n", "He.<|im_end|>"),
        ("HuggingFaceTB-SmolLM3-3B", "<|im_start|>assistant\n<think>\n\n</think>\n", "He.<|im_end|>"),
        # These leave the empty thought out of the replies that were given.
        ("google-gemma-4-31B-it", "Who?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>", "He.<turn|>"),
        (
            "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
            "<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>",
            "<|START_RESPONSE|>He.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
        ),
        # Only with a thought can it be used for training.
        ("deepseek-ai-DeepSeek-V3.2", "<｜Assistant｜><think>", "</think>He.<｜end▁of▁sentence｜>"),
    ],
)
def test_a_template_that_asks_for_thoughts_is_answered_by_itself_and_trained_without_where_it_can_be(
    name, ending, reply, loaded_with, tmp_path
):
    special = ["<|turn>", "<turn|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>"]
    tokenizer, _ = loaded_with(name, special)
    turns = [{"role": "user", "content": "Who?"}]
    prompt = chat.prompt_text(tokenizer, "Who?")
    assert prompt.endswith(ending) and "<|think|>" not in prompt
    row = training_rows.of_reply(tokenizer, "Who?", "He.")
    assert tokenizer.decode(row.input_ids[: row.reply_start]) == prompt
    assert tokenizer.decode(row.input_ids[row.reply_start :]) == reply
    # A server renders the saved template so, too, whether or not it lets the model think.
    for options in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **options)
        assert text == prompt
    tokenizer.save_pretrained(tmp_path)
    assert loading.load_tokenizer(tmp_path).chat_template == tokenizer.chat_template


@pytest.mark.parametrize("name", ["Qwen-Qwen2.5-7B-Instruct", "NVIDIA-Nemotron-Nano-v2"])
def test_a_template_that_does_not_ask_or_whose_prompts_do_not_change_stays_as_it_is(name, loaded_with):
    tokenizer, template = loaded_with(name)
    assert tokenizer.chat_template == template


@pytest.mark.parametrize(
    "name, kept",
    [
        ("HuggingFaceTB-SmolLM3-3B", "## Metadata\n\nReasoning Mode: /no_think\n\n## Custom"),
        ("ibm-granite-granite-3.3-2B-Instruct", "<|end_of_role|>You are Granite, developed by IBM. You are"),
        ("meta-llama-Llama-3.3-70B-Instruct", "<|end_header_id|>\n\n<|eot_id|>"),
    ],
)
def test_a_date_is_taken_out_of_every_prompt_and_nothing_else(name, kept, loaded_with):
    tokenizer, _ = loaded_with(name)
    assert "Date" in chat.prompt_text(tokenizer, "Who?")
    assert template_changes.remove_dates(tokenizer) and not template_changes.date_in_prompt(tokenizer)
    prompt = chat.prompt_text(tokenizer, "Who?")
    assert kept in prompt and "Date" not in prompt
    assert not template_changes.remove_dates(tokenizer)


# Its default system prompt, as Granite 3.1 and 3.2 begin it.
GRANITE = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Knowledge Cutoff Date: April 2024.\\nToday's Date: " + strftime_now('%B %d, %Y')
 + ".\\nYou are Granite, developed by IBM." %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\\n' }}
{%- for message in loop_messages %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] }}
    {{- '<|end_of_text|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_of_role|>assistant<|end_of_role|>' }}
{%- endif %}"""


@pytest.mark.parametrize("line_break", ["\\n", "\n"])
def test_the_dates_of_granite_3_1_stand_in_lines_of_their_own(line_break, tokenizer_copy):
    """Some copies have real line breaks in the text, the others Jinja's sign for them."""
    tokenizer_copy.chat_template = GRANITE.replace("\\n", line_break)
    assert "April 2024" in chat.prompt_text(tokenizer_copy, "Who?")
    assert template_changes.remove_dates(tokenizer_copy)
    assert template_changes.date_in_prompt(tokenizer_copy) is None
    assert chat.prompt_text(tokenizer_copy, "Who?").startswith(
        "<|start_of_role|>system<|end_of_role|>You are Granite, developed by IBM.<|end_of_text|>"
    )
