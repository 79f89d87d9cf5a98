"""Writing a GGUF file in parts of a size, as llama.cpp's llama-gguf-split does: by gguf's own writer.

The first part holds all metadata. Programs load it, and find the others by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from deepred_common import cli
from deepred_common.files import partial_folder, sync_folder, whole_file
from deepred_common.models import gguf_parts


@contextlib.contextmanager
def whole_or_parts(output: Path, most_bytes: int | None) -> Iterator[Path]:
    """As files.whole_file, but a file of more than `most_bytes` becomes parts beside `output`.

    What was written to `output` before, whole or in parts, is replaced. The first part appears last and goes
    first: what is there of an interrupted write cannot be loaded.
    """
    if most_bytes is None:
        with whole_file(output) as temporary:
            yield temporary
        _remove(file for file in gguf_parts.written(output) if file != output)
        return
    with partial_folder(output) as scratch:
        whole = scratch / output.name
        yield whole
        parts = [whole] if whole.stat().st_size <= most_bytes else _write_parts(whole, most_bytes)
        for part in parts:
            part.chmod(0o644)
        sync_folder(scratch)
        _remove(gguf_parts.written(output))
        for part in reversed(parts):
            part.rename(output.resolve().parent / part.name)
        sync_folder(scratch)


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink()


def _write_parts(whole: Path, most_bytes: int) -> list[Path]:
    """Write the GGUF file `whole` as parts to a folder beside it; return their paths. No tensor is split."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys

    reader = GGUFReader(whole)
    # All metadata goes into the first part. At least a byte is left: then each tensor has a part of its own.
    most_of_tensors = max(1, most_bytes - reader.data_offset)
    architecture = reader.fields[Keys.General.ARCHITECTURE].contents()
    folder = whole.parent / "parts"
    folder.mkdir()
    writer = GGUFWriter(folder / whole.name, architecture, split_max_size=most_of_tensors)
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
    return sorted(folder.iterdir())
