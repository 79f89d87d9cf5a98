"""Safetensors files, read and written without the library: the same bytes, and faults that are named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from deepred_common.cli import UserError
from deepred_common.models import safetensors_files


def test_written_files_are_what_the_library_reads(tmp_path):
    tensors = {
        "b": torch.randn(3, 5).to(torch.bfloat16),
        "a": torch.arange(4),
        "empty": torch.empty(0, 2),
        "scalar": torch.tensor(2.5),
    }
    file = tmp_path / "t.safetensors"
    safetensors_files.write(file, {n: (t.dtype, t.shape) for n, t in tensors.items()}, tensors.values())
    loaded = load_file(file)
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[n], tensors[n]) for n in tensors)
    entries = safetensors_files.read_header(file)
    assert all(torch.equal(entry.read(), tensors[n]) for n, entry in entries.items())
    assert safetensors_files.file_fault(file) is None


def test_a_tensor_other_than_announced_is_a_bug_and_named(tmp_path):
    with pytest.raises(ValueError, match=r"a is torch\.float32"):
        safetensors_files.write(tmp_path / "t", {"a": (torch.float16, (2,))}, [torch.zeros(2)])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda whole: whole[:-10], "is cut short"),
        (lambda whole: whole[:4], "is damaged, or not a safetensors file"),
        (lambda whole: b"not a safetensors file at all", "is damaged, or not a safetensors file"),
        (lambda whole: b"", "is damaged, or not a safetensors file"),
        (lambda whole: whole[:20] + b"}" + whole[21:], "is damaged, or not a safetensors file"),
        (
            lambda whole: whole + bytes(100),
            "is damaged, or not a safetensors file",
        ),  # padded after a power cut
    ],
)
def test_a_damaged_file_is_named_with_its_fault(change, fault, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(8), "b": torch.ones(3, 2)}, file)
    file.write_bytes(change(file.read_bytes()))
    assert safetensors_files.file_fault(file) == fault
    with pytest.raises(UserError, match=f"model.safetensors {fault}"):
        safetensors_files.read_header(file)
    with pytest.raises(UserError, match=fault):
        safetensors_files.read_weights(tmp_path)


def test_a_file_of_the_index_that_is_missing_is_named(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / safetensors_files.INDEX).write_text(json.dumps(index))
    save_file({"a": torch.ones(1)}, tmp_path / "model-1.safetensors")
    with pytest.raises(UserError, match=r"model-2\.safetensors is missing"):
        safetensors_files.read_weights(tmp_path)
    (tmp_path / safetensors_files.INDEX).write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        safetensors_files.read_weights(tmp_path)
