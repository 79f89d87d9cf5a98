"""What a run that is resumed from a checkpoint ends with."""

import json
import re
import shutil

import pytest
from short_runs import short_run

from deepred_common.training import run_folder


@pytest.fixture
def train(script, tiny_models, data_file, tmp_path):
    """train(epochs, flags): 3 updates an epoch, in tmp_path/run -> stdout."""

    def call(epochs, *flags):
        arguments = short_run(tiny_models["llama"], data_file, tmp_path / "run", epochs)
        code, out, err = script("finetune_temporal", *arguments, *flags)
        assert code == 0, err
        return out

    return call


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
