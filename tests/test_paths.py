import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.files import require_space, whole_file, whole_folder, write_text


def test_wiki_data_moves_the_datasets_and_lm_studios_models(monkeypatch, tmp_path):
    monkeypatch.setenv("WIKI_DATA", str(tmp_path / "data" / "wikipedia"))
    assert paths.dataset_file("retain_val") == tmp_path / "data/wikipedia/datasets/retain/retain_val.jsonl"
    assert paths.lmstudio_models_dir() == tmp_path / "data/lmstudio/models"


def test_without_wiki_data_the_shipped_files_and_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.dataset_file("dev_path") == paths.ROOT / "datasets/dev/dev_subset.jsonl"
    assert paths.lmstudio_models_dir() == Path.home() / ".lmstudio/models"


def test_lm_studios_models_folder_is_where_its_settings_say(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / "apps" / "lmstudio"
    home.mkdir(parents=True)
    pointer, settings = tmp_path / ".lmstudio-home-pointer", home / "settings.json"
    pointer.write_text(f"{home}\n")
    assert paths.lmstudio_models_dir() == home / "models"
    for written, folder in (
        ('{"downloadsFolder": "/mnt/big disk/models"}', Path("/mnt/big disk/models")),
        ('\ufeff{"downloadsFolder": "~/models"}', tmp_path / "models"),
        ('{"downloadsFolder": "C:\\\\models"}', home / "models"),
        ('{"downloadsFolder": null}', home / "models"),
        ("[]", home / "models"),
        ('{"downloads', home / "models"),
    ):
        settings.write_text(written, encoding="utf-8")
        assert paths.lmstudio_models_dir() == folder, written
    pointer.write_text(str(tmp_path / "gone"))
    assert paths.lmstudio_models_dir() == tmp_path / ".lmstudio/models"
    (tmp_path / ".cache/lm-studio").mkdir(parents=True)
    assert paths.lmstudio_models_dir() == tmp_path / ".cache/lm-studio/models"
    # WIKI_DATA counts first, as the specification says.
    settings.write_text('{"downloadsFolder": "/mnt/models"}')
    monkeypatch.setenv("WIKI_DATA", str(tmp_path / "wikipedia"))
    assert paths.lmstudio_models_dir() == tmp_path / "lmstudio/models"


def test_host_and_port_make_the_api_url(monkeypatch):
    assert paths.lmstudio_url() == "http://localhost:1234/v1"
    monkeypatch.setenv("LMSTUDIO_HOST", "192.168.1.20")
    monkeypatch.setenv("LMSTUDIO_PORT", "4321")
    assert paths.lmstudio_url() == "http://192.168.1.20:4321/v1"
    monkeypatch.setenv("LMSTUDIO_HOST", "fe80::1")
    assert paths.lmstudio_url() == "http://[fe80::1]:4321/v1"
    for host in ("http://192.168.1.20", "192.168.1.20:1234", "192.168.1.20/v1"):
        monkeypatch.setenv("LMSTUDIO_HOST", host)
        with pytest.raises(UserError, match="must be a host alone"):
            paths.lmstudio_url()
    monkeypatch.setenv("LMSTUDIO_PORT", "no")
    with pytest.raises(UserError, match="LMSTUDIO_PORT"):
        paths.lmstudio_url()


def test_an_output_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "made") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_file(tmp_path / "made.txt") as file:
        file.write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "made") as folder:
        (folder / "whole").write_text("x")
    write_text(tmp_path / "made.txt", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "made.txt"]


def test_no_space_is_said_before_the_work(tmp_path):
    with pytest.raises(UserError, match="not enough disk space"):
        require_space(tmp_path, 10**18, "the merged model")


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from deepred_common.files import whole_file, whole_folder
with whole_folder(sys.argv[2] + "/made") as folder, whole_file(sys.argv[2] + "/made.txt") as file:
    (folder / "half").write_text("x")
    file.write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_gone_after_the_next(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(paths.ROOT), str(tmp_path)])
    assert done.returncode == -9 and len(list(tmp_path.iterdir())) == 2
    with whole_folder(tmp_path / "made") as folder:
        assert list(folder.iterdir()) == []
    write_text(tmp_path / "made.txt", "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "made.txt"]


def test_an_older_output_is_whole_until_the_new_one_has_its_name(tmp_path, monkeypatch):
    """Killed between two steps of the replacement, wherever that is: one of the two is there, and whole."""
    made = tmp_path / "made"
    true_rename = Path.rename

    def replace(kills_at):
        calls = []

        def rename(self, target):
            calls.append(self)
            if len(calls) == kills_at:
                raise KeyboardInterrupt
            return true_rename(self, target)

        monkeypatch.setattr(Path, "rename", rename)
        monkeypatch.setattr(
            shutil, "rmtree", lambda *a, **k: pytest.fail("removed before the new one is there")
        )
        with pytest.raises(KeyboardInterrupt), whole_folder(made) as folder:
            monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)  # a kill cleans nothing
            (folder / "a").write_text("new")
        monkeypatch.undo()

    for kills_at in (1, 2):
        with whole_folder(made) as folder:
            for name in ("a", "b"):
                (folder / name).write_text("old")
        replace(kills_at)
        with pytest.raises(RuntimeError), whole_folder(made):  # the next one puts it back, whatever it does
            raise RuntimeError
        assert {p.name: p.read_text() for p in made.iterdir()} == {"a": "old", "b": "old"}
        assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_an_output_that_another_process_writes_is_refused(tmp_path):
    with whole_folder(tmp_path / "made") as folder:
        (folder / "file").write_text("x")
        refused = pytest.raises(UserError, match=r"another process is writing .*made right now\. Wait for it")
        with refused, whole_folder(tmp_path / "made"):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["made"] and (tmp_path / "made/file").exists()
