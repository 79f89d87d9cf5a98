"""What was worked out from files once and need not be again: kept in output/cache/ under the hash of all that made it.

An entry is never changed. One that cannot be read or written is worked out (again): losing the folder costs time only.

The rule for a key: it holds the hash of every input, every setting, and the VERSION of every module that decides what
comes out. A module's VERSION is a number in its source; whoever changes what the module makes raises it. Hashes of
source files are no substitute: they change with a comment, and whoever lists them forgets one.
"""

import json
import shutil

from deepred_common import cli, paths
from deepred_common.files import whole_folder

KEPT = 8  # entries of a kind; the ones used longest ago go first


def folder(kind, key, make, read):
    """read(folder) of the entry `kind`-`key`; if there is none, make(folder) fills it first.

    A full or read-only disk costs the entry, not the run: then `make`'s own return value is given back.
    """
    path = paths.OUTPUT / "cache" / f"{kind}-{key}"
    try:
        found = read(path)
        path.touch()
        return found
    except (OSError, ValueError, KeyError):
        pass
    made = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(path) as temporary:
            made = make(temporary)
        _prune(kind)
    except OSError as error:
        if made is None:
            raise
        cli.warn(f"{paths.shown(path)} could not be kept ({error.strerror}); it is made again next time.")
        return made
    return read(path)


def json_value(kind, key, make):
    """The JSON value that make() returns, kept."""

    def write(into):
        value = make()
        (into / "value.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        return value

    return folder(
        kind, key, write, lambda path: json.loads((path / "value.json").read_text(encoding="utf-8"))
    )


def _prune(kind):
    entries = sorted(
        (paths.OUTPUT / "cache").glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for path in entries[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
