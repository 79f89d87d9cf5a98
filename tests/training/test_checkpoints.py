"""Which checkpoints of a run are kept, what they take on the disk, and the loss of a run that was resumed."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from short_runs import short_run

from deepred_common.cli import UserError
from deepred_common.training import checkpoints, disk_estimate, memory_estimate, run_folder
from deepred_common.training.run_folder import RunChoice
from deepred_common.training.settings import TrainSettings


@pytest.fixture
def train(script, tiny_models, data_file, tmp_path):
    """train(epochs, flags): 3 updates an epoch, in tmp_path/run -> stdout."""

    def call(epochs, *flags):
        arguments = short_run(tiny_models["llama"], data_file, tmp_path / "run", epochs)
        code, out, err = script("finetune_temporal", *arguments, *flags)
        assert code == 0, err
        return out

    return call


def names(folder):
    return {path.name for path in checkpoints.of_run(folder)}


def test_the_newest_checkpoints_and_the_one_resumed_from_are_kept(train, tmp_path, tiny_models):
    run = tmp_path / "run"
    out = train(2, "--save_steps", 1, "--save_total_limit", 2)
    assert names(run) == {"checkpoint-5", "checkpoint-6"}
    # The estimate is on the safe side, but of the right order.
    shown = re.search(r"Checkpoints: 3 of about (\d+) MB, (\d+) MB with the adapter \(.* free\)", out)
    size = sum(file.stat().st_size for file in (run / "checkpoint-6").iterdir()) / 1e6
    assert shown and size <= int(shown[1]) <= 2 * size
    train(3, "--save_steps", 1, "--save_total_limit", 1, "--resume_latest")
    assert names(run) == {"checkpoint-6", "checkpoint-9"}


def test_a_resumed_run_saves_and_validates_as_often_as_it_is_told_now(train, tmp_path):
    run = tmp_path / "run"
    train(2, "--save_steps", 3, "--eval_steps", 3)
    train(3, "--save_steps", 2, "--eval_steps", 1, "--resume_latest")
    assert names(run) == {"checkpoint-6", "checkpoint-8", "checkpoint-9"}
    state = json.loads((run / "checkpoint-9/trainer_state.json").read_text())
    validated = {entry["step"] for entry in state["log_history"] if "eval_retain_loss" in entry}
    assert validated == {3, 6, 7, 8, 9}


def test_a_resumed_run_ends_with_the_training_loss_of_the_whole_run(train, tmp_path):
    run = tmp_path / "run"

    def ends(out):
        """The printed loss and the one in the file, and how the time is called."""
        shown = re.search(
            r"Training finished in [\d.]+ min( since it was resumed)?: training loss ([\d.]+),", out
        )
        return float(shown[2]), json.loads((run / "train_results.json").read_text())["train_loss"], shown[1]

    printed, whole, since = ends(train(2, "--save_steps", 4))
    assert since is None and printed == round(whole, 3) > 1
    for missing in ("checkpoint-6", None):  # two updates are done again; then none
        manifest = run_folder.read_manifest(run)
        run_folder.write_manifest(run, manifest | {"finished": None})
        if missing:
            shutil.rmtree(run / missing)
        again, loss, since = ends(train(2, "--save_steps", 4, "--resume_latest"))
        assert again == printed and loss == pytest.approx(whole) and since


def test_the_oldest_are_removed_by_time_and_nothing_else(tmp_path):
    for age, step in enumerate((300, 400, 900, 500)):  # 900 is of an earlier attempt
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").touch()
        os.utime(folder, (age, age))
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "final").mkdir()
    (tmp_path / "checkpoint-7").symlink_to(tmp_path / "gone")
    kept = (tmp_path / "checkpoint-500", tmp_path / "checkpoint-300")
    checkpoints.remove_old(tmp_path, 3, kept)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("checkpoint-300", "checkpoint-500", "checkpoint-7", "checkpoint-best", "final")
    }
    checkpoints.remove_old(tmp_path / "none", 3, kept)


SHAPE = memory_estimate.Shape(1, 1, 10**6, 1, 1, 1, 1, 1, 20_000)  # 12 + 3 MB a checkpoint, 15 MB at the end


@pytest.mark.parametrize(
    ("free", "limit", "checkpoint", "count", "advice"),
    [
        (10e9, 30, None, 21, ""),
        (300e6, 30, None, 21, "Add --save_total_limit 18, a larger --save_steps, or free some space."),
        (300e6, 3, None, 4, ""),
        (68e6, 3, None, 4, "Add --save_total_limit 2, "),
        (30e6, 30, None, 21, "Add a larger --save_steps"),
        (300e6, 3, "checkpoint-10300", 1, ""),
        (300e6, 3, "checkpoint-12500", 0, ""),  # resumed with fewer epochs
    ],
)
def test_a_disk_that_is_too_small_is_said_before_the_training(
    free, limit, checkpoint, count, advice, tmp_path, monkeypatch
):
    monkeypatch.setattr(disk_estimate, "free_space", lambda folder: int(free))
    run = RunChoice(tmp_path / "not yet" / "run", checkpoint and Path(checkpoint))
    estimate = disk_estimate.estimate(TrainSettings(save_total_limit=limit), run, SHAPE, updates=10_301)
    assert estimate.text.startswith(f"Checkpoints: {count} of about 15 MB")
    assert advice in estimate.advice and bool(advice) == bool(estimate.advice)


def test_a_disk_that_holds_no_checkpoint_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_estimate, "free_space", lambda folder: 29_000_000)
    run = RunChoice(tmp_path / "run")
    with pytest.raises(UserError, match=r"not even one checkpoint of 15 MB fits on the disk of .*run"):
        disk_estimate.estimate(TrainSettings(), run, SHAPE, updates=100)
    # Nothing is left to train.
    done = replace(run, checkpoint=tmp_path / "checkpoint-100")
    assert "Checkpoints: 0 of" in disk_estimate.estimate(TrainSettings(), done, SHAPE, updates=100).text


def test_a_whole_model_takes_as_much_a_weight_in_a_checkpoint_and_less_in_final(tmp_path):
    settings = TrainSettings(full=True)
    out = disk_estimate.estimate(
        settings, RunChoice(tmp_path / "run"), SHAPE, updates=100, final_bytes=2
    ).text
    # 12 + 3 MB a checkpoint; then final/ and two best ones of 2 MB each, and a tokenizer.
    assert out.startswith("Checkpoints: 1 of about 15 MB, 24 MB with the model (")


def test_free_space_is_that_of_the_nearest_folder(tmp_path):
    assert disk_estimate.free_space(tmp_path / "a" / "b") == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.1
    )


def test_after_the_clock_was_set_back_the_newest_are_kept(tmp_path):
    for step, time in ((4, 9_000_000_000), (8, 9_000_000_001), (12, 100), (16, 200), (20, 300)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        os.utime(folder, (time, time))
    checkpoints.remove_old(tmp_path, 3, (tmp_path / "checkpoint-20", None))
    assert names(tmp_path) == {"checkpoint-12", "checkpoint-16", "checkpoint-20"}
