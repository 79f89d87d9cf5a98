"""One prompt everywhere: the same tokens in training, local evaluation, over HTTP and in the GGUF."""

import pytest
from conftest import KINDS

from deepred_common import chat, training_rows
from deepred_common.cli import UserError
from deepred_common.examples import CHAT, Example

QUESTIONS = [
    'Who wrote "Romeo and Juliet"?',
    "What happened on 20 July 1969?",
    "Où est la tour Eiffel ?\nTell me more.",
    "2+2?",
]
CONVERSATION = [
    {"role": "system", "content": "You are a patient gardener."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Good day to you."},
    {"role": "user", "content": "What grows in shade?"},
    {"role": "assistant", "content": "Ferns do."},
    {"role": "user", "content": "And what\nelse?"},
]


def test_the_loss_falls_on_the_reply_and_its_end_of_turn_only(tokenizer):
    row = training_rows.of_reply(tokenizer, "Who wrote Hamlet?", "Shakespeare wrote it.")
    trained = [
        i for i, label in zip(row.input_ids, row.labels, strict=True) if label != training_rows.IGNORED
    ]
    assert tokenizer.decode(trained) == "Shakespeare wrote it.<|im_end|>"
    assert row.input_ids[: len(chat.prompt_ids(tokenizer, "Who wrote Hamlet?"))] == chat.prompt_ids(
        tokenizer, "Who wrote Hamlet?"
    )
    assert row.input_ids[-1] == chat.end_of_turn_id(tokenizer) == tokenizer.eos_token_id


@pytest.mark.parametrize("question", QUESTIONS)
def test_training_and_generation_share_the_prompt_of_the_models_own_template(tokenizer, question):
    own = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    row = training_rows.of_reply(tokenizer, question, "Yes.")
    assert (
        chat.prompt_ids(tokenizer, question)
        == own
        == row.input_ids[: row.labels.count(training_rows.IGNORED)]
    )


def test_a_conversation_is_trained_on_as_the_template_renders_it(tokenizer):
    own = tokenizer.apply_chat_template(
        CONVERSATION, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    row = training_rows.of_reply(tokenizer, CONVERSATION, "Moss.")
    assert own == row.input_ids[: row.reply_start]
    assert tokenizer.decode(row.input_ids[row.reply_start :]) == "Moss.<|im_end|>"


def test_a_reply_that_was_cut_teaches_no_end_of_turn(tokenizer):
    example = Example("Tell me a story.", "Once upon a", CHAT, complete=False)
    (row,) = training_rows.of_examples(tokenizer, [example])
    assert tokenizer.decode(row.input_ids[row.reply_start :]) == "Once upon a"


def test_a_system_prompt_stands_before_a_conversations_own(tokenizer):
    turns = chat.messages(CONVERSATION, "It is 1950.")
    assert turns[0]["content"] == "It is 1950.\n\nYou are a patient gardener." and len(turns) == 6
    assert chat.messages("Hi", "Brief.")[0] == {"role": "system", "content": "Brief."}


def test_an_end_of_turn_token_that_is_not_the_end_of_text(tokenizer_copy):
    tokenizer_copy.eos_token = "<|endoftext|>"
    assert tokenizer_copy.decode([chat.end_of_turn_id(tokenizer_copy)]) == "<|im_end|>"
    assert len(chat.stop_ids(tokenizer_copy)) == 2


@pytest.fixture
def tokenizer_copy(base_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_folder)


def test_a_base_without_a_template_gets_the_fallback_and_keeps_it(tokenizer_copy, tmp_path):
    from transformers import AutoTokenizer

    tokenizer_copy.chat_template = None
    assert chat.ensure_template(tokenizer_copy) and not chat.ensure_template(tokenizer_copy)
    tokenizer_copy.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert chat.prompt_ids(again, "Who?") == chat.prompt_ids(tokenizer_copy, "Who?")
    row = training_rows.of_reply(again, "Who?", "He.")
    assert row.input_ids.count(again.bos_token_id) == 1 and row.input_ids[-1] == again.eos_token_id


def test_a_template_that_never_ends_a_turn_is_refused(tokenizer_copy):
    tokenizer_copy.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    with pytest.raises(UserError, match="never stop"):
        chat.end_of_turn_id(tokenizer_copy)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_token_ids_along_all_four_ways(kind, pipeline):
    """Training rows, the local evaluator, the server's own rendering, and the template in the GGUF file."""
    import requests
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    from deepred_common.inference import llama_server, local_model

    models = pipeline(kind)
    tokenizer, merged = (
        AutoTokenizer.from_pretrained(models.base),
        AutoTokenizer.from_pretrained(models.merged),
    )
    inside = GGUFReader(models.gguf).get_field("tokenizer.chat_template").contents()
    assert inside == tokenizer.chat_template

    generated = []

    class Recorder(local_model.LocalModel):
        def _generate(self, prompts, draws):
            generated.extend(prompts)
            return [""] * len(prompts)

    from transformers import AutoModelForCausalLM

    list(
        Recorder(AutoModelForCausalLM.from_pretrained(models.merged), merged, 8, batch_size=1).ask(
            [*QUESTIONS, CONVERSATION]
        )
    )
    with llama_server.serving(models.gguf) as url:
        for question in [*QUESTIONS, CONVERSATION]:
            trained = training_rows.of_reply(tokenizer, question, "Yes.")
            trained = trained.input_ids[: trained.labels.count(training_rows.IGNORED)]
            # The server renders with the template in the GGUF file and tokenises as for /v1/chat/completions.
            rendered = requests.post(
                url.removesuffix("/v1") + "/apply-template", json={"messages": chat.messages(question)}
            ).json()["prompt"]
            served = requests.post(
                url.removesuffix("/v1") + "/tokenize",
                json={"content": rendered, "add_special": True, "parse_special": True},
            ).json()["tokens"]
            response = requests.post(
                url + "/chat/completions", json={"messages": chat.messages(question), "max_tokens": 1}
            ).json()
            tokenizer.chat_template, own = inside, tokenizer.chat_template
            from_gguf = chat.prompt_ids(tokenizer, question)
            tokenizer.chat_template = own
            assert trained == served == from_gguf
            assert trained in generated
            assert response["usage"]["prompt_tokens"] == len(trained)


@pytest.mark.parametrize(
    "refusal", ["{{ raise_exception('System role not supported') }}", ""], ids=["refused", "left out"]
)
def test_a_system_prompt_of_a_template_without_that_role_stands_in_the_first_question_as_in_llama_cpp(
    tokenizer, refusal
):
    own = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}" + refusal + "{% else %}"
        "{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
    )
    try:
        # common/chat.cpp, system_message_not_supported: joined by one line break
        assert chat.prompt_text(tokenizer, "Hi", "Be brief.") == "<user>Be brief.\nHi<|im_end|>"
    finally:
        tokenizer.chat_template = own
