"""LM Studio's own places and its server's list."""

import os
from pathlib import Path

import pytest
from fake_server import running

from deepred_common.export import lmstudio


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """(a folder to convert in, LM Studio's)."""
    monkeypatch.setenv("WIKI_DATA", str(tmp_path / "share/wikidata"))
    monkeypatch.setenv("LMSTUDIO_PORT", "9")
    (tmp_path / "here").mkdir()
    there = tmp_path / "share/lmstudio/models/local/temporal"
    there.mkdir(parents=True)
    return tmp_path / "here", there


def written(folder, *names):
    for name in names:
        (folder / name).write_text(f"new {name}")
    return [folder / name for name in names]


def parts(count, stem="x"):
    return [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


@pytest.mark.parametrize("names", [["x.gguf"], parts(3)])
@pytest.mark.parametrize("wants_copy", [True, False])
def test_what_was_written_into_lm_studios_folder_stays(folders, names, wants_copy):
    _, there = folders
    files = written(there, *names)
    text = lmstudio.hand_over(files, there / "x.gguf", wants_copy)
    assert [file.read_text() for file in files] == [f"new {name}" for name in names]
    assert "load" in text and "cp " not in text


@pytest.mark.parametrize("new", [["x.gguf"], parts(2)])
@pytest.mark.parametrize("old", [["x.gguf"], parts(2), parts(3)])
def test_an_older_copy_goes_whole_or_in_parts(folders, new, old):
    here, there = folders
    others = ["other.gguf", *parts(3, "x-large")]
    for name in (*old, *others):
        (there / name).write_text("old")
    text = lmstudio.hand_over(written(here, *new), here / "x.gguf", wants_copy=True)
    assert {file.name for file in there.iterdir()} == {*new, *others}
    assert all((there / name).read_text() == f"new {name}" for name in new)
    assert f"Copied to {there / new[0]}" in text


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
    assert "sudo cp x.gguf" in lmstudio.hand_over([Path("x.gguf")], Path("x.gguf"), wants_copy=True)
    monkeypatch.setenv("HOME", str(locked))
    monkeypatch.setenv("PATH", "")
    assert lmstudio.tool() == "lms"
