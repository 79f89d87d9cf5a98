"""Reading GGUF files: the same as gguf's own reader reads, but without its private parts."""

import gguf
import numpy as np
import pytest

from deepred_common.cli import UserError
from deepred_common.export.gguf_file import GgufFile


@pytest.fixture
def written(tmp_path):
    """A file with every kind of value and tensors of four types, written by gguf's own writer."""
    path = tmp_path / "t.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -100)
    writer.add_uint16("a.u16", 60_000)
    writer.add_int16("a.i16", -30_000)
    writer.add_uint32("llama.block_count", 3)
    writer.add_int32("a.i32", -5)
    writer.add_uint64("a.u64", 2**40)
    writer.add_int64("a.i64", -(2**40))
    writer.add_float32("a.f32", 0.25)
    writer.add_float64("a.f64", 0.1)
    writer.add_bool("a.true", True)
    writer.add_string("a.text", "größer")
    writer.add_token_list(["a", "Ġdas", "日", ""])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_array("a.floats", [0.5, -1.0])
    chooser = np.random.default_rng(0)
    values = chooser.normal(size=(40, 64)).astype(np.float32)
    writer.add_tensor("whole", values)
    writer.add_tensor("half", values.astype(np.float16))
    writer.add_tensor("line", values[0])
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.BF16):
        writer.add_tensor(kind.name.lower(), gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def assert_same_as_gguf_reads(path):
    ours, theirs = GgufFile(path), gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.metadata == fields
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert (mine.type, mine.start, mine.size) == (tensor.tensor_type, tensor.data_offset, tensor.n_bytes)
        assert mine.shape == tuple(reversed(tensor.shape.tolist()))
        rows = tensor.data.reshape(-1, tensor.data.shape[-1])
        expected = gguf.quants.dequantize(rows[:: max(1, len(rows) // 16)], tensor.tensor_type)
        assert np.array_equal(ours.sample_rows(tensor.name, 16), expected)


def test_every_kind_of_value_and_tensor_is_read_as_gguf_reads_it(written):
    assert_same_as_gguf_reads(written)
    file = GgufFile(written)
    assert file.value("{arch}.block_count") == 3 and file.value("none") is None
    assert file.size == written.stat().st_size
    assert file.bits == pytest.approx((32 + 16 + 8.5 + 16) / 4, rel=0.01)


def test_a_converted_model_is_read_as_gguf_reads_it(pipeline):
    assert_same_as_gguf_reads(pipeline("llama").gguf)


def test_a_later_gguf_with_other_private_methods_changes_nothing(written, monkeypatch):
    """requirements.txt allows any later gguf: what is not public there may go, or take other arguments."""

    class LaterReader(gguf.GGUFReader):
        def _build_fields(self, *arguments):
            return self._get_field_parts(*arguments, "an argument more")

    monkeypatch.setattr(gguf, "GGUFReader", LaterReader)
    assert GgufFile(written).value("tokenizer.ggml.tokens")[1] == "Ġdas"


@pytest.mark.parametrize("kept", [0, 6, 40, 400, -1])
def test_a_file_that_is_cut_short_is_refused(kept, written):
    written.write_bytes(written.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"t\.gguf is (cut short|not a GGUF file)"):
        GgufFile(written)


def test_another_version_and_another_file_are_refused(written):
    content = written.read_bytes()
    for changed in (b"GGUF\x09\0\0\0" + content[8:], b"GGUF\0\0\0\x03" + content[8:], b"PK" + content):
        written.write_bytes(changed)
        with pytest.raises(UserError, match="is not a GGUF file of version 2 or 3, little-endian"):
            GgufFile(written)
