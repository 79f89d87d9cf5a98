"""What a server does not take of a request is left out or put in another way; its own faults may pass."""

import itertools
import time

import pytest
from fake_server import reply_with, running

from deepred_common.cli import UserError
from deepred_common.inference import connection
from deepred_common.inference.api_model import ApiModel
from deepred_common.inference.protocol import Draw


@pytest.fixture
def server():
    with running() as server:
        yield server


NO_LIMIT = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
NO_ZERO = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is"


def refusing(server, refusals):
    """Let the server refuse a question as {fault: test of the body} says."""

    def answer(n, question):
        body, _ = server.requests[-1]
        fault = next((fault for fault, is_faulty in refusals.items() if is_faulty(body)), None)
        return (400, {"error": {"message": fault}}, {}) if fault else reply_with("Yes.")

    server.answer = answer


def test_a_model_that_takes_neither_max_tokens_nor_temperature_is_asked_without(server, capsys):
    faults = {NO_LIMIT: lambda body: "max_tokens" in body, NO_ZERO: lambda body: "temperature" in body}
    refusing(server, faults)
    replies = dict(ApiModel(server.url, None, 8, in_flight=1).ask(["Who?", "When?"]))
    assert [reply.text for reply in replies.values()] == ["Yes.", "Yes."]
    bodies = [body for body, _ in server.requests]
    assert len(bodies) == 4 and bodies[-1]["max_completion_tokens"] == 8  # it is told once, not each time
    assert capsys.readouterr().err.count("takes no temperature of 0") == 1


@pytest.mark.parametrize("fault", ["Only user and assistant roles are supported!", "System role missing"])
def test_a_system_prompt_is_joined_to_the_question_where_the_template_has_no_such_role(server, fault):
    fault = f'Error rendering prompt with jinja template: "{fault}".'
    refusing(server, {fault: lambda body: body["messages"][0]["role"] == "system"})
    (reply,) = dict(ApiModel(server.url, None, 8, system="Be brief.").ask(["Who?"])).values()
    assert reply.text == "Yes."
    assert server.requests[-1][0]["messages"] == [{"role": "user", "content": "Be brief.\nWho?"}]


def test_other_refusals_are_reported(server):
    refusing(server, {"The prompt is too long for this role.": lambda body: True})
    (reply,) = dict(ApiModel(server.url, None, 8).ask(["Who?"])).values()
    assert "status 400" in reply.error and "too long" in reply.error and len(server.requests) == 1


def test_a_model_that_lm_studio_has_unloaded_is_asked_again(server, monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.01)
    fault = (400, {"error": "The model has crashed without additional information. (Exit code: null)"}, {})
    server.answer = lambda n, question: fault if n == 1 else reply_with("Yes.")
    (reply,) = dict(ApiModel(server.url, None, 8).ask(["Who?"])).values()
    assert reply.text == "Yes."


def test_what_a_server_does_not_take_of_a_sample_is_left_out_and_told_once(server, capsys):
    unknown = "Unrecognized request arguments supplied: min_p, top_k"
    refusing(server, {unknown: lambda body: "min_p" in body, NO_LIMIT: lambda body: "max_tokens" in body})
    draws = [None, Draw(0.7, 1), Draw(0.7, 2)]
    replies = dict(ApiModel(server.url, None, 8, in_flight=1).ask(["Who?"] * 3, draws))
    assert [reply.text for reply in replies.values()] == ["Yes."] * 3
    greedy, *samples = [
        body for body, _ in server.requests if "max_tokens" not in body and "min_p" not in body
    ]
    assert greedy["temperature"] == 0 and "seed" not in greedy
    assert [(one["temperature"], one["seed"], one["top_p"]) for one in samples] == [(0.7, 1, 1), (0.7, 2, 1)]
    assert capsys.readouterr().err.count("takes no top_k, min_p") == 1


def test_no_server_s_own_penalty_on_repeated_words_changes_replies(server):
    """LM Studio's is 1.1, which changes greedy replies too."""
    list(ApiModel(server.url, None, 8).ask(["Who?"] * 2, [None, Draw(0.7, 1)]))
    bodies = [body for body, _ in server.requests]
    assert [(body["repeat_penalty"], body["repetition_penalty"]) for body in bodies] == [(1, 1)] * 2


def test_a_server_that_knows_no_such_penalty_is_asked_without(server, capsys):
    names = ("repeat_penalty", "repetition_penalty")
    refusing(
        server,
        {
            f"Unrecognized request argument supplied: {name}": lambda body, name=name: name in body
            for name in names
        },
    )
    draws = [None, Draw(0.7, 1), None]
    replies = dict(ApiModel(server.url, None, 8, in_flight=1).ask(["Who?"] * 3, draws))
    assert [reply.text for reply in replies.values()] == ["Yes."] * 3
    bodies = [body for body, _ in server.requests]
    assert len(bodies) == 5, "it is told once, not each time"
    assert bodies[3]["temperature"] == 0.7 and bodies[4]["temperature"] == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seconds", ["0", "0.0", "²", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_busy_server_that_names_no_time_to_wait_is_not_asked_again_at_once(server, monkeypatch, seconds):
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.05)
    asked = []

    def answer(n, question):
        asked.append(time.monotonic())
        return (429, "slow down", {"Retry-After": seconds}) if n < 4 else reply_with("Yes.")

    server.answer = answer
    (reply,) = dict(ApiModel(server.url, None, 8).ask(["Who?"])).values()
    assert reply.text == "Yes."
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert all(pause > least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True)), pauses


def test_questions_that_a_busy_server_sends_away_together_do_not_come_back_together(server, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    asked = []

    def answer(n, question):
        asked.append(time.monotonic())
        return (429, "slow down", {"Retry-After": "0.6"}) if n == 1 else reply_with("Yes.")

    server.answer = answer
    list(ApiModel(server.url, None, 8).ask(["Who?"]))
    assert asked[1] - asked[0] >= 0.6 * connection._JITTER, "no time is drawn for the server's own figure"


BUSY = {"error": {"code": 502, "message": "Provider returned error"}}  # OpenRouter's, with status 200


@pytest.mark.parametrize("fault", [BUSY, {"error": {"code": "429", "message": "slow"}, "choices": []}])
def test_an_error_with_status_200_is_that_of_the_status_it_names(server, monkeypatch, fault):
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.001)
    server.answer = lambda n, question: (200, fault, {}) if n == 1 else reply_with("Yes.")
    (reply,) = dict(ApiModel(server.url, None, 8).ask(["Who?"])).values()
    assert reply.text == "Yes."
    server.answer = lambda n, question: (200, fault, {})
    with pytest.raises(UserError, match=r"the last 8 questions all failed: .*status (502|429): "):
        list(ApiModel(server.url, None, 8, in_flight=1).ask(["Who?"] * 20))


@pytest.mark.parametrize("error", ["Unexpected endpoint.", {"message": "No."}, {"code": "invalid_prompt"}])
def test_an_error_with_status_200_that_names_no_status_is_a_refusal(server, error):
    server.answer = lambda n, question: (200, {"error": error}, {})
    (reply,) = dict(ApiModel(server.url, None, 8).ask(["Who?"])).values()
    assert "refused /chat/completions with status 200: " in reply.error and len(server.requests) == 1


BROKEN_OFF = {"finish_reason": "error", "error": {"message": "Provider disconnected"}}  # OpenRouter's


def test_half_a_reply_that_ended_with_an_error_is_no_reply(server, monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.001)
    server.answer = lambda n, question: reply_with("The answer", **(BROKEN_OFF if n > 2 else {}))
    replies = []
    with pytest.raises(UserError, match=r"the last 8 questions all failed: .*broke off.*Provider disconn"):
        for _, reply in ApiModel(server.url, None, 8, in_flight=1).ask(["Who?"] * 20):
            replies.append(reply.text)
    assert replies == ["The answer"] * 2 + [None] * 8


def test_a_reply_that_broke_off_is_asked_for_again(server, monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.001)
    server.answer = lambda n, question: reply_with("He", **BROKEN_OFF) if n == 1 else reply_with("He did.")
    (reply,) = dict(ApiModel(server.url, None, 8).ask(["Who?"])).values()
    assert reply.text == "He did." and len(server.requests) == 2


def test_a_reply_that_broke_off_for_no_stated_reason_is_given_none(server, monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.001)
    server.answer = lambda n, question: reply_with("He", finish_reason="error")
    (reply,) = dict(ApiModel(server.url, None, 8).ask(["Who?"])).values()
    assert reply.text is None and "broke off its reply" in reply.error and "None" not in reply.error
