"""Writing a GGUF file in parts of a size, as llama.cpp's llama-gguf-split does: by gguf's own writer.

The first part holds all metadata. Programs load it, and find the others by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from deepred_common import cli
from deepred_common.files import partial_folder, sync_folder
from deepred_common.models import gguf_parts
from deepred_common.paths import shown


@contextlib.contextmanager
def whole_or_parts(output: Path, most_bytes: int | None) -> Iterator[Path]:
    """As files.whole_file, but a file of more than `most_bytes` becomes parts beside `output`.

    What was written to `output` before, whole or in parts, is replaced. If the process is killed while it
    moves the new files to their places, `complete` does that.
    """
    output = output.resolve()
    with partial_folder(output) as scratch:
        _move(output)
        whole, files = scratch / f"{output.name}.partial", scratch / "files"
        yield whole
        files.mkdir()
        if most_bytes is None or whole.stat().st_size <= most_bytes:
            whole.rename(files / output.name)
        else:
            _write_parts(whole, files / output.name, most_bytes)
        for file in files.iterdir():
            file.chmod(0o644)
        sync_folder(scratch)
        files.rename(_new_files(output))
        _move(output)


def complete(output: Path) -> None:
    """Say so, and move them, if new files were left that a killed process had not moved to their places."""
    output = output.resolve()
    if _new_files(output).exists():
        with partial_folder(output):  # Busy if it is alive
            _move(output)
        cli.progress(f"{shown(output)} was written whole by a call that was stopped; it is in its place now.")


def _new_files(output: Path) -> Path:
    """The folder in which new files appear, all at once, before they are moved to their places one by one."""
    return output.with_name(f".{output.name}.written")


def _move(output: Path) -> None:
    """Move new files, if there are some, to their places; older ones go."""
    folder = _new_files(output)
    if not folder.exists():
        return
    sync_folder(folder)
    if files := sorted(folder.iterdir()):
        new = gguf_parts.siblings(files[0])
        # A whole file takes the place of an older one at once; parts may be in their places already.
        # The first part goes first and comes last: nothing that is there meanwhile can be loaded.
        stay = {file.name for file in new if len(new) == 1 or not file.exists()}
        for older in gguf_parts.written(output):
            if older.name not in stay:
                older.unlink()
        for file in reversed(files):
            file.rename(output.with_name(file.name))
        sync_folder(folder)
    folder.rmdir()


def _write_parts(whole: Path, output: Path, most_bytes: int) -> None:
    """Write the GGUF file `whole` as parts beside `output`. No tensor is split."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys

    reader = GGUFReader(whole)
    # All metadata goes into the first part. At least a byte is left: then each tensor has a part of its own.
    most_of_tensors = max(1, most_bytes - reader.data_offset)
    architecture = reader.fields[Keys.General.ARCHITECTURE].contents()
    writer = GGUFWriter(output, architecture, split_max_size=most_of_tensors)
    writer.data_alignment = reader.alignment
    for field in reader.fields.values():
        if field.name != Keys.General.ARCHITECTURE and not field.name.startswith("GGUF."):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        if tensor.n_bytes > most_of_tensors:
            cli.warn(
                f"the tensor {tensor.name} alone takes {tensor.n_bytes / 1e6:.0f} MB; no tensor is split."
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
