"""What only a GPU can show: the same training, QLoRA and merge there as on the CPU. Skipped where there is none."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def run(name, *arguments, gpu=True):
    """A script in a process of its own, which sees the GPU or none."""
    environment = os.environ | ({} if gpu else {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""})
    command = [sys.executable, str(ROOT / f"scripts/{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def train(base, data, folder, *more, gpu=True):
    run(
        "finetune_temporal",
        "--model_name",
        base,
        "--dev",
        "--dev_path",
        data,
        "--output_dir",
        folder,
        "--epochs",
        4,
        "--gradient_accumulation_steps",
        1,
        *more,
        gpu=gpu,
    )
    return json.loads((folder / "eval_results.json").read_text())


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_training_learns_what_it_learns_on_the_cpu(kind, tiny_models, data_file, tmp_path):
    on_gpu = train(tiny_models[kind], data_file, tmp_path / "gpu")
    on_cpu = train(tiny_models[kind], data_file, tmp_path / "cpu", gpu=False)
    for side in ("retain", "unlearn"):
        assert on_gpu[f"eval_{side}_loss"] == pytest.approx(
            on_cpu[f"eval_{side}_loss"], rel=0.05
        )  # bf16 against fp32
    assert json.loads((tmp_path / "gpu/run.json").read_text())["device"].startswith("cuda")


@pytest.mark.parametrize("flag", ["--use_4bit", "--use_8bit"])
def test_qlora_trains(flag, tiny_models, data_file, tmp_path):
    losses = train(tiny_models["llama"], data_file, tmp_path / "run", flag)
    assert all(value == value for name, value in losses.items() if name.endswith("loss"))
    from safetensors.torch import load_file

    assert any(
        value.abs().max() > 0
        for name, value in load_file(tmp_path / "run/final/adapter_model.safetensors").items()
        if "lora_B" in name
    )


def test_merging_gives_the_cpu_s_weights_within_a_rounding(tiny_models, data_file, tmp_path):
    from safetensors.torch import load_file

    train(tiny_models["llama"], data_file, tmp_path / "run")
    merged = []
    for gpu in (True, False):
        run(
            "merge_lora",
            "--base_model",
            tiny_models["llama"],
            "--lora_path",
            tmp_path / "run/final",
            "--output_path",
            tmp_path / f"m{gpu}",
            "--dtype",
            "float32",
            gpu=gpu,
        )
        merged.append(load_file(tmp_path / f"m{gpu}/model.safetensors"))
    assert all((merged[0][name] - merged[1][name]).abs().max() < 1e-5 for name in merged[0])
