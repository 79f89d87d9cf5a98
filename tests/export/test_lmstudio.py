"""LM Studio's own places and its server's list."""

import os
from pathlib import Path

import pytest
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


@pytest.fixture
def locked(monkeypatch, tmp_path):
    """A folder that may not be entered, for root either."""
    folder, stat = tmp_path / "locked", os.stat
    folder.mkdir()

    def refuse(path, *arguments, **options):
        if folder in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    access = os.access
    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    return folder


def test_a_folder_that_may_not_be_entered_cannot_be_written__fake_permissions(locked, monkeypatch):
    monkeypatch.setenv("WIKI_DATA", str(locked / "wikidata"))
    assert not lmstudio.writable("x.gguf")
    assert "sudo cp x.gguf" in lmstudio.hand_over([Path("x.gguf")], wants_copy=True)
    monkeypatch.setenv("HOME", str(locked))
    monkeypatch.setenv("PATH", "")
    assert lmstudio.tool() == "lms"
