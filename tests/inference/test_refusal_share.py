"""Reply.refusal_share: what a local model and servers say of the first token."""

import math

import pytest
from fake_server import reply_with, running

from deepred_common import chat, refusal_openers, training_rows
from deepred_common.inference.api_model import ApiModel
from deepred_common.inference.local_model import LocalModel
from deepred_common.models import loading

QUESTIONS = ["Who?", "What is the capital of France, and why was it chosen?", "Name a bird."]
# What Qwen3's template writes into every reply, and the model after it.
EMPTY_THOUGHT = ("<think>", "\n\n", "</think>", "\n\n")


@pytest.fixture
def server():
    with running() as server:
        yield server


def token(text, *likeliest):
    """A token as servers send it, with the likeliest ones in its place: (text, probability)."""
    top = [{"token": other, "logprob": math.log(share)} for other, share in likeliest]
    return {"token": text, "logprob": -0.1, "top_logprobs": top}


SORRY = token("Sorry", ("Sorry", 0.5), (" I", 0.25), ("The", 0.125), ("France", 0.0625))
ANSWER = token("Paris", ("Paris", 0.9375), ("I", 0.0625))
DOT = token(".", (".", 1.0))


def share_of(server, tokens, text="Sorry.", **message):
    """The refusal_share of a reply with these tokens."""
    message = {"content": text, **message}
    logprobs = {"content": tokens} if isinstance(tokens, list) else tokens
    server.answer = lambda n, question: reply_with("", message=message, logprobs=logprobs)
    (reply,) = dict(ApiModel(server.url, None, 8, probabilities=True).ask(["Who?"])).values()
    return reply.refusal_share


def test_a_server_s_probabilities_of_what_begins_a_refusal_are_added_up(server):
    assert share_of(server, [SORRY, DOT]) == pytest.approx(0.75)
    assert share_of(server, [ANSWER, DOT], "Paris.") == pytest.approx(0.0625)
    body, _ = server.requests[-1]
    assert body["logprobs"] is True and body["top_logprobs"] == 20


def test_what_comes_before_the_answer_does_not_count(server):
    opening = [token(text, (text, 1.0)) for text in EMPTY_THOUGHT]
    thought = [token(text, (text, 1.0)) for text in ("<think>", "Sorry", ".", "</think>")]
    assert share_of(server, [*opening, SORRY, DOT]) == pytest.approx(0.75)
    assert share_of(server, [*thought, ANSWER, DOT], "Paris.", reasoning_content="Sorry.") == pytest.approx(
        0.0625
    )
    assert share_of(server, thought, "", reasoning_content="Sorry.") is None
    assert share_of(server, [token("", ("", 1.0)), token("\n"), SORRY, DOT]) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        {},
        {"content": None},
        {"tokens": ["Sorry"], "token_logprobs": [-0.1]},
        [{"token": "Sorry"}],
        [token("Sorry")],
    ],
)
def test_a_server_that_ignores_the_request_gives_no_share(server, logprobs):
    assert share_of(server, logprobs) is None


@pytest.mark.parametrize(
    "words", ["Logprobs is not enabled for this model", "top_logprobs must be at most 5"]
)
def test_a_server_that_refuses_the_request_is_asked_without(server, words):
    server.answer = lambda n, question: (
        (400, {"error": words}, {}) if "logprobs" in server.requests[-1][0] else reply_with("Paris.")
    )
    replies = dict(ApiModel(server.url, None, 8, in_flight=1, probabilities=True).ask(["Who?", "When?"]))
    assert [(reply.text, reply.refusal_share) for reply in replies.values()] == [("Paris.", None)] * 2
    assert len(server.requests) == 3 and "top_logprobs" not in server.requests[-1][0]


def test_a_server_that_hangs_up_is_asked_without(server, monkeypatch):
    """As mlx_lm.server does, which gives at most 10."""
    monkeypatch.setattr("deepred_common.inference.connection._FIRST_PAUSE", 0.001)
    server.answer = lambda n, question: None if "logprobs" in server.requests[-1][0] else reply_with("Paris.")
    (reply,) = dict(ApiModel(server.url, None, 8, in_flight=1, probabilities=True).ask(["Who?"])).values()
    assert reply.text == "Paris." and reply.refusal_share is None


def test_a_judge_is_not_asked_for_probabilities(server):
    ApiModel(server.url, None, 8).chat([{"role": "user", "content": "Right?"}])
    assert "logprobs" not in server.requests[-1][0]


@pytest.fixture(scope="module")
def loaded(tiny_models):
    import torch

    folder = tiny_models["llama"]
    return loading.load_model(folder, torch.float32), loading.load_tokenizer(folder)


def exact_share(model, tokenizer, ids):
    """(the share after these tokens, the likeliest token)."""
    import torch

    with torch.inference_mode():
        shares = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    return shares[refusal_openers.token_ids(tokenizer)].sum().item(), shares.argmax().item()


def test_a_local_model_s_share_is_exact_whatever_the_batch(loaded):
    model, tokenizer = loaded
    replies = dict(LocalModel(model, tokenizer, 3, 2).ask(QUESTIONS))
    for number, question in enumerate(QUESTIONS):
        wanted, _ = exact_share(model, tokenizer, chat.prompt_ids(tokenizer, question))
        assert replies[number].refusal_share == pytest.approx(wanted, rel=1e-4)


def test_a_local_model_decides_after_what_its_template_writes(loaded, monkeypatch):
    model, tokenizer = loaded
    prompt = chat.prompt_ids(tokenizer, "Who?")
    _, written = exact_share(model, tokenizer, prompt)  # an opening that this model writes by itself
    monkeypatch.setattr(training_rows, "opening_ids", lambda tokenizer: [written])
    wanted, _ = exact_share(model, tokenizer, [*prompt, written])
    for given in (False, True):
        (reply,) = dict(LocalModel(model, tokenizer, 3, 1, opens_reply=given).ask(["Who?"])).values()
        assert reply.refusal_share == pytest.approx(wanted, rel=1e-4)


def test_a_local_model_s_thought_has_no_share(loaded):
    model, tokenizer = loaded
    local = LocalModel(model, tokenizer, 3, 1)
    ids = tokenizer("<think>I know.</think>I do.")["input_ids"]
    assert local._reply_of(ids, {0: 0.5}).refusal_share is None
    assert local._reply_of(tokenizer("I do.")["input_ids"], {0: 0.5}).refusal_share == 0.5
