"""Results that were computed from files once, kept in output/cache/ under a hash of everything they depend
on.

An entry is never changed. One that cannot be read or written is computed again: deleting the folder costs
time only.

The rule for a key: it holds the hash of every input, every setting, and the VERSION of every module that
decides what comes out. A module's VERSION is a number in its source; whoever changes what the module makes
raises it. Hashes of source files do not replace it: they change with a comment, and whoever lists the files
forgets one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from deepred_common import cli, paths
from deepred_common.files import json_text, partial_folder, publish
from deepred_common.foreign_text import ESCAPED

Value = TypeVar("Value")

KEPT = 8  # entries of a kind; the one used longest ago is deleted first


def folder(kind: str, key: str, make: Callable[[Path], Value], read: Callable[[Path], Value]) -> Value:
    """read(folder) of the entry `kind`-`key`; if there is none, make(folder) fills it first.

    make returns what read would. Its own return value is used where the disk is full or read-only: that costs
    the entry, not the run.
    """
    path = paths.OUTPUT / "cache" / f"{kind}-{key}"
    try:
        kept = read(path)
        with contextlib.suppress(OSError):  # an entry may be there to read only
            path.touch()  # the time by which _prune tells what was used longest ago
        return kept
    except (OSError, ValueError, KeyError):
        pass  # there is no entry, or it is damaged
    computed: list[Value] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(path, wait=True) as temporary:
            with contextlib.suppress(OSError, ValueError, KeyError):
                return read(path)  # another process has made it meanwhile
            computed.append(make(temporary))
            publish(temporary, path)
        _prune(kind)
    except OSError as error:
        if not computed and error.errno not in cli.WRITE_ERRORS:
            raise
        cli.warn(
            f"{paths.shown(path)} could not be saved ({error.strerror}); it is computed again next time."
        )
        if computed:
            return computed[0]
        with tempfile.TemporaryDirectory() as elsewhere:
            return make(Path(elsewhere))
    return read(path)


def json_value(kind: str, key: str, make: Callable[[], Any]) -> Any:
    """The JSON value that make() returns, kept."""

    def write(into: Path) -> Any:
        value = make()
        (into / "value.json").write_text(json_text(value), encoding="utf-8", errors=ESCAPED)
        return value

    def read(path: Path) -> Any:
        return json.loads((path / "value.json").read_text(encoding="utf-8"))

    return folder(kind, key, write, read)


def _prune(kind: str) -> None:
    entries = (paths.OUTPUT / "cache").glob(f"{kind}-*")
    newest_first = sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest_first[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
