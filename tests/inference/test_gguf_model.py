"""A GGUF file as a back end: what is no such file is named before the settings."""

import pytest

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(LFS, "is a Git LFS pointer"), (b"", "is damaged"), (b"<!doctype html>", "no GGUF file")],
)
def test_what_is_no_gguf_file_is_named(content, message, script, data_file, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    code, out, err = script("evaluate_temporal", "--model_path", file, "--test_file", data_file)
    assert code == 2 and out == "" and f"{file} is" in err and message in err
