"""Writing files and folders whole or not at all, and checks of the places they are written to."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import math
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepred_common.cli import UserError
from deepred_common.foreign_text import ESCAPED
from deepred_common.paths import shown

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # how such a file begins


def is_lfs_pointer(path: str | Path) -> bool:
    """True if a file holds only what Git LFS fetches the real one by: `git clone` without Git LFS."""
    with Path(path).open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def lfs_error(path: str | Path) -> UserError:
    """What to do about a Git LFS pointer."""
    folder = shlex.quote(str(Path(path).parent))
    return UserError(
        f"{path} is a Git LFS pointer, not the file itself. Fetch the files:\n  git -C {folder} lfs pull"
    )


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; UserError naming the file if it is missing or cannot be read."""
    try:
        if is_lfs_pointer(path):
            raise lfs_error(path)
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as JSON ({error}). The file may be damaged; make or download it again."
        ) from None


def json_text(value: Any, **options: Any) -> str:
    """`value` as JSON. A number that is not finite becomes null: most readers refuse a file with `NaN`.

    What JSON cannot hold is written as its text. options: of json.dumps.
    """
    chosen: dict[str, Any] = {"ensure_ascii": False, "default": str} | options
    return json.dumps(_finite(value), allow_nan=False, **chosen)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_writable_parent(path: str | Path) -> None:
    """Make the folder of `path`; UserError if it cannot be made or written."""
    parent = Path(path).resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{parent} is a file, so {shown(path)} cannot be made in it.") from None
    except OSError as error:
        raise UserError(f"cannot make the folder {parent}: {error.strerror}.") from None
    if not os.access(parent, os.W_OK):
        raise UserError(f"no permission to write in {parent}.")


def require_space(folder: str | Path, needed: int, purpose: str) -> None:
    """UserError unless the disk of `folder` has `needed` bytes free. purpose: such as "the merged model"."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"not enough disk space in {folder} for {purpose}: "
            f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free."
        )


def require_absent(path: str | Path, overwrite: bool) -> None:
    """UserError if the output `path` exists and `overwrite` is not set."""
    if Path(path).exists() and not overwrite:
        raise UserError(
            f"{shown(path)} already exists. Choose another path, or pass --overwrite to replace it."
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str | Path) -> None:
    """Wait until every file below `folder` is on the disk, with its name."""
    for path in [*Path(folder).rglob("*"), Path(folder), Path(folder).parent]:
        _sync(path)


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Lock a folder while inside, and no longer than this process lives; yields whether that worked.

    It does not if another process has the lock (unless `wait`), if the folder has just gone, and on network
    file systems without locks.
    """
    with contextlib.ExitStack() as closing:
        is_locked = False
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            closing.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_locked = True
        yield is_locked


@contextlib.contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """Yield a hidden folder beside `path`, removed at the end; first, those that killed processes left.

    A folder whose process is alive is locked.
    """
    path = Path(path).resolve()
    with contextlib.ExitStack() as until_the_end:
        with _locked(path.parent, wait=True):  # so that none is found before it is locked
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
                if left.name.count(".") != path.name.count(".") + 3:
                    continue  # of another output, such as merged.gguf beside merged
                with _locked(left) as is_left_over:
                    if is_left_over:
                        shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
            until_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
            until_the_end.enter_context(_locked(folder))
        yield folder


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is synced and renamed to `path`, else removed.

    An existing `path` is removed just before the rename: the caller has checked that it may be replaced.
    """
    path = Path(path).resolve()
    with scratch_folder(path) as temporary:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                # Libraries write some files for the owner only; LM Studio may run as another user.
                file.chmod(file.stat().st_mode | 0o644)
                _sync(file)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        temporary.rename(path)
        _sync(path.parent)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success the file there is synced and renamed to `path`."""
    path = Path(path).resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        temporary.chmod(0o644)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all. What UTF-8 cannot hold is escaped."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ESCAPED)
