"""What a user is told when a training stops with an error."""

import sys
from types import SimpleNamespace

import pytest

from deepred_common.cli import UserError
from deepred_common.training import recovery
from deepred_common.training.settings import TrainSettings


def test_weights_and_biases_without_a_login_is_no_bug_of_ours__fake_wandb(tmp_path, monkeypatch, capsys):
    usage = type("UsageError", (Exception,), {"__module__": "wandb.errors.errors"})
    monkeypatch.setattr(sys, "argv", ["finetune_temporal.py", "--dev", "--wandb"])
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=0))
    error = recovery.explain(
        TrainSettings(dev=True, wandb=True),
        tmp_path,
        trainer,
        usage("api_key not configured (no-tty). call wandb.login(key=[your_api_key])"),
    )
    assert "stopped the training after update 0 (api_key not configured" in str(error)
    assert "wandb login" in str(error) and "--wandb --output_dir" in str(error)
    assert "Traceback" not in capsys.readouterr().err


def test_advice_against_a_full_memory_does_not_lengthen_the_examples():
    assert not any(
        "--max_seq_length" in step for step in recovery.less_memory(TrainSettings(max_seq_length=192))
    )
    assert "--max_seq_length 256 in a new run" in recovery.less_memory(TrainSettings())


@pytest.mark.parametrize(("batch", "flags"), [(6, "3 8"), (3, "1 12"), (1, "")])
def test_advice_against_a_full_memory_keeps_the_rows_of_an_update(batch, flags):
    first = recovery.less_memory(TrainSettings(batch_size=batch))[0]
    words = first.split()
    if not flags:
        assert "--batch_size" not in words
        return
    assert words[::2] == ["--batch_size", "--gradient_accumulation_steps"]
    assert " ".join(words[1::2]) == flags


def test_what_fails_in_one_process_of_several_is_said_by_that_process(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["finetune_temporal.py", "--dev"])
    monkeypatch.setenv("RANK", "1")
    state, args = SimpleNamespace(global_step=7), SimpleNamespace(fp16=False)
    trainer = SimpleNamespace(state=state, args=args)
    settings = TrainSettings(dev=True)
    for failure, told in (
        (RuntimeError("HIP error: unspecified launch failure"), True),
        (recovery.Diverged("training loss"), False),  # all processes know, and the first one says it
    ):
        with pytest.raises(UserError), recovery.explained(settings, tmp_path, trainer):
            raise failure
        assert ("error in process 1: the GPU stopped responding" in capsys.readouterr().err) is told
