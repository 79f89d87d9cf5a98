"""LM Studio's own places and its server's list."""

from fake_server import running

from deepred_common.export import lmstudio


def test_a_proxy_does_not_hide_this_machines_server(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    with running() as server:
        assert lmstudio.listed_models(server.url) == ["m"]
