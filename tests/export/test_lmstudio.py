"""LM Studio's own places and its server's list."""

from fake_server import running

from deepred_common.export import lmstudio


def test_a_proxy_does_not_hide_this_machines_server(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    with running() as server:
        assert lmstudio.listed_models(server.url) == ["m"]


def test_the_tool_lies_in_lm_studios_own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    (tmp_path / "moved/bin").mkdir(parents=True)
    (tmp_path / "moved/bin/lms").touch()
    (tmp_path / ".lmstudio-home-pointer").write_text(str(tmp_path / "moved"))
    assert lmstudio.tool() == str(tmp_path / "moved/bin/lms")
