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


def test_a_split_file_is_given_by_its_first_part_and_must_be_whole(script, data_file, tmp_path):
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(b"GGUF")
    code, _, err = script("evaluate_temporal", "--model_path", first, "--test_file", data_file)
    assert code == 2 and f"{second} does not exist" in err
    second.write_bytes(b"GGUF")
    code, _, err = script("evaluate_temporal", "--model_path", second, "--test_file", data_file)
    assert code == 2 and f"Give the first part: {first}" in err
