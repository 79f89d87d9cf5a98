"""Reading a GGUF file: its metadata, and what its tensors are. Neither torch nor a model is loaded.

The format is short and versioned: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. gguf's own
reader makes several numpy views for each entry of an array, which takes 3 s for a vocabulary of 50 000 tokens
with its merges and 9 s for 150 000; reading the bytes in order takes a tenth of that. The types of tensors,
their block sizes and their decoding are gguf's.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common.cli import UserError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # version 1 counted in 32 bits, and no llama.cpp since August 2023 writes it
DEFAULT_ALIGNMENT = 32  # of the tensors' bytes, where general.alignment is not set
STRING, ARRAY = 8, 9  # gguf_metadata_value_type of the format
# The other types as struct codes: (u)int8, (u)int16, (u)int32, float32, bool, (u)int64, float64.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is in the file. shape: as torch has it, rows first. start, size: in bytes."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    size: int


class _Cursor:
    """A place in the file's bytes that moves on with each read. All numbers are little-endian."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.place = 0

    def bytes(self, count: int) -> memoryview:
        start, self.place = self.place, self.place + count
        if self.place > len(self.data):
            raise EOFError
        return self.data[start : self.place]

    def numbers(self, code: str, count: int) -> list[Any]:
        return list(struct.unpack(f"<{count}{code}", self.bytes(count * struct.calcsize(code))))

    def number(self, code: str) -> Any:
        return self.numbers(code, 1)[0]

    def text(self) -> str:
        # A token that is no UTF-8 is read as well as it can be, and then reported as different.
        return str(self.bytes(self.number("Q")), "utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A metadata value: a number, a text, or a list of either (arrays of arrays are read too)."""
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.number(SCALARS[kind])
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS:
            return self.numbers(SCALARS[kind], count)
        return [self.value(kind) for _ in range(count)]


class GgufFile:
    """An opened GGUF file.

    metadata: {key: value}, arrays as lists. tensors: {name: Tensor}. size: in bytes.
    UserError if the file is damaged, cut short or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        import numpy as np

        self.path = Path(path)
        self.size = self.path.stat().st_size
        with self.path.open("rb") as opened:
            magic, version = opened.read(4), int.from_bytes(opened.read(4), "little")
        if magic != MAGIC or version not in VERSIONS:
            raise UserError(f"{self.path} is not a GGUF file of version 2 or 3, little-endian.")
        self._data = np.memmap(self.path, mode="r")
        cursor = _Cursor(self._data.data)
        try:
            cursor.bytes(8)  # magic and version
            tensor_count, value_count = cursor.numbers("Q", 2)
            self.metadata = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(value_count)}
            self.tensors = self._read_tensors(cursor, tensor_count)
        except (EOFError, KeyError, ValueError):  # KeyError, ValueError: a type that the format does not have
            raise UserError(f"{self.path} is cut short or damaged.") from None
        if any(tensor.start + tensor.size > self.size for tensor in self.tensors.values()):
            raise UserError(f"{self.path} is cut short.")

    def _read_tensors(self, cursor: _Cursor, count: int) -> dict[str, Tensor]:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        entries = []
        for _ in range(count):
            name = cursor.text()
            shape = tuple(reversed(cursor.numbers("Q", cursor.number("I"))))
            kind = GGMLQuantizationType(cursor.number("I"))
            entries.append((name, kind, shape, cursor.number("Q")))
        alignment = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        data_start = -(-cursor.place // alignment) * alignment  # rounded up
        tensors = {}
        for name, kind, shape, offset in entries:
            block, block_size = GGML_QUANT_SIZES[kind]
            size = math.prod(shape) // block * block_size
            tensors[name] = Tensor(name, kind, shape, data_start + offset, size)
        return tensors

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the model's architecture, such as "llama"."""
        return self.metadata["general.architecture"]

    @property
    def bits(self) -> float:
        """Bits per weight, over all tensors."""
        weights = sum(math.prod(tensor.shape) for tensor in self.tensors.values())
        return 8 * sum(tensor.size for tensor in self.tensors.values()) / weights

    def value(self, key: str) -> Any:
        """The metadata at `key`, None if there is none; `{arch}` in the key stands for the architecture."""
        return self.metadata.get(key.replace("{arch}", self.architecture))

    def sample_rows(self, name: str, count: int) -> np.ndarray:
        """About `count` rows of a tensor, spread evenly, as (rows, row length) in fp32."""
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        row_count = math.prod(tensor.shape[:-1])
        rows = self._data[tensor.start : tensor.start + tensor.size].reshape(row_count, -1)
        return dequantize(rows[:: max(1, row_count // count)], tensor.type)
