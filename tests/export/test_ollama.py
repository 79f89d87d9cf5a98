"""A Modelfile's template, rendered as Ollama would, against the model's own chat template.

Rendered here by Jinja, action for action, not by Ollama. Go's own text/template gave the same.
"""

import re
from pathlib import Path

import jinja2
import pytest

from deepred_common import chat, template_changes
from deepred_common.cli import UserError
from deepred_common.export import ollama

# Written from the documented forms; the others are llama.cpp's copies of the families' own files.
WRITTEN_HERE = {
    "ChatML": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "Llama 3": (
        "{% for m in messages %}{% set text = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + "
        "m.content | trim + '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}"
        "{{ text }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    ),
    "Phi-3-mini, which drops a system prompt": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>\n' + m.content + "
        "'<|end|>\n<|assistant|>\n' }}{% elif m.role == 'assistant' %}{{ m.content + '<|end|>\n' }}"
        "{% endif %}{% endfor %}"
    ),
    "Gemma 3, the system prompt in the first question": (
        "{{ bos_token }}{% set prefix = '' %}{% if messages[0].role == 'system' %}"
        "{% set prefix = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + "
        "'\n' + (prefix if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "Mistral v1, which refuses a system prompt": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ m.content + eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
        "{% endfor %}"
    ),
    "Mistral v3, the system prompt in the last question": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + (system + '\n\n' if loop.last and system is defined else '') + m.content + "
        "'[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    ),
    "Llama 2, a BOS before each question": (
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ bos_token + '[INST] ' + ('<<SYS>>\n' + system + '\n<</SYS>>\n\n' if loop.first and system is "
        "defined else '') + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    "braces, quotes and a character that cannot be seen": (
        "{% for m in messages %}{{ '{\"\"\"\u00a0' + m.role + '{{' + m.content + '{' }}{% endfor %}"
    ),
}
FROM_LLAMA_CPP = [
    "meta-llama-Llama-3.2-3B-Instruct",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "microsoft-Phi-3.5-mini-instruct",
    "google-gemma-2-2b-it",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "openai-gpt-oss-120b",
]


# What we write in Go's template language, and the same in Jinja's.
GO_AS_JINJA = {
    r"range \$i, \$_ := \.Messages": "{% for m in messages %}",
    r"\$left := len \(slice \$\.Messages \$i\)": "{% set left = messages | length - loop.index0 %}",
    r"if \$\.System": "{% if system %}",
    r'if eq \.Role "(\w+)"': r"{% if m.role == '\1' %}",
    r'else if eq \.Role "(\w+)"': r"{% elif m.role == '\1' %}",
    r"if eq \(len \$\.Messages\) (\d)": r"{% if messages | length == \1 %}",
    r"if eq \$left (\d)": r"{% if left == \1 %}",
    r"if gt \$left (\d)": r"{% if left > \1 %}",
    r"else": "{% else %}",
    r"end": "{% endif %}",
    r"\.Content": "{{ m.content }}",
    r"\$\.System": "{{ system }}",
    r'"((?:\\U\w{8})+)"': r"{{ '\1' }}",
}


def rendered_by_go(template, messages):
    """What Ollama makes of a Modelfile's template: it gets .Messages, and the system's ones as .System."""
    texts = re.split(r"\{\{ (.*?) \}\}", template, flags=re.DOTALL)  # text, action, text, action … text
    jinja = "{{ texts[0] }}"
    for place in range(1, len(texts), 2):
        (action,) = (
            re.sub(go, own, texts[place]) for go, own in GO_AS_JINJA.items() if re.fullmatch(go, texts[place])
        )
        jinja += f"{action}{{{{ texts[{place + 1}] }}}}"
    before, _, after = jinja.rpartition("{% endif %}")  # the last action ends the loop
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    return jinja2.Template(before + "{% endfor %}" + after).render(
        texts=texts, messages=messages, system=system
    )


def from_modelfile(text):
    """The TEMPLATE of a Modelfile as Ollama reads it: characters that cannot be seen are dropped."""
    written = re.search(r'TEMPLATE """(.*?)"""\n', text, re.DOTALL)[1]
    return "".join(character for character in written if character.isprintable() or character in "\n\t")


@pytest.fixture
def words():
    """A tokenizer of three tokens that puts BOS before a text, as Llama's and Mistral's do."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "?": 2}, unk_token="?"))
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="?")


def require_same_prompts(tokenizer):
    template = from_modelfile(f'TEMPLATE """{ollama.template(tokenizer)}"""\n')
    # Ollama adds what the tokenizer adds.
    added = tokenizer.decode(tokenizer("")["input_ids"])
    for system in (None, "Be brief."):
        for questions in (1, 2, 3, 5):
            turns = [
                {"role": role, "content": f"{role} {number}"}
                for number in range(questions)
                for role in ("user", "assistant")
            ][:-1]
            prompt = chat.prompt_text(tokenizer, turns, system)
            assert rendered_by_go(template, chat.messages(turns, system)) == prompt.removeprefix(added)


@pytest.mark.parametrize("name", [*WRITTEN_HERE, *FROM_LLAMA_CPP])
def test_prompts_are_the_chat_template_s__with_and_without_a_system_prompt(name, words, llama_cpp_tree):
    file = llama_cpp_tree / f"models/templates/{name}.jinja"
    words.chat_template = WRITTEN_HERE.get(name) or file.read_text(encoding="utf-8")
    template_changes.remove_dates(words)
    require_same_prompts(words)


@pytest.mark.parametrize("name", ["own", "fallback"])
def test_smollm2_whose_bos_token_is_its_template_s_to_write(name, tokenizer):
    own = tokenizer.chat_template
    try:
        if name == "fallback":
            tokenizer.chat_template = None
            chat.ensure_template(tokenizer)
        require_same_prompts(tokenizer)
    finally:
        tokenizer.chat_template = own


def test_the_name_in_the_command_is_one_that_ollama_takes():
    assert ollama.create_command(Path("my models/Gemma é.gguf"), "my models/x.Modelfile") == (
        "ollama create Gemma -f 'my models/x.Modelfile'"
    )


def test_what_a_modelfile_cannot_express_is_refused(words):
    for template in (
        "{% for m in messages %}{{ loop.index ~ ': ' ~ m.content }}{% endfor %}",  # a number for each turn
        "{{ messages[-1].content }}",  # earlier turns are not shown
    ):
        words.chat_template = template
        with pytest.raises(UserError, match="Leave --modelfile out"):
            ollama.template(words)
    words.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        ollama.template(words)
