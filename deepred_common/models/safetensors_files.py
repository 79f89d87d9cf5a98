"""Safetensors files read and written a tensor at a time, so that memory holds one tensor, not a whole file.

The format is a JSON header (8 bytes of length first) and then the tensors' bytes; see
https://github.com/huggingface/safetensors. Its own library reads through a memory map, whose pages count as
memory used, and writes whole files only.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common.cli import UserError
from deepred_common.files import is_lfs_pointer, lfs_error, read_json

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
SHARDS = "model-*-of-*.safetensors"
INDEX = "model.safetensors.index.json"
LENGTH_BYTES = 8  # of the header's length, little-endian
TORCH_NAMES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
# {type: (numpy's type of its bits, the bits of its exponent)}: all of these are set in NaN and infinity.
EXPONENTS = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}
SAFETENSORS_NAMES = {name: short for short, name in TORCH_NAMES.items()}


@dataclass(frozen=True)
class Entry:
    """Where a tensor is: its file, type ("BF16"), shape, first byte, and size in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def read(self) -> torch.Tensor:
        """The tensor, in memory of its own. UserError if the file is cut short."""
        import torch

        buffer = bytearray(self.size)
        with self.file.open("rb") as file:
            file.seek(self.start)
            if file.readinto(buffer) != self.size:
                raise UserError(f"{self.file} is cut short.")
        dtype = torch_dtype(self.dtype)
        if not self.size:
            return torch.empty(self.shape, dtype=dtype)
        return torch.frombuffer(buffer, dtype=dtype).reshape(self.shape)


def torch_dtype(name: str) -> torch.dtype:
    """The torch type of a safetensors type: torch.bfloat16 for "BF16"."""
    import torch

    return getattr(torch, TORCH_NAMES[name])


def _parse_header(path: Path) -> tuple[dict[str, Entry], str | None]:
    """The entries of a file, and why it cannot be used ("is cut short", "is damaged …"); None if it can."""
    total = path.stat().st_size
    damaged = "is damaged, or not a safetensors file"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if LENGTH_BYTES + length > total:
            return {}, damaged
        text = file.read(length)
    data_start = LENGTH_BYTES + length
    entries = {}
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        for name, fields in header.items():
            start, end = fields["data_offsets"]
            shape = tuple(fields["shape"])
            entries[name] = Entry(path, fields["dtype"], shape, data_start + start, end - start)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, damaged
    end = max((entry.start + entry.size for entry in entries.values()), default=data_start)
    if end > total:
        return {}, "is cut short"
    if end < total:
        return {}, damaged  # bytes that no tensor has; the library refuses such a file, too
    return entries, None


def file_fault(path: str | Path) -> str | None:
    """Why a safetensors file cannot be used, to follow its name ("is cut short"); None if it can.

    Reads the header only, and compares what it says with the file's size.
    """
    return _parse_header(Path(path))[1]


def non_finite(path: str | Path) -> str | None:
    """The name of a tensor in a safetensors file that holds NaN or infinity, or None. Reads all of it."""
    import numpy as np

    for name, entry in _parse_header(Path(path))[0].items():
        if entry.dtype in EXPONENTS:
            kind, exponent = EXPONENTS[entry.dtype]
            bits = np.fromfile(path, kind, entry.size // int(kind[-1]), offset=entry.start)
            if ((bits & exponent) == exponent).any():
                return name
    return None


def read_header(path: str | Path) -> dict[str, Entry]:
    """{tensor name: Entry} of one file, in the order of their bytes; UserError if it has a fault."""
    if is_lfs_pointer(path):
        raise lfs_error(path)
    entries, fault = _parse_header(Path(path))
    if fault:
        raise UserError(f"{path} {fault}. Download, copy or make it again.")
    return dict(sorted(entries.items(), key=lambda item: item[1].start))


def read_folder(folder: str | Path) -> list[tuple[str, dict[str, Entry]]]:
    """[(file name, {tensor name: Entry})] of a model folder: the files of its index, or the single one.

    UserError if a file is missing or has a fault.
    """
    folder = Path(folder)
    names = file_names(folder)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        more = f", and {len(missing) - 1} more of {len(names)}" if len(missing) > 1 else ""
        raise UserError(f"{folder / missing[0]} is missing{more}. Download or copy the folder again.")
    return [(name, read_header(folder / name)) for name in names]


def file_names(folder: Path) -> list[str]:
    """The names of a model folder's weight files, there or not; UserError if its index has a fault."""
    if (folder / INDEX).exists():
        return sorted(set(_weight_map(folder / INDEX).values()))
    # Of weights in several files, the index says which file holds what.
    return [INDEX] if any(folder.glob(SHARDS)) else [SINGLE]


def _weight_map(index: Path) -> dict[str, str]:
    """{tensor name: file name} of an index; UserError if it is none."""
    content = read_json(index)
    if not isinstance(content, dict) or not isinstance(content.get("weight_map"), dict):
        raise UserError(f"{index} has no weight_map. Download or make it again.")
    return content["weight_map"]


def read_weights(folder: str | Path) -> dict[str, Entry]:
    """{tensor name: Entry} of all files of a model folder; UserError as read_folder."""
    return {name: entry for _, entries in read_folder(folder) for name, entry in entries.items()}


def write(
    path: str | Path, shapes: Mapping[str, tuple[torch.dtype, Sequence[int]]], tensors: Iterable[torch.Tensor]
) -> None:
    """Write a safetensors file.

    shapes: {name: (torch dtype, shape)}. tensors: in that order; each is made when it is written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {
            "dtype": SAFETENSORS_NAMES[str(dtype).removeprefix("torch.")],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors begin at a multiple of 8
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for (name, (dtype, shape)), tensor in zip(shapes.items(), tensors, strict=True):
            if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
                raise ValueError(
                    f"{name} is {tensor.dtype} {tuple(tensor.shape)}, announced as {dtype} {tuple(shape)}"
                )
            file.write(_bytes(tensor))
        file.flush()
        # Written pages are given back at once, or a model larger than memory would crowd everything else out.
        os.fsync(file.fileno())
        with contextlib.suppress(OSError, AttributeError):  # AttributeError: only Linux has it
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    if not tensor.numel():
        return memoryview(b"")
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data
