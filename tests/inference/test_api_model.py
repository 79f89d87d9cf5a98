"""A model behind a server as a back end: what is retried, what is not, and what a user is told."""

import threading
import time

import pytest
from fake_server import reply_with, running

from deepred_common import server_session
from deepred_common.cli import UserError
from deepred_common.inference.api_model import ApiModel


@pytest.fixture
def server():
    with running() as server:
        yield server


def test_an_unexpected_error_in_a_request_is_raised_instead_of_waited_for(server, monkeypatch):
    model = ApiModel(server.url, None, 8, in_flight=2)

    def fail(messages, draw):
        raise ZeroDivisionError

    monkeypatch.setattr(model, "chat", fail)
    errors = []

    def ask():
        try:
            list(model.ask(["Who?"]))
        except ZeroDivisionError as error:
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(10)
    assert errors and not thread.is_alive()


def test_what_was_left_when_asking_ended_early_is_not_asked_later(server):
    """The threads of the first call must not go on with its questions once a second call runs."""
    asked, slow = [], threading.Event()

    def answer(n, question):
        asked.append(question)
        if question == "Slow?":
            slow.wait(10)
        return reply_with("Yes.")

    server.answer = answer
    model = ApiModel(server.url, None, 8, in_flight=2)
    replies = model.ask(["Fast?", "Slow?", "Slow?", "Left?"])
    next(replies)
    while asked.count("Slow?") < 2:
        time.sleep(0.01)
    replies.close()
    later = model.ask(["New?"] * 20)
    next(later)
    slow.set()
    time.sleep(0.5)
    assert len(list(later)) == 19 and "Left?" not in asked


def test_a_busy_server_is_asked_again_by_a_call_after_another_has_ended(server, monkeypatch):
    """A judge asks one question at a time, with the model that others may have asked before."""
    monkeypatch.setattr("deepred_common.inference.connection._FIRST_PAUSE", 0.01)
    model = ApiModel(server.url, None, 8)
    list(model.ask(["Who?"]))
    server.answer = lambda n, question: (503, "busy", {}) if n == 2 else reply_with("Yes.")
    assert model.chat([{"role": "user", "content": "When?"}]).text == "Yes."


@pytest.mark.parametrize("key", ["two\nlines", "ключ"])
def test_a_key_that_cannot_be_sent_is_named_and_not_shown(server, monkeypatch, key):
    monkeypatch.setenv("LMSTUDIO_API_KEY", key)
    with pytest.raises(UserError, match="LMSTUDIO_API_KEY") as raised:
        ApiModel(server.url, None, 8)
    assert key not in str(raised.value)


def test_spaces_around_a_key_do_not_matter(server, monkeypatch):
    monkeypatch.setenv("LMSTUDIO_API_KEY", " secret-123\n")
    list(ApiModel(server.url, None, 8).ask(["Who?"]))
    assert server.requests[0][1] == "Bearer secret-123"


def test_no_server_is_found_at_once(monkeypatch):
    with pytest.raises(UserError, match="no server answers at http:"):
        ApiModel("http://127.0.0.1:9/v1", None, 8)


# ---- a key that is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "refuses the key in LMSTUDIO_API_KEY"), (402, "asks for payment"), (403, "refuses the key in")],
)
def test_not_all_questions_are_sent_to_a_server_that_refuses_the_key(server, monkeypatch, status, words):
    monkeypatch.setenv("LMSTUDIO_API_KEY", "secret-123")
    replies = []
    refusal = (status, '{\n  "error": "Sorry, secret-123."\n}', {})
    server.answer = lambda n, question: reply_with("Yes.") if n <= 4 else refusal
    message = rf"the last 8 questions all failed: .*{words}.*{status}.*Sorry, "
    with pytest.raises(UserError, match=message) as raised:
        for _, reply in ApiModel(server.url, None, 8, in_flight=2).ask(["Who?"] * 60):
            replies.append(reply.text)
    assert "secret" not in str(raised.value)
    assert replies.count("Yes.") == 4, "they are kept"
    assert len(server.requests) < 20


def test_a_question_that_alone_is_refused_does_not_end_the_others(server):
    """As moderation does at OpenRouter."""
    refusal = (403, {"error": {"message": "Your input was flagged."}}, {})
    server.answer = lambda n, question: refusal if n % 3 else reply_with("Yes.")
    replies = dict(ApiModel(server.url, None, 8, in_flight=1).ask(["Who?"] * 30))
    assert sum(reply.text == "Yes." for reply in replies.values()) == 10


# ---- the address -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/", "/v1/", "/v1/models", "/v1/chat/completions", "/v1/completions"])
def test_a_url_that_is_not_quite_the_base_url_is_used_all_the_same(server, ending, capsys):
    root = server.url.removesuffix("/v1")
    (reply,) = dict(ApiModel(root + ending, None, 8).ask(["Who?"])).values()
    assert reply.text == "I don't know."
    assert ("that one is asked" in capsys.readouterr().err) == (ending in ("", "/"))


@pytest.mark.parametrize(
    "answer",
    [(404, "404 page not found", {}), (200, {"error": "Unexpected endpoint."}, {}), (200, "<p>", {})],
)
def test_what_is_no_api_gets_a_hint_at_v1(server, answer):
    server.list = lambda path: answer
    with pytest.raises(UserError, match="usually ends in /v1"):
        ApiModel(server.url.removesuffix("/v1"), None, 8)


@pytest.fixture
def proxied(monkeypatch):
    """proxied(variable, url): with this proxy set, and no other."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch.setenv


DEAD = "http://me:secret@127.0.0.1:9"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_before_a_server_of_the_network_is_named_with_the_way_around(proxied, variable):
    proxied(variable, DEAD)
    with pytest.raises(UserError) as raised:
        ApiModel("http://192.168.7.7:1234/v1", None, 8)
    message = str(raised.value)
    assert f"the proxy http://127.0.0.1:9 (set by {variable})" in message and "secret" not in message
    assert "export NO_PROXY=192.168.7.7" in message and "lms server start" not in message


def test_a_proxy_that_refuses_is_named_too_and_other_exceptions_are_kept(server, proxied):
    proxied("HTTP_PROXY", server.url.removesuffix("/v1"))
    proxied("no_proxy", "intern.example")
    server.list = lambda path: (403, "Access denied", {})
    with pytest.raises(UserError, match=r"(?s)the proxy .*export no_proxy=intern.example,192\.168\.7\.7"):
        ApiModel("http://192.168.7.7:1234/v1", None, 8)


def test_a_proxy_that_cannot_be_used_is_not_called_a_bad_url(proxied):
    proxied("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(UserError, match=r"the proxy socks5://127\.0\.0\.1:9"):
        ApiModel("http://192.168.7.7:1234/v1", None, 8)


def test_no_proxy_stands_before_this_machine_or_an_exception(server, proxied):
    proxied("HTTP_PROXY", DEAD)
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        assert ApiModel(server.url.replace("127.0.0.1", host), None, 8).model == "m"
    proxied("NO_PROXY", "192.168.7.7")
    assert server_session.proxy_before("http://192.168.7.7:1234/v1") is None
