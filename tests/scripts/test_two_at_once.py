"""Two runs of a script with one output at once: the second neither replaces nor mixes the first's."""

import pytest

from deepred_common.export import adapter_changes, llama_cpp
from deepred_common.files import whole_file, whole_folder


@pytest.fixture
def merge(pipeline, script, tmp_path):
    models = pipeline("llama")
    sources = ("--base_model", models.base, "--lora_path", models.final)
    return lambda *flags: script("merge_lora", *sources, "--output_path", tmp_path / "merged", *flags)


def test_a_merge_that_ends_while_another_loads_is_not_replaced(merge, tmp_path, monkeypatch):
    true_read = adapter_changes.read_changes

    def read(*arguments):
        with whole_folder(tmp_path / "merged") as folder:  # the other one ends now
            (folder / "other").touch()
        return true_read(*arguments)

    monkeypatch.setattr(adapter_changes, "read_changes", read)
    code, _, err = merge()
    assert code == 2 and "merged already exists" in err
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["other"]


def test_a_merge_while_another_writes_is_refused(merge, tmp_path):
    with whole_folder(tmp_path / "merged"):
        code, _, err = merge("--overwrite")
        assert code == 2 and "another process is writing" in err and "Wait for it" in err
    assert merge("--overwrite")[0] == 0


def test_a_conversion_that_ends_while_another_starts_is_not_replaced(pipeline, script, tmp_path, monkeypatch):
    models, output = pipeline("llama"), tmp_path / "m.gguf"
    true_check = llama_cpp.require_architecture

    def check(*arguments):
        with whole_file(output) as file:
            file.write_text("the other's")
        true_check(*arguments)

    monkeypatch.setattr(llama_cpp, "require_architecture", check)
    command = ("--model_path", models.merged, "--output_path", output, "--quant_type", "f16")
    code, _, err = script("convert_to_gguf", *command)
    assert code == 2 and "m.gguf already exists" in err and output.read_text() == "the other's"
