"""A GGUF file in parts: together they are the file, and an interrupted write leaves what was there."""

import itertools
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from deepred_common.export import gguf_split
from deepred_common.export.gguf_file import GgufFile
from deepred_common.models import gguf_parts

ROWS = 64


def write(path, seed=0):
    """A file of five tensors of some 8 kB each, one of them quantised, with metadata of every shape."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 3)
    writer.add_array("tokenizer.ggml.tokens", ["a", "é", "Ġb"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    values = np.random.default_rng(seed)
    for number in range(4):
        writer.add_tensor(f"blk.{number}.weight", values.normal(size=(ROWS, 32)).astype(np.float32))
    packed = gguf.quants.quantize(values.normal(size=(ROWS, 128)), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def contents(files):
    """({key: value}, {tensor's name: (type, values)}) of all files together."""
    opened = [GgufFile(file) for file in files]
    metadata = {key: value for file in opened for key, value in file.metadata.items()}
    tensors = {
        name: (tensor.type, file.sample_rows(name, ROWS).tolist())
        for file in opened
        for name, tensor in file.tensors.items()
    }
    return {key: value for key, value in metadata.items() if not key.startswith("split.")}, tensors


@pytest.mark.parametrize(("most", "count"), [(20_000, 3), (30_000, 2), (1, 5), (100_000, 1), (None, 1)])
def test_the_parts_hold_what_the_file_holds(most, count, tmp_path, capsys):
    write(tmp_path / "source.gguf")
    output = tmp_path / "x.gguf"
    with gguf_split.whole_or_parts(output, most) as temporary:
        write(temporary)
    files = gguf_parts.written(output)
    assert len(files) == count and contents(files) == contents([tmp_path / "source.gguf"])
    assert files == (gguf_parts.siblings(files[0]) if count > 1 else [output])
    if count > 1:
        numbers = [GgufFile(file).metadata["split.no"] for file in files]
        assert numbers == list(range(count)) and GgufFile(files[0]).metadata["split.count"] == count
    if most and most > 1:
        assert all(file.stat().st_size <= most for file in files)
    assert ("no tensor is split" in capsys.readouterr().err) == (most == 1)
    assert len(list(tmp_path.iterdir())) == count + 1


@pytest.mark.parametrize("most", [20_000, 30_000, None])
def test_an_older_output_is_replaced_whatever_its_form(most, tmp_path):
    output = tmp_path / "x.gguf"
    (tmp_path / "x-y-00001-of-00002.gguf").touch()  # another model's
    for before in (20_000, None):
        for size, seed in ((before, 0), (most, 1)):
            with gguf_split.whole_or_parts(output, size) as temporary:
                write(temporary, seed)
    write(tmp_path / "source.gguf", 1)
    files = gguf_parts.written(output)
    assert contents(files) == contents([tmp_path / "source.gguf"])
    assert len(list(tmp_path.iterdir())) == len(files) + 2


def test_an_interrupted_write_leaves_the_older_output(tmp_path):
    output = tmp_path / "x.gguf"
    for most in (20_000, None):
        with gguf_split.whole_or_parts(output, most) as temporary:
            write(temporary)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt), gguf_split.whole_or_parts(output, 30_000) as temporary:
            temporary.write_bytes(b"GGUF")
            raise KeyboardInterrupt
        assert sorted(tmp_path.iterdir()) == before


def stopped_write(output):
    with pytest.raises(RuntimeError), gguf_split.whole_or_parts(output, 20_000):
        raise RuntimeError


@pytest.mark.parametrize("next_call", [gguf_split.complete, stopped_write])
@pytest.mark.parametrize("before", [20_000, 30_000, None])
def test_a_kill_while_parts_get_their_names_leaves_a_whole_set(
    before, next_call, tmp_path, monkeypatch, capsys
):
    """Wherever it is: the older set is whole, or the next call completes the new one. A mix never loads."""
    output, whole = tmp_path / "x.gguf", []
    for seed in (0, 1):
        write(tmp_path / "source.gguf", seed)
        whole.append(contents([tmp_path / "source.gguf"]))

    def replace(kills_at):
        """Write the new set over the older one, and be killed at a step, if there are so many."""
        steps = itertools.count(1)

        def counted(true):
            def step(*arguments, **options):
                if next(steps) == kills_at:
                    raise KeyboardInterrupt
                return true(*arguments, **options)

            return step

        with monkeypatch.context() as patch, gguf_split.whole_or_parts(output, 20_000) as temporary:
            write(temporary, 1)
            patch.setattr(shutil, "rmtree", lambda *a, **k: None)  # a kill cleans nothing
            for name in ("rename", "unlink", "rmdir"):
                patch.setattr(Path, name, counted(getattr(Path, name)))

    outcomes = set()
    for kills_at in itertools.count(1):
        with gguf_split.whole_or_parts(output, before) as temporary:
            write(temporary, 0)
        try:
            replace(kills_at)
        except KeyboardInterrupt:
            pass
        else:
            break
        files = gguf_parts.siblings(gguf_parts.first(output))
        assert not all(file.exists() for file in files) or contents(files) in whole
        capsys.readouterr()
        next_call(output)
        files = gguf_parts.siblings(gguf_parts.first(output))
        assert contents(files) in whole and gguf_parts.written(output) == files
        said = "x.gguf was written whole by a call that was stopped" in capsys.readouterr().err
        is_new = contents(files) == whole[1]
        assert said == (is_new and next_call is gguf_split.complete)
        outcomes.add(is_new)
    assert outcomes == {False, True} and not list(tmp_path.glob(".*.written"))
