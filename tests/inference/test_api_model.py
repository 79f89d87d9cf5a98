"""A model behind a server as a back end: what is retried, what is not, and what a user is told."""

import threading

import pytest
from fake_server import running

from deepred_common.cli import UserError
from deepred_common.inference.api_model import ApiModel


@pytest.fixture
def server():
    with running() as server:
        yield server


def test_an_unexpected_error_in_a_request_is_raised_instead_of_waited_for(server, monkeypatch):
    model = ApiModel(server.url, None, 8, in_flight=2)

    def fail(messages):
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
