"""Interrupted runs: killed, stopped with Ctrl-C, torn checkpoints, finished ones."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from deepred_common import paths
from deepred_common.training import run_folder
from deepred_common.training.settings import TrainSettings


@pytest.fixture
def command(tiny_models, data_file, tmp_path):
    """The command of a run of 12 steps that saves a checkpoint every 2."""
    return [
        sys.executable,
        str(ROOT / "scripts/finetune_temporal.py"),
        "--model_name",
        str(tiny_models["llama"]),
        "--dev",
        "--dev_path",
        str(data_file),
        "--output_dir",
        str(tmp_path / "run"),
        "--epochs",
        "4",
        "--gradient_accumulation_steps",
        "1",
        "--save_steps",
        "2",
        "--eval_steps",
        "50",
    ]


def start_and_wait_for(command, folder, name):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / name / "trainer_state.json").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    return process


def test_killed_and_resumed_equals_uninterrupted(command, tmp_path):
    from safetensors.torch import load_file

    run = tmp_path / "run"
    assert subprocess.run(command, capture_output=True).returncode == 0
    whole = load_file(run / "final/adapter_model.safetensors")
    shutil.rmtree(run)

    process = start_and_wait_for(command, run, "checkpoint-4")
    process.kill()
    process.wait()
    assert not (run / "final").exists()
    # what a power cut in the middle of a save leaves: a newer checkpoint that is not complete
    torn = run / "checkpoint-999"
    shutil.copytree(run / "checkpoint-4", torn)
    (torn / "trainer_state.json").unlink()
    done = subprocess.run([*command, "--resume_latest"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-999 is not complete (trainer_state.json is missing); it is skipped" in done.stderr
    assert "resuming from" in done.stderr
    resumed = load_file(run / "final/adapter_model.safetensors")
    assert whole.keys() == resumed.keys() and all((whole[k] == resumed[k]).all() for k in whole)

    again = subprocess.run([*command, "--resume_latest"], capture_output=True, text=True)
    assert again.returncode == 0 and "already finished" in again.stdout


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopping_saves_first_and_says_how_to_go_on(command, tmp_path, sent):
    run = tmp_path / "run"
    process = start_and_wait_for(command, run, "checkpoint-2")
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("the run ended before the signal arrived")
    assert process.returncode == 130 and "Traceback" not in err
    assert "is saved. Resume with:" in err and err.strip().endswith("--resume_latest")
    step = json.loads((run_folder.latest_checkpoint(run) / "trainer_state.json").read_text())["global_step"]
    assert f"step {step} is saved" in err


def test_resume_from_a_checkpoint_given_by_hand(pipeline, script, tmp_path, tiny_models, data_file):
    run = tmp_path / "run"
    shutil.copytree(pipeline("llama").run, run)
    shutil.rmtree(run / "final")
    common = (
        "finetune_temporal",
        "--model_name",
        tiny_models["llama"],
        "--dev",
        "--dev_path",
        data_file,
        "--epochs",
        2,
        "--gradient_accumulation_steps",
        1,
    )
    code, _, err = script(*common, "--resume_from_checkpoint", run / "checkpoint-2")
    assert code == 0, err
    assert (run / "final/adapter_model.safetensors").exists()
    optimizer = run / "checkpoint-4/optimizer.pt"
    optimizer.write_bytes(
        bytes(optimizer.stat().st_size)
    )  # the right length and no content: what a power cut can leave
    assert run_folder.checkpoint_fault(run / "checkpoint-4") == "optimizer.pt is damaged"
    weights = run / "checkpoint-2/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for path, said in (
        (run / "checkpoint-2", "cut short"),
        (run / "none", "does not exist"),
        (run, "Did you mean"),
    ):
        code, _, err = script(*common, "--resume_from_checkpoint", path)
        assert code == 2 and said in err


def test_resume_latest_finds_the_newest_unfinished_run_and_names_it(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "OUTPUT", tmp_path)
    for name in (
        "temporal-m-dev-20260101_000000",
        "temporal-m-dev-20260102_000000",
        "temporal-m-full-20260103_000000",
    ):
        (tmp_path / name).mkdir()
        run_folder.write_manifest(tmp_path / name, {"finished": None})
    assert run_folder.newest_unfinished("org/M", dev=True).name == "temporal-m-dev-20260102_000000"
    settings = TrainSettings(model_name="org/other", dev=True, resume_latest=True)
    run = run_folder.choose(settings)
    assert run.folder.name.startswith("temporal-other-dev-") and not run.folder.exists()
    assert run.checkpoint is None and not run.finished


@pytest.mark.parametrize("flag", ["--use_4bit", "--use_8bit"])
def test_qlora_trains_on_the_cpu(flag, script, tiny_models, data_file, tmp_path):
    from safetensors.torch import load_file

    run = tmp_path / "run"
    code, _, err = script(
        "finetune_temporal",
        "--model_name",
        tiny_models["llama"],
        "--dev",
        "--dev_path",
        data_file,
        "--output_dir",
        run,
        "--epochs",
        2,
        "--gradient_accumulation_steps",
        1,
        flag,
    )
    assert code == 0, err
    adapter = load_file(run / "final/adapter_model.safetensors")
    assert any(value.abs().max() > 0 for name, value in adapter.items() if "lora_B" in name)
    code, _, err = script(
        "merge_lora",
        "--base_model",
        tiny_models["llama"],
        "--lora_path",
        run / "final",
        "--output_path",
        tmp_path / "m",
    )
    assert code == 0, err
    halved = (
        os.path.getsize(tiny_models["llama"] / "model.safetensors") / 2
    )  # the base's fp32 as bfloat16, not as 4 bits
    assert os.path.getsize(tmp_path / "m/model.safetensors") == pytest.approx(halved, rel=0.01)
