"""Writing files and folders whole or not at all, and checks of the places they are written to."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shlex
import shutil
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


class Busy(UserError):
    """Another process is at work on the same output."""


def lock(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file or folder for this process, until it is closed; False if another process has it.

    The system ends the lock when the process ends, however it ends. True as well where the file system has no
    locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        pass  # some network file systems have none: then nothing is known of others
    return True


@contextlib.contextmanager
def partial_folder(path: str | Path, wait: bool = False) -> Iterator[Path]:
    """Yield an empty, hidden folder beside `path` to make it in; it is removed at the end.

    Its name is always the same, so what a killed process left in it goes as well. Busy if another process is
    making `path` right now; with `wait`, that one is waited for.
    """
    path = Path(path).resolve()
    temporary = path.with_name(f".{path.name}.partial")
    while (descriptor := _claimed(temporary, wait, path)) is None:
        pass
    try:
        _restore(path)
        for left in temporary.iterdir():
            _remove(left)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def _claimed(temporary: Path, wait: bool, path: Path) -> int | None:
    """A descriptor with the lock of the folder `temporary`, which is made; None if it must be tried again.

    Busy, with the output's `path`, if another process has it and is not waited for.
    """
    temporary.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            if not lock(descriptor, wait):
                raise Busy(
                    f"another process is writing {shown(path)} right now. "
                    "Wait for it, or choose another path."
                )
            # Whoever had the lock before may have removed the folder, or given it its final name.
            if os.path.samestat(os.fstat(descriptor), temporary.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replaced(path: Path) -> Path:
    """Where an output stays while the new one takes its name."""
    return path.with_name(f".{path.name}.replaced")


def _restore(path: Path) -> None:
    """End what a process did not, that was killed while a new output took the place of an older one."""
    older = _replaced(path)
    if older.exists() and not path.exists():
        older.rename(path)
    elif older.exists():
        _remove(older)


def publish(temporary: Path, path: str | Path) -> None:
    """Give the folder of a partial_folder its final name, with all that is in it on the disk.

    An existing `path` is replaced: the caller has checked that it may be. It is whole until it is moved away,
    for a moment, so that a kill leaves either of the two and never a part.
    """
    path = Path(path).resolve()
    temporary.chmod(0o755)
    for file in temporary.rglob("*"):
        if file.is_file():
            # Libraries write some files for the owner only; LM Studio may run as another user.
            file.chmod(file.stat().st_mode | 0o644)
            _sync(file)
    older = _replaced(path)
    if path.exists():
        path.rename(older)
    temporary.rename(path)
    _sync(path.parent)
    if older.exists():
        _remove(older)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a partial_folder; on success it is published as `path`."""
    with partial_folder(path) as temporary:
        yield temporary
        publish(temporary, path)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path in a partial_folder; on success the file there is synced and renamed to `path`.

    Its name ends in .partial: LM Studio lists each .gguf below its models folder.
    """
    path = Path(path).resolve()
    with partial_folder(path) as folder:
        temporary = folder / f"{path.name}.partial"
        yield temporary
        temporary.chmod(0o644)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all. What UTF-8 cannot hold is escaped."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ESCAPED)
