"""Computed results that are kept, where they cannot be: it costs the entry, not the run."""

import contextlib
import errno
from pathlib import Path

import pytest

from deepred_common import cache


@pytest.fixture
def make_read_only(monkeypatch):
    """Call it, and the cache lies on a disk that can be read only."""

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    def make():
        monkeypatch.setattr(cache, "partial_folder", contextlib.contextmanager(refuse))
        monkeypatch.setattr(Path, "touch", refuse)

    return make


def test_where_nothing_can_be_written_the_value_is_computed_each_time__disk_faked(make_read_only, capsys):
    make_read_only()
    assert [cache.json_value("kind", "key", lambda: {"a": 1}) for _ in range(2)] == [{"a": 1}] * 2
    assert (
        "could not be saved (Read-only file system); it is computed again next time"
        in capsys.readouterr().err
    )


def test_what_a_read_only_cache_holds_is_used__disk_faked(make_read_only, capsys):
    assert cache.json_value("kind", "key", lambda: "first") == "first"
    make_read_only()
    assert cache.json_value("kind", "key", lambda: "again") == "first"
    assert capsys.readouterr().err == ""


def test_what_another_process_has_made_meanwhile_is_taken(monkeypatch):
    true_partial_folder = cache.partial_folder

    @contextlib.contextmanager
    def waits(path, wait=False):
        assert wait
        monkeypatch.setattr(cache, "partial_folder", true_partial_folder)
        assert cache.json_value("kind", "key", lambda: "the other's") == "the other's"
        with true_partial_folder(path, wait) as folder:
            yield folder

    monkeypatch.setattr(cache, "partial_folder", waits)
    assert cache.json_value("kind", "key", lambda: "own") == "the other's"
