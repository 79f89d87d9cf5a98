"""Safetensors files read and written a tensor at a time, so that memory holds one tensor and not a shard.

The format is a JSON header (8 bytes of length first) and then the tensors' bytes; https://github.com/huggingface/safetensors
describes it. The library reads through a memory map, whose pages count as memory used, and writes whole shards only.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from deepred_common.cli import UserError


def read_weights(folder):
    """{tensor name: Entry} of a model folder, with every file of its index there and whole. UserError otherwise."""
    return {name: entry for _, entries in read_folder(folder) for name, entry in entries.items()}


INDEX = "model.safetensors.index.json"
_DTYPES = {
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
_NAMES = {name: short for short, name in _DTYPES.items()}


def torch_name(dtype):
    """The torch name of a safetensors type: "bfloat16" for "BF16"."""
    return _DTYPES[dtype]


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: its file, type ("BF16"), shape, and first byte."""

    file: Path
    dtype: str
    shape: tuple
    start: int
    size: int

    def read(self):
        """The tensor, in memory of its own."""
        import torch

        buffer = bytearray(self.size)
        with self.file.open("rb") as file:
            file.seek(self.start)
            if file.readinto(buffer) != self.size:
                raise UserError(f"{self.file} is cut short.")
        dtype = getattr(torch, _DTYPES[self.dtype])
        return (
            torch.frombuffer(buffer, dtype=dtype).reshape(self.shape)
            if self.size
            else torch.empty(self.shape, dtype=dtype)
        )


def read_header(path):
    """{tensor name: Entry} of one safetensors file, in the order of their bytes. UserError if it is no such file."""
    path = Path(path)
    total = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 8 + length <= total else None
        header.pop("__metadata__", None)
        found = {
            name: Entry(
                path,
                e["dtype"],
                tuple(e["shape"]),
                8 + length + e["data_offsets"][0],
                e["data_offsets"][1] - e["data_offsets"][0],
            )
            for name, e in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not a safetensors file, or damaged.") from None
    if any(entry.start + entry.size > total for entry in found.values()):
        raise UserError(f"{path} is cut short.")
    return dict(sorted(found.items(), key=lambda item: item[1].start))


def read_folder(folder):
    """[(file name, {tensor name: Entry})] of a model folder's weights: the files of its index, or the single file."""
    folder = Path(folder)
    index = folder / INDEX
    names = (
        sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if index.exists()
        else ["model.safetensors"]
    )
    for name in names:
        if not (folder / name).exists():
            raise UserError(f"{folder / name} is missing.")
    return [(name, read_header(folder / name)) for name in names]


def write(path, shapes, tensors):
    """Write a safetensors file. shapes: {name: (torch dtype, shape)}; tensors: an iterable of the tensors, in that order."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in shapes.items():
        size = dtype.itemsize
        for side in shape:
            size *= side
        header[name] = {
            "dtype": _NAMES[str(dtype).removeprefix("torch.")],
            "shape": list(shape),
            "data_offsets": [end, end + size],
        }
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, (dtype, shape)), tensor in zip(shapes.items(), tensors, strict=True):
            if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
                raise ValueError(
                    f"{name} is {tensor.dtype} {tuple(tensor.shape)}, announced as {dtype} {tuple(shape)}"
                )
            file.write(memoryview(_bytes(tensor)))
        file.flush()
        # Written pages are given back at once, or a model larger than memory would crowd everything else out of it.
        os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bytes(tensor):
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy() if tensor.numel() else b""
