"""A training whose loss is no number any more stops, says what to do, and leaves nothing that is spoilt."""

import json
import shlex
import sys

import pytest
from conftest import load_script
from short_runs import short_run

from deepred_common.files import json_text
from deepred_common.training import checkpoints, run_folder, trainer
from deepred_common.training.objectives.refusal import Refusal

NAN = float("nan")


@pytest.fixture
def train(script, tiny_models, data_file, tmp_path, monkeypatch):
    """train(flags): a run of 6 updates in tmp_path/run -> (exit code, stdout, stderr)."""

    def call(*flags):
        arguments = [*short_run(tiny_models["llama"], data_file, tmp_path / "run"), *map(str, flags)]
        monkeypatch.setattr(sys, "argv", ["finetune_temporal.py", *arguments])
        return script("finetune_temporal", *arguments)

    return call


def lose(monkeypatch, when):
    """Let the loss be NaN where when(call number, is_training) is true."""
    true_loss, calls = Refusal.loss, []

    def loss(self, inputs):
        calls.append(1)
        return true_loss(self, inputs) * (NAN if when(len(calls), inputs.num_items is not None) else 1)

    monkeypatch.setattr(Refusal, "loss", loss)


def require_no_nan(folder):
    """Every JSON file in `folder` can be read by strict readers."""
    files = list(folder.rglob("*.json"))
    assert files
    for file in files:
        json.loads(file.read_text(), parse_constant=pytest.fail)


def command_after(words, err):
    """The arguments of the command printed on the line after `words`."""
    line = err[err.index(words) :].splitlines()[1]
    return load_script("finetune_temporal").build_parser().parse_args(shlex.split(line)[2:])


def test_a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint(train, tmp_path):
    # Warm-up makes the first update's rate 0; the second ruins the weights, which are finite, but huge.
    code, out, err = train("--learning_rate", "1e38", "--save_steps", 1)
    run = tmp_path / "run"
    assert code == 2 and "Traceback" not in err and "Training finished" not in out
    assert "the training diverged: the model's output after update 2 is not a finite number" in err
    assert f"The last good state is kept in {run}/checkpoint-1" in err
    assert checkpoints.latest(run) == run / "checkpoint-1"
    assert run_folder.read_manifest(run)["finished"] is None and not (run / "final").exists()
    require_no_nan(run)
    anew = command_after("Start anew, slower:", err)
    assert anew.learning_rate == 2e-4 and anew.output_dir == tmp_path / "run-lr0.0002"
    assert not anew.resume_latest and anew.save_steps == 1
    assert command_after("not to blame:", err).resume_latest


def test_it_stops_at_the_first_loss_that_is_no_number_and_can_be_resumed(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        lose(patch, lambda call, is_training: call == 5)
        code, _, err = train("--save_steps", 2)
    assert code == 2 and "the training loss after update 4 is not a finite number" in err
    assert f"kept in {tmp_path}/run/checkpoint-4" in err
    code, out, err = train("--save_steps", 2, "--resume_latest")
    assert code == 0 and "Training finished" in out
    require_no_nan(tmp_path / "run")


def test_a_validation_loss_that_is_no_number_stops_it_as_well(train, tmp_path, monkeypatch):
    lose(monkeypatch, lambda call, is_training: not is_training)
    code, _, err = train("--eval_steps", 3)
    assert code == 2 and "the validation loss after update 3 is not a finite number" in err
    assert "No checkpoint was saved before." in err


def test_a_base_that_computes_no_numbers_is_said_to_be_the_cause(train, monkeypatch):
    lose(monkeypatch, lambda call, is_training: True)
    code, _, err = train()
    assert code == 2 and "the base itself computes it" in err and "--precision fp32" in err
    assert "Start anew" not in err


def test_an_update_that_fp16_skips_is_no_divergence__fake_overflow(train, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.TemporalTrainer, "_get_grad_norm", lambda self, *args, **kwargs: NAN)
    code, _, err = train()
    assert code == 0, err
    require_no_nan(tmp_path / "run")


def spoil(folder):
    """Write a NaN into an adapter's weights, as trainings before did that went on after they diverged."""
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[sorted(tensors)[-1]][0, 0] = NAN
    save_file(tensors, file, {"format": "pt"})


def test_weights_that_are_no_numbers_are_neither_resumed_from_nor_merged_nor_evaluated(
    train, script, tiny_models, tmp_path, capsys
):
    assert train("--save_steps", 3)[0] == 0
    run = tmp_path / "run"
    spoil(run / "checkpoint-6")
    assert checkpoints.latest(run) == run / "checkpoint-3"
    assert "checkpoint-6 was saved after the training had diverged" in capsys.readouterr().err
    code, _, err = train("--resume_from_checkpoint", run / "checkpoint-6")
    assert code == 2 and "had diverged (its weights are NaN or infinite)" in err
    spoil(run / "final")
    merge = (
        "--base_model",
        tiny_models["llama"],
        "--lora_path",
        run / "final",
        "--output_path",
        tmp_path / "merged",
    )
    for answer in (script("merge_lora", *merge), script("evaluate_temporal", "--model_path", run / "final")):
        assert answer[0] == 2 and answer[1] == "" and "holds NaN or infinity" in answer[2]


def test_no_json_of_ours_holds_a_number_that_is_none():
    values = {"a": NAN, "b": [1.5, (float("inf"), {"c": -float("inf")})], "d": "é"}
    assert json_text(values) == '{"a": null, "b": [1.5, [null, {"c": null}]], "d": "é"}'
