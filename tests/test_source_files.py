"""Files that change while they are read: noticed, and named."""

import pytest

from deepred_common import source_files
from deepred_common.cli import UserError
from deepred_common.evaluation import question_files
from deepred_common.training import data_files
from deepred_common.training.settings import TrainSettings


@pytest.fixture
def file(data_file, tmp_path):
    """A copy of the examples, which a test may change."""
    copy = tmp_path / "examples.jsonl"
    copy.write_text(data_file.read_text())
    return copy


def test_a_file_that_was_changed_replaced_or_removed_is_named(file):
    before = source_files.stamps([file, file.with_name("none")])
    source_files.require_unchanged(before)
    text = file.read_text()
    for change in (
        lambda: file.write_text(text[:-1] + " "),
        lambda: file.with_name("other").write_text(text) and file.with_name("other").replace(file),
        file.unlink,
    ):
        before = source_files.stamps([file])
        change()
        with pytest.raises(UserError, match=r"examples.jsonl was changed while it was read. Run this again."):
            source_files.require_unchanged(before)


def test_training_data_that_change_after_their_hash_was_taken_are_not_trained_on(file):
    data = data_files.DataFiles(TrainSettings(dev=True, dev_path=file, replay_share=0))
    file.write_text(file.read_text().replace("Hamlet", "Macbeth"))
    with pytest.raises(UserError, match="was changed while it was read"):
        data.examples()


def test_questions_that_change_while_they_are_read_are_not_asked(file, monkeypatch):
    true_read = question_files.read_examples

    def read(path, side):
        examples = list(true_read(path, side))
        file.write_text(file.read_text().replace("Hamlet", "Macbeth"))
        return examples

    monkeypatch.setattr(question_files, "read_examples", read)
    with pytest.raises(UserError, match="was changed while it was read"):
        question_files.read([file], None, 1)


def test_an_adapter_that_is_replaced_while_it_is_merged_gives_no_model(
    pipeline, script, tmp_path, monkeypatch
):
    from deepred_common.export import lora_merge

    models = pipeline("llama")
    adapter = tmp_path / "final"
    adapter.mkdir()
    for path in models.final.iterdir():
        (adapter / path.name).write_bytes(path.read_bytes())
    true_write = lora_merge.write_merged

    def write(*args, **kwargs):
        weights = adapter / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes())  # as the end of another training does
        true_write(*args, **kwargs)

    monkeypatch.setattr(lora_merge, "write_merged", write)
    out = tmp_path / "merged"
    code, _, err = script(
        "merge_lora", "--base_model", models.base, "--lora_path", adapter, "--output_path", out
    )
    assert code == 2 and "adapter_model.safetensors was changed while it was read. Run this again." in err
    assert not out.exists()
