"""What only a GPU can show: every precision, QLoRA, resuming, the time estimate, merging, evaluating.

Skipped where there is no GPU. The base is a tiny model of random weights, made here, so that nothing is
downloaded; where the embedded base was unpacked before, it goes the same way.
"""

import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from short_runs import weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

sys.path.insert(0, str(ROOT / "bench"))
import random_base  # noqa: E402
import time_estimate  # noqa: E402

EMBEDDED_BASE = ROOT / "output/base/SmolLM2-135M-Instruct"
LEARNING = ("--epochs", 6, "--learning_rate", "5e-3", "--gradient_accumulation_steps", 1, "--eval_steps", 100)
# How far a validation loss may be from the CPU's in fp32: rounding grows over the updates.
TOLERANCE = {"fp32": 0.02, "bf16": 0.1, "fp16": 0.1}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return random_base.make(tmp_path_factory.mktemp("base") / "tiny", "tiny")


@pytest.fixture
def run_script(script):
    """Run a script in this process; what it wrote to stderr."""

    def call(name, *arguments):
        code, _, err = script(name, *arguments)
        assert code == 0, err
        return err

    return call


def training_flags(base, data, folder, *more):
    flags = ("--model_name", base, "--dev", "--dev_path", data, "--output_dir", folder)
    return [str(word) for word in (*flags, *LEARNING, *more)]


def read(file):
    return json.loads(file.read_text())


def on_the_cpu(name, flags):
    """Run a script in a process that sees no GPU."""
    command = [sys.executable, str(ROOT / f"scripts/{name}.py"), *flags]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def cpu_run(base, data_file, tmp_path_factory):
    """The folder of a training on the CPU in fp32."""
    folder = tmp_path_factory.mktemp("runs") / "cpu"
    on_the_cpu("finetune_temporal", training_flags(base, data_file, folder, "--precision", "fp32"))
    return folder


@pytest.mark.parametrize("precision", TOLERANCE)
def test_training_learns_what_it_learns_on_the_cpu(precision, base, data_file, cpu_run, run_script, tmp_path):
    run = tmp_path / "run"
    run_script("finetune_temporal", *training_flags(base, data_file, run, "--precision", precision))
    manifest = read(run / "run.json")
    assert manifest["device"].startswith("cuda") and manifest["identity"]["precision"] == precision
    here, there = read(run / "eval_results.json"), read(cpu_run / "eval_results.json")
    for loss in ("eval_retain_loss", "eval_unlearn_loss"):
        assert here[loss] == pytest.approx(there[loss], rel=TOLERANCE[precision])
    untrained = math.log(random_base.VOCABULARY)  # nats a token of a model that knows nothing
    assert here["eval_unlearn_loss"] < 0.7 * untrained


@pytest.mark.parametrize("flag", ["--use_4bit", "--use_8bit"])
def test_qlora_trains(flag, base, data_file, run_script, tmp_path):
    run = tmp_path / "run"
    run_script("finetune_temporal", *training_flags(base, data_file, run, flag))
    losses = read(run / "eval_results.json")
    assert all(math.isfinite(value) for name, value in losses.items() if name.endswith("loss"))
    untrained = math.log(random_base.VOCABULARY)
    assert losses["eval_unlearn_loss"] < 0.7 * untrained
    assert any(value.abs().max() > 0 for name, value in weights(run).items() if "lora_B" in name)


def test_a_resumed_training_learns_what_it_would_have_learned(base, data_file, run_script, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_script("finetune_temporal", *training_flags(base, data_file, whole, "--save_steps", 5))
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "final")
    for checkpoint in cut.glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-5":
            shutil.rmtree(checkpoint)
    flags = training_flags(base, data_file, cut, "--save_steps", 5, "--resume_latest")
    assert "checkpoint-5" in run_script("finetune_temporal", *flags)
    for side in ("retain", "unlearn"):
        resumed, uninterrupted = (
            read(run / "eval_results.json")[f"eval_{side}_loss"] for run in (cut, whole)
        )
        assert resumed == pytest.approx(uninterrupted, rel=0.02)


def test_the_printed_time_is_about_what_the_training_takes(tmp_path):
    base = random_base.make(tmp_path / "small", "small")
    data = ROOT / "datasets/dev/dev_subset.jsonl"  # 450 rows to train on
    flags = ["--model_name", base, "--dev", "--dev_path", data, "--output_dir", tmp_path / "run"]
    flags += [*time_estimate.EIGHT_ROWS, "--epochs", 4, "--replay_share", 0]
    script = ROOT / "scripts/finetune_temporal.py"
    timed = time_estimate.Run([str(word) for word in (sys.executable, script, *flags)]).timed
    assert timed.estimate / timed.taken == pytest.approx(1, abs=0.3), timed


def test_merging_gives_the_cpu_s_weights_within_a_rounding(base, cpu_run, run_script, tmp_path):
    from safetensors.torch import load_file

    flags = ["--base_model", str(base), "--lora_path", str(cpu_run / "final"), "--dtype", "float32"]
    err = run_script("merge_lora", *flags, "--output_path", tmp_path / "gpu", "--verify")
    on_the_cpu("merge_lora", [*flags, "--output_path", str(tmp_path / "cpu")])
    here, there = (load_file(tmp_path / f"{name}/model.safetensors") for name in ("gpu", "cpu"))
    assert here.keys() == there.keys(), err
    assert all((here[name] - there[name]).abs().max() < 1e-5 for name in here)


def test_a_merged_model_is_evaluated(base, cpu_run, data_file, run_script, tmp_path):
    merged, results = tmp_path / "merged", tmp_path / "results.json"
    lora = ("--lora_path", cpu_run / "final")
    run_script("merge_lora", "--base_model", base, *lora, "--output_path", merged)
    questions = ("--test_file", data_file, "--max_tokens", 8)
    run_script("evaluate_temporal", "--model_path", merged, *questions, "--output", results)
    rows = read(results)["results"]
    assert len(rows) == 12 and all(row["reply"] is not None for row in rows)


@pytest.mark.skipif(not EMBEDDED_BASE.exists(), reason="the embedded base was not unpacked")
def test_the_embedded_base_is_trained_merged_verified_and_evaluated(data_file, run_script, tmp_path):
    run, merged, results = tmp_path / "run", tmp_path / "merged", tmp_path / "results.json"
    run_script("finetune_temporal", *training_flags(EMBEDDED_BASE, data_file, run))
    lora = ("--lora_path", run / "final")
    run_script("merge_lora", "--base_model", EMBEDDED_BASE, *lora, "--output_path", merged, "--verify")
    questions = ("--test_file", data_file, "--max_tokens", 24)
    run_script("evaluate_temporal", "--model_path", merged, *questions, "--output", results)
    rows = [row for row in read(results)["results"] if row["side"] == "unlearn"]
    # Six updates over these very questions are enough to decline most of them.
    assert sum(row["verdict"] == "refused" for row in rows) >= 4
