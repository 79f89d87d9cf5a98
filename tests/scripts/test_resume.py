"""Interrupted runs: killed, stopped, out of memory, torn checkpoints; and which run may be resumed."""

import contextlib
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from precisions import PRECISIONS
from short_runs import ROUNDING, distance, launcher, same, short_run, weights, whole_updates

from deepred_common import paths, provenance
from deepred_common.cli import UserError
from deepred_common.data import checks
from deepred_common.training import checkpoints, run_claim, run_flags, run_folder, run_identity
from deepred_common.training.objectives.refusal import Refusal
from deepred_common.training.settings import TrainSettings
from deepred_common.training.trainer import TemporalTrainer

SECONDS_TO_WAIT = 120  # for a process of a test to get somewhere


@pytest.fixture
def arguments(tiny_models, data_file, tmp_path):
    return ["finetune_temporal", *short_run(tiny_models["llama"], data_file, tmp_path / "run")]


@pytest.fixture
def finished(pipeline, tmp_path):
    """The folder of a copy of a finished run, of `arguments`, with a checkpoint every 2 updates."""
    return shutil.copytree(pipeline("llama").run, tmp_path / "run")


@pytest.fixture
def three_epochs(tiny_models, data_file, tmp_path):
    """The arguments that lengthen a finished run."""
    return ["finetune_temporal", *short_run(tiny_models["llama"], data_file, tmp_path / "run", epochs=3)]


@pytest.fixture
def command(tiny_models, data_file, tmp_path):
    """A process's command: 12 updates, with a checkpoint every 2."""
    script = [sys.executable, str(ROOT / "scripts/finetune_temporal.py")]
    flags = short_run(tiny_models["llama"], data_file, tmp_path / "run", epochs=4)
    return [*script, *flags, "--save_steps", "2", "--eval_steps", "50"]


def start_and_wait_for(command, file):
    """Start a process and return it as soon as `file` exists."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.002)
    return process


# ---- killed and stopped ------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_killed_in_the_middle_of_every_save_the_run_ends_as_if_nothing_happened(precision, command, tmp_path):
    """Five kill -9: before the first update, and four times once a part of a checkpoint exists."""
    run = tmp_path / "run"
    command += ["--precision", precision]
    assert subprocess.run(command, capture_output=True).returncode == 0
    run.rename(tmp_path / "whole")
    torn = 0
    for file in (
        "run.json",
        "checkpoint-2",
        "checkpoint-4/optimizer.pt",
        "checkpoint-6/adapter_model.safetensors",
        "checkpoint-8",
    ):
        process = start_and_wait_for([*command, "--resume_latest"], run / file)
        process.kill()
        process.communicate()
        assert not (run / "final").exists()
        torn += any(checkpoints.fault(folder) for folder in run.glob("checkpoint-*"))
    # What a power cut in the middle of a save leaves: a newer checkpoint that is not complete.
    newest = checkpoints.latest(run)
    shutil.copytree(newest, run / "checkpoint-999")
    (run / "checkpoint-999/trainer_state.json").unlink()
    done = subprocess.run([*command, "--resume_latest"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-999 is not complete (trainer_state.json is missing); it is skipped" in done.stderr
    assert f"resuming from {newest}" in done.stderr
    assert torn and same(weights(run), weights(tmp_path / "whole"))

    again = subprocess.run([*command, "--resume_latest"], capture_output=True, text=True)
    assert again.returncode == 0 and "already finished" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_saves_first_and_prints_how_to_resume(command, tmp_path, number):
    run = tmp_path / "run"
    process = start_and_wait_for(command, run / "checkpoint-2/trainer_state.json")
    process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS_TO_WAIT)
    if process.returncode == 0:
        pytest.skip("the run ended before the signal arrived")
    assert process.returncode == 130 and "Traceback" not in err
    assert "is saved. Resume with:" in err and err.strip().endswith("--resume_latest")
    step = json.loads((checkpoints.latest(run) / "trainer_state.json").read_text())["global_step"]
    assert f"update {step} is saved" in err


@pytest.fixture
def hangups_arrive():
    """Under nohup, tests and their processes would ignore them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.usefixtures("hangups_arrive")
def test_a_closed_terminal_saves_first(command, tmp_path):
    """As a lost ssh does it: the system and the shell send a SIGHUP each, and no line can be printed."""
    import os
    import pty

    begun = tmp_path / "run/training_curves.png"  # drawn at the first validation
    process, terminal = pty.fork()
    if process == 0:
        os.execv(command[0], [*command, "--epochs", "40", "--save_steps", "500", "--eval_steps", "1"])
    os.set_blocking(terminal, False)
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.002)
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 10_000)
    os.close(terminal)
    os.kill(process, signal.SIGHUP)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert not (tmp_path / "run/final").exists()
    assert checkpoints.latest(tmp_path / "run")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.usefixtures("hangups_arrive")
def test_a_terminal_that_closes_with_the_reader_of_a_pipe_saves_first(command, tmp_path):
    """As `2>&1 | tee train.log` in it: tee ends at once."""
    longer = [*command, "--epochs", "40", "--save_steps", "500", "--eval_steps", "1"]
    process = start_and_wait_for(longer, tmp_path / "run/training_curves.png")
    process.send_signal(signal.SIGSTOP)  # both at once: a line between them would fail
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 130
    assert checkpoints.latest(tmp_path / "run") and not (tmp_path / "run/final").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_lets_a_run_go_on_when_the_terminal_closes():
    from deepred_common.training.interruption import StopAndSave

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    args, stopper = SimpleNamespace(world_size=1), StopAndSave("the command")
    try:
        stopper.on_train_begin(args, None, None)
        signal.raise_signal(signal.SIGHUP)
        stopper.on_train_end(args, None, None)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not stopper.requested


def test_a_second_ctrl_c_says_how_to_resume(arguments, script, monkeypatch, tmp_path):
    """The first comes in an update, the second while its checkpoint is written."""
    true_loss, calls = Refusal.loss, []
    write = TemporalTrainer._write_checkpoint

    def loss(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return true_loss(*args, **kwargs)

    def write_a_part(self, *args):
        if self.state.global_step == 2:
            return write(self, *args)
        checkpoints.path_of(self.args.output_dir, self.state.global_step).mkdir()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Refusal, "loss", loss)
    monkeypatch.setattr(TemporalTrainer, "_write_checkpoint", write_a_part)
    before = signal.getsignal(signal.SIGINT)
    try:
        code, _, err = script(*arguments, "--save_steps", 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and "Traceback" not in err
    assert "no unfinished output was left behind" not in err  # a part of checkpoint-3 was
    assert "interrupted: stopped at once;" in err and err.strip().endswith("--resume_latest")
    assert checkpoints.latest(tmp_path / "run").name == "checkpoint-2"


def two_processes(flags, folder, config="ddp", script=("scripts/finetune_temporal.py",)):
    """The command of `flags` in two processes that share an update of 4 rows."""
    start = [*launcher(config), *(str(ROOT / file) for file in script)]
    return [*start, *flags, "--batch_size", "2", "--output_dir", str(folder)]


@pytest.fixture
def whole_epochs(tiny_models, data_file, tmp_path):
    """Flags for 12 updates, 3 an epoch, of 4 rows each."""
    return [
        *("--model_name", str(tiny_models["llama"])),
        *whole_updates(data_file, tmp_path),
        *"--gradient_accumulation_steps 1 --epochs 4 --replay_share 0 --precision fp32".split(),
    ]


def test_a_signal_to_one_of_two_processes_stops_both_and_they_resume_as_if_nothing_happened(
    whole_epochs, script, tmp_path
):
    """Resumed within the second epoch. Compared with one process, which learns the same."""
    import psutil

    assert script("finetune_temporal", *whole_epochs, "--output_dir", tmp_path / "one")[0] == 0
    run = tmp_path / "run"
    command = two_processes([*whole_epochs, "--save_steps", "4"], run)
    process = start_and_wait_for(command, run / "checkpoint-4")
    workers = psutil.Process(process.pid).children()
    (second,) = [worker for worker in workers if worker.environ().get("RANK") == "1"]
    second.terminate()
    _, err = process.communicate(timeout=SECONDS_TO_WAIT)
    step = checkpoints.step_of(checkpoints.latest(run))
    assert f"update {step} is saved. Resume with:" in err, err
    resume = ("--resume_from_checkpoint", str(run / "checkpoint-4"))
    done = subprocess.run([*command, *resume], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert distance(weights(tmp_path / "one"), weights(run)) <= ROUNDING["fp32"][1]


def test_a_run_under_fsdp_is_resumed_and_ends_as_one_process_does__accelerate_made_to_take_a_cpu(
    whole_epochs, script, tmp_path
):
    flags = [*whole_epochs, "--epochs", "2"]
    assert script("finetune_temporal", *flags, "--output_dir", tmp_path / "one")[0] == 0
    run = tmp_path / "run"
    files = ("tests/fsdp_on_cpu.py", "scripts/finetune_temporal.py")
    command = two_processes([*flags, "--save_steps", "4"], run, "fsdp", files)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (run / "checkpoint-4/pytorch_model_fsdp.bin").exists()  # it was split indeed
    whole = weights(run)
    assert distance(weights(tmp_path / "one"), whole) <= ROUNDING["fp32"][1]
    # Killed after update 4.
    shutil.rmtree(run / "checkpoint-6")
    shutil.rmtree(run / "final")
    done = subprocess.run([*command, "--resume_latest"], capture_output=True, text=True)
    assert done.returncode == 0 and "resuming from" in done.stderr, done.stderr
    assert same(weights(run), whole)


@pytest.mark.parametrize("layout", ["optimizer.bin", "optimizer_0", "global_step6"])
def test_checkpoints_of_fsdp_and_deepspeed_are_whole__by_the_names_of_their_files(
    layout, finished, monkeypatch
):
    checkpoint = finished / "checkpoint-6"
    (checkpoint / "optimizer.pt").unlink()
    assert checkpoints.fault(checkpoint) == "optimizer.pt is missing"
    if layout.endswith(".bin"):
        (checkpoint / layout).touch()
        assert checkpoints.fault(checkpoint) == "optimizer.pt is missing"
        shutil.copy(checkpoint / "scheduler.pt", checkpoint / layout)
        assert checkpoints.fault(checkpoint) is None
        (checkpoint / layout).write_bytes(bytes(1000))
        assert checkpoints.fault(checkpoint) == f"{layout} is damaged"
        shutil.copy(checkpoint / "scheduler.pt", checkpoint / layout)
        require_launched_alike(finished, "FSDP", monkeypatch)
        return
    (checkpoint / layout).mkdir()
    assert checkpoints.fault(checkpoint) == "optimizer.pt is missing"
    (checkpoint / layout / "shard").write_text("of a process")
    assert checkpoints.fault(checkpoint) is None
    if layout == "optimizer_0":  # FSDP's shards hold the weights as well
        (checkpoint / "adapter_model.safetensors").unlink()
        (checkpoint / "pytorch_model_fsdp_0").mkdir()
    require_launched_alike(finished, "FSDP" if layout == "optimizer_0" else "DeepSpeed", monkeypatch)


def require_launched_alike(run, kind, monkeypatch):
    """checkpoint-6 was saved under `kind`, the one before it was not: each is for a run of its own kind."""
    assert checkpoints.step_of(checkpoints.latest(run)) < 6
    with pytest.raises(UserError, match=f"was saved under {kind}, and this run is not"):
        checkpoints.require(run / "checkpoint-6")
    monkeypatch.setenv(f"ACCELERATE_USE_{kind.upper()}", "true")
    assert checkpoints.latest(run) == run / "checkpoint-6"
    shutil.rmtree(run / "checkpoint-6")
    with pytest.raises(UserError, match=r"whole model, and this run is under .*\nStart this run as that one"):
        checkpoints.latest(run)  # not a new start in a folder that holds good ones


# ---- errors in the middle ----------------------------------------------------------------------------


def fail_at(monkeypatch, call, error):
    """Let the training's loss fail at its `call`-th computation."""
    true_loss, calls = Refusal.loss, []

    def loss(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise error
        return true_loss(*args, **kwargs)

    monkeypatch.setattr(Refusal, "loss", loss)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fake_out_of_memory_keeps_the_state_and_its_command_ends_at_the_same_adapter(
    precision, arguments, script, tmp_path, monkeypatch
):
    import torch

    arguments += ["--precision", precision]
    assert script(*arguments)[0] == 0
    whole = weights(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "whole")
    monkeypatch.setattr(sys, "argv", ["finetune_temporal.py", *arguments[1:]])
    fail_at(monkeypatch, 5, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    code, _, err = script(*arguments)
    assert code == 2 and "Traceback" not in err
    assert "out of memory after update 4; the state is saved in" in err and "checkpoint-4" in err
    command = err[err.index("Resume with a smaller batch") :].splitlines()[1].split()
    assert command[0] == "python" and command[command.index("--batch_size") + 1] == "2"
    assert command[command.index("--gradient_accumulation_steps") + 1] == "2"
    assert command.count("--gradient_accumulation_steps") == 1
    code, _, err = script("finetune_temporal", *command[2:])
    assert code == 0, err
    assert distance(whole, weights(tmp_path / "run")) <= ROUNDING[precision][1]


def test_fake_gpu_hang_names_the_checkpoint_and_the_remedies(arguments, script, monkeypatch):
    fail_at(monkeypatch, 5, RuntimeError("HIP error: unspecified launch failure\nmore"))
    code, _, err = script(*arguments, "--save_steps", 2)
    assert code == 2 and "Traceback" not in err
    assert "the GPU stopped responding after update 4 (HIP error: unspecified launch failure)" in err
    assert "updates up to 4 are saved in" in err and "--resume_latest" in err
    assert "AMD_SERIALIZE_KERNEL=3" in err


def test_an_unexpected_error_ends_with_the_command_that_resumes(arguments, script, monkeypatch):
    fail_at(monkeypatch, 5, ValueError("something of ours"))
    code, _, err = script(*arguments, "--save_steps", 2)
    assert code == 2 and "Traceback" in err and "ValueError: something of ours" in err
    message, command = err.splitlines()[-2:]
    assert "stopped after update 4" in message and "updates up to 4 are saved" in message
    assert command.endswith("--resume_latest")
    assert err.index("If the run is interrupted, resume it with:") < err.index("Traceback")


def test_what_the_user_can_fix_is_said_without_a_traceback(arguments, script, monkeypatch):
    fail_at(monkeypatch, 5, UserError("another process is writing the checkpoint. Wait for it."))
    code, _, err = script(*arguments)
    assert code == 2 and "Traceback" not in err
    assert err.endswith("error: another process is writing the checkpoint. Wait for it.\n")


# ---- which run ---------------------------------------------------------------------------------------


def test_another_run_s_checkpoint_is_refused_with_what_differs(finished, arguments, three_epochs, script):
    before = weights(finished)
    code, out, _ = script(*arguments, "--resume_latest")
    assert code == 0 and "already finished" in out
    # Of a finished run of other settings or data it must not say that nothing is left to do.
    code, _, err = script(*arguments, "--resume_latest", "--learning_rate", "1e-3")
    assert code == 2 and "is finished, but it is another run" in err and "--output_dir" in err
    assert "learning_rate: 0.0002 -> 0.001" in err
    changes = ("--learning_rate", "1e-3", "--lora_r", 8, "--batch_size", 2)
    code, _, err = script(*three_epochs, "--resume_latest", *changes)
    assert code == 2 and "this is not the run that the checkpoint is from" in err
    update = "examples per update (--batch_size x --gradient_accumulation_steps x processes): 4 -> 2"
    for difference in ("learning_rate: 0.0002 -> 0.001", "lora_r: 16 -> 8", update):
        assert difference in err
    assert same(weights(finished), before)
    code, _, err = script(*three_epochs, "--resume_latest")
    assert code == 0 and "epochs: 2 -> 3" in err
    assert not same(weights(finished), before)
    oldest = min(finished.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    resume = ("--resume_from_checkpoint", oldest)
    code, _, err = script(*three_epochs, *resume, "--learning_rate", "1e-3", "--resume_anyway")
    assert code == 0 and "resuming although it differs: learning_rate" in err


def test_a_resumed_run_keeps_its_settings_without_the_flags_that_it_was_started_with(
    finished, arguments, three_epochs, script
):
    whole = script(*three_epochs, "--resume_latest", "--dry_run")
    code, out, _ = script("finetune_temporal", "--output_dir", finished, "--resume_latest")
    assert code == 0 and "already finished" in out
    again = ("finetune_temporal", "--output_dir", finished, "--resume_latest", "--epochs", 3)
    code, out, _ = script(*again, "--dry_run")
    assert code == whole[0] == 0
    for setting in ("model_name", "dev", "dev_path", "gradient_accumulation_steps", "replay_share"):
        line = next(line for line in out.splitlines() if line.split()[:1] == [setting])
        assert line.endswith("[run.json]") and line.split("[")[0] in whole[1]
    code, _, err = script(*again)
    assert code == 0 and "epochs: 2 -> 3" in err
    # A checkpoint given by hand is of that run, too; what is given counts.
    newest = max(finished.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    resume = ("finetune_temporal", "--resume_from_checkpoint", newest, "--epochs", 4)
    code, _, err = script(*resume, "--seed", 7, "--dry_run")
    assert code == 2 and "seed: 42 -> 7" in err and len(re.findall("->", err)) == 2  # and the epochs
    assert script(*resume, "--dry_run")[0] == 0


def test_what_is_of_one_command_is_not_kept_by_a_resumed_run(tmp_path):
    file = str(tmp_path / "gone.jsonl")
    flags = {"retain_train": file, "replay": [file], "mix": [1, 2], "use_4bit": True, "wandb": True}
    flags |= {"resume_anyway": True, "trust_remote_code": True, "lora_r": "unused", "of_another_version": 1}
    manifest = {"settings": {name: {"value": value, "source": "flag"} for name, value in flags.items()}}
    kept = {"retain_train": Path(file), "replay": (Path(file),), "mix": (1, 2)}
    assert run_flags.recorded(manifest, set()) == kept | {"use_4bit": True}
    assert run_flags.recorded(manifest, {"use_8bit"}) == kept
    assert run_flags.recorded({}, {"full"}) == {}
    with pytest.raises(UserError, match="Omit --full"):
        run_flags.recorded(manifest, {"full"})


def test_data_that_moved_are_found_where_they_are_by_default_if_they_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("WIKI_DATA", str(tmp_path))
    gone, now = tmp_path / "gone.jsonl", paths.dataset_file("retain_train")
    now.parent.mkdir(parents=True)
    now.write_text("the data")
    table = {"retain_train": {"value": str(gone), "source": "environment WIKI_DATA"}}
    manifest = {"settings": table, "identity": {"data": {"retain_train": provenance.sha256(now)}}}
    assert run_flags.recorded(manifest, set()) == {}  # the default counts
    now.write_text("other data")
    assert run_flags.recorded(manifest, set()) == {"retain_train": gone}
    gone.write_text("the data")
    assert run_flags.recorded(manifest, set()) == {"retain_train": gone}


def test_a_resumed_run_never_trains_on_other_data_than_its_own(finished, data_file, tmp_path, script):
    """Without a checkpoint too, and where the disk with the data is not mounted."""
    for folder in finished.glob("*checkpoint-*"):
        shutil.rmtree(folder)
    manifest = run_folder.read_manifest(finished)
    manifest["settings"]["dev_path"]["value"] = str(tmp_path / "gone.jsonl")
    run_folder.write_manifest(finished, manifest | {"finished": None})
    again = ("finetune_temporal", "--output_dir", finished, "--resume_latest", "--dry_run")
    code, _, err = script(*again)
    assert code == 2 and f"{tmp_path / 'gone.jsonl'} does not exist" in err
    assert script(*again, "--dev_path", data_file)[0] == 0
    code, _, err = script(*again, "--retain_train", data_file)
    assert code == 2 and "the run was started with --dev" in err


def test_a_finished_run_of_another_base_is_not_what_was_asked_for(finished, arguments, tiny_models, script):
    place = arguments.index("--model_name") + 1
    copy = shutil.copytree(arguments[place], finished.parent / "same-base")
    same_base = [*arguments[:place], str(copy), *arguments[place + 1 :]]
    assert script(*same_base, "--resume_latest")[0] == 0
    other_base = [*arguments[:place], str(tiny_models["qwen2"]), *arguments[place + 1 :]]
    code, _, err = script(*other_base, "--resume_latest")
    assert code == 2 and "is finished, but it is another run" in err and "base: " in err


def test_an_adapter_of_another_rank_is_not_resumed_whatever_is_said(finished, three_epochs, script):
    code, _, err = script(*three_epochs, "--resume_latest", "--resume_anyway", "--lora_r", 8)
    assert code == 2 and "lora_r: 16 -> 8" in err and "--resume_anyway" not in err


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--dev_path", "x.jsonl"], "--dev_path would not be read: only --dev reads it"),
        (["--dev", "--retain_train", "x.jsonl"], "--retain_train would not be read: --dev reads --dev_path"),
        (["--replay", "x.jsonl", "--objective", "grad_ascent"], "grad_ascent has no loss of such rows"),
    ],
)
def test_data_that_would_not_be_read_are_refused(flags, reason, script):
    code, _, err = script("finetune_temporal", *flags)
    assert code == 2 and reason in err


def test_a_run_resumed_with_another_learning_rate_trains_at_that_rate(arguments, script, tmp_path):
    run = tmp_path / "run"
    each = (*arguments, "--save_steps", 1, "--save_total_limit", 9)
    assert script(*each)[0] == 0
    before = logged_rates(run)
    resume = ("--resume_from_checkpoint", run / "checkpoint-2")
    code, _, err = script(*each, *resume, "--learning_rate", "2e-3", "--resume_anyway")
    assert code == 0, err
    now = logged_rates(run)
    assert list(now) == list(before) == [1, 2, 3, 4, 5, 6] and now[3] > 0
    for update in (3, 4, 5, 6):
        assert now[update] == pytest.approx(10 * before[update]), update


def test_a_resumed_run_began_when_it_was_started(finished, three_epochs, script):
    manifest = run_folder.read_manifest(finished)
    manifest["started"] = "2020-02-03T04:05:06+00:00"
    run_folder.write_manifest(finished, manifest)
    code, _, err = script(*three_epochs, "--resume_latest")
    assert code == 0, err
    assert run_folder.read_manifest(finished)["started"] == manifest["started"]
    assert "2020-02-03" in (finished / "final/README.md").read_text(encoding="utf-8")


def logged_rates(run):
    """{update: its learning rate} in the newest checkpoint of a run."""
    state = json.loads((checkpoints.latest(run) / "trainer_state.json").read_text())
    return {entry["step"]: entry["learning_rate"] for entry in state["log_history"] if "loss" in entry}


def test_a_resume_with_other_flags_is_refused_before_data_are_checked_or_libraries_loaded(
    finished, three_epochs, script, monkeypatch
):
    from deepred_common.models import loading

    for module, name in ((checks, "summary"), (loading, "set_up_libraries")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("too late"))
    code, _, err = script(*three_epochs, "--resume_latest", "--seed", 7)
    assert code == 2 and "seed: 42 -> 7" in err


def test_a_run_is_resumed_in_its_own_precision_only(finished, three_epochs, script):
    manifest = run_folder.read_manifest(finished)
    own = manifest["identity"]["precision"]
    other = "bf16" if own == "fp32" else "fp32"
    refused = script(*three_epochs, "--resume_latest", "--precision", other)
    assert refused[0] == 2 and f"precision: {own} -> {other}" in refused[2]
    # The version before recorded it elsewhere only.
    del manifest["identity"]["precision"]
    run_folder.write_manifest(finished, manifest)
    assert script(*three_epochs, "--resume_latest", "--precision", other) == refused
    assert script(*three_epochs, "--resume_latest", "--precision", own, "--dry_run")[0] == 0
    code, _, err = script(
        *three_epochs, "--resume_latest", "--precision", other, "--resume_anyway", "--dry_run"
    )
    assert code == 0 and f"although it differs: precision: {own} -> {other}" in err


def test_a_run_is_resumed_with_its_own_objective_only(finished, three_epochs, script):
    manifest = run_folder.read_manifest(finished)
    manifest["identity"]["objective"]["retain_weight"] = 5
    run_folder.write_manifest(finished, manifest)
    code, _, err = script(*three_epochs, "--resume_latest")
    assert code == 2 and "this is not the run" in err and "objective retain_weight: 5 -> 1.5" in err
    # Older versions, which had one objective only, did not record it. It had another weight than today's.
    del manifest["identity"]["objective"]
    run_folder.write_manifest(finished, manifest)
    code, _, err = script(*three_epochs, "--resume_latest", "--dry_run")
    assert code == 2 and "objective retain_weight: 3 -> 1.5" in err and "--resume_anyway" in err
    assert script(*three_epochs, "--resume_latest", "--resume_anyway", "--dry_run")[0] == 0


def test_another_objective_does_not_resume_a_run_that_recorded_none():
    before = run_identity.recorded({"identity": {"seed": 42}})
    for objective, changes in (
        (Refusal(retain_weight=3), []),
        (Refusal(retain_weight=3, decision_weight=1), ["objective decision_weight: 10 -> 1"]),
    ):
        now = run_identity.of_settings(TrainSettings(objective=objective, replay_share=0), data={})
        assert run_identity.differences(before, now) == changes


def test_a_checkpoint_is_compared_with_its_own_run_whatever_the_output_folder(
    finished, tiny_models, data_file, script, tmp_path
):
    elsewhere = short_run(tiny_models["llama"], data_file, tmp_path / "other")
    resume = ("--resume_from_checkpoint", finished / "checkpoint-2")
    code, _, err = script("finetune_temporal", *elsewhere, *resume, "--seed", 7)
    assert code == 2 and "seed: 42 -> 7" in err and not (tmp_path / "other").exists()
    code, _, err = script("finetune_temporal", *elsewhere, *resume)
    assert code == 0, err
    assert same(weights(tmp_path / "other"), weights(finished))


def test_a_run_that_began_at_another_run_s_checkpoint_begins_there_again_if_it_was_killed_before_its_first(
    finished, tiny_models, data_file, script, tmp_path, monkeypatch
):
    elsewhere = short_run(tiny_models["llama"], data_file, tmp_path / "other")
    begin = finished / "checkpoint-2"
    with monkeypatch.context() as patch:
        fail_at(patch, 1, RuntimeError("as a kill would end it, nothing is saved"))
        code, *_ = script("finetune_temporal", *elsewhere, "--resume_from_checkpoint", begin)
    assert code == 2 and not checkpoints.of_run(tmp_path / "other")
    code, _, err = script("finetune_temporal", *elsewhere, "--resume_latest")
    assert code == 0 and f"resuming from {begin}" in err
    assert same(weights(tmp_path / "other"), weights(finished))


def test_another_run_s_folder_is_not_written_over_from_a_checkpoint(finished, arguments, script, tmp_path):
    other = tmp_path / "checkpoints of another run"
    shutil.copytree(finished / "checkpoint-2", other / "checkpoint-2")
    run_folder.write_manifest(other, run_folder.read_manifest(finished))
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    code, _, err = script(*arguments, "--resume_from_checkpoint", other / "checkpoint-2")
    assert code == 2 and f"{finished} already holds a run" in err and "another --output_dir" in err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    # The checkpoint's own folder may be named.
    code, _, err = script(*arguments, "--resume_from_checkpoint", finished / "checkpoint-2", "--dry_run")
    assert code == 0, err


def test_a_run_resumed_from_an_early_checkpoint_is_never_resumed_from_a_later_old_one(
    finished, arguments, script, monkeypatch
):
    resume = (*arguments, "--save_steps", 1, "--eval_steps", 100)  # no loss of a validation is computed first
    with monkeypatch.context() as patch:
        fail_at(patch, 2, KeyboardInterrupt())  # after checkpoint-3
        code, _, err = script(*resume, "--resume_from_checkpoint", finished / "checkpoint-2")
    assert code == 130 and "replaced-checkpoint-4" in err and "replaced-checkpoint-6" in err
    assert {path.name for path in finished.glob("*checkpoint-*")} == {
        *("checkpoint-2", "checkpoint-3", "replaced-checkpoint-4", "replaced-checkpoint-6")
    }
    code, _, err = script(*resume, "--resume_latest")
    assert code == 0 and f"resuming from {finished / 'checkpoint-3'}" in err


def test_a_finished_run_without_checkpoints_is_not_trained_anew_for_more_epochs(
    finished, three_epochs, script
):
    before = weights(finished)
    for folder in checkpoints.of_run(finished):
        shutil.rmtree(folder)
    code, _, err = script(*three_epochs, "--resume_latest")
    assert code == 2 and "is finished and has no checkpoint left" in err and "--output_dir" in err
    assert same(weights(finished), before)


def test_a_checkpoint_given_by_hand_names_the_run_and_must_be_complete(
    finished, tiny_models, data_file, script
):
    arguments = [
        "finetune_temporal",
        *("--model_name", tiny_models["llama"]),
        *("--dev", "--dev_path", data_file),
        *("--epochs", 2, "--gradient_accumulation_steps", 1, "--replay_share", 0),
        *("--dry_run", "--resume_from_checkpoint"),
    ]
    code, out, _ = script(*arguments, finished / "checkpoint-2")
    assert code == 0 and re.search(rf"output_dir +{re.escape(str(finished))} ", out)
    optimizer = finished / "checkpoint-4/optimizer.pt"
    # The right length and no content: what a power cut can leave.
    optimizer.write_bytes(bytes(optimizer.stat().st_size))
    assert checkpoints.fault(finished / "checkpoint-4") == "optimizer.pt is damaged"
    adapter = finished / "checkpoint-2/adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-100])
    for path, problem in (
        (finished / "checkpoint-2", "cut short"),
        (finished / "none", "does not exist"),
        (finished, "Did you mean"),
    ):
        code, _, err = script(*arguments, path)
        assert code == 2 and problem in err


def test_resume_latest_takes_the_newest_unfinished_run(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "OUTPUT", tmp_path)
    for name in (
        "temporal-m-dev-20260101_000000",
        "temporal-m-dev-20260102_000000",
        "temporal-m-full-20260103_000000",
    ):
        (tmp_path / name).mkdir()
        run_folder.write_manifest(tmp_path / name, {"finished": None})
    settings = TrainSettings(model_name="org/M", dev=True, resume_latest=True)
    assert run_folder.choose(settings).folder.name == "temporal-m-dev-20260102_000000"
    run = run_folder.choose(TrainSettings(model_name="org/other", dev=True, resume_latest=True))
    assert run.folder.name.startswith("temporal-other-dev-") and not run.folder.exists()
    assert run.checkpoint is None and not run.finished
    # A newer run of the other kind, with an adapter or without, could not be resumed.
    full = tmp_path / "temporal-m-dev-20260104_000000"
    full.mkdir()
    run_folder.write_manifest(full, {"finished": None, "identity": {"full": True}})
    assert run_folder.choose(settings).folder.name == "temporal-m-dev-20260102_000000"
    assert run_folder.choose(dataclasses.replace(settings, full=True)).folder == full


def test_resume_latest_says_if_the_folder_is_not_there(capsys, tmp_path):
    """A mistyped one would otherwise pass for a run that was just begun."""
    settings = TrainSettings(output_dir=tmp_path / "none", resume_latest=True)
    assert run_folder.choose(settings) == run_folder.RunChoice(tmp_path / "none")
    assert "none does not exist; a new run starts there." in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    run_folder.choose(settings)
    assert "none has no complete checkpoint yet; starting anew." in capsys.readouterr().err


def test_a_folder_in_which_another_process_trains_is_left_alone(finished, three_epochs, script):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with run_claim.claimed(run_folder.RunChoice(finished), is_new=False):
        code, _, err = script(*three_epochs, "--resume_latest")
    assert code == 2 and "another process is training in" in err and "Wait for it" in err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_full_disk_names_the_checkpoint_and_the_command__disk_faked(arguments, script, monkeypatch):
    """torch.save gives no reason: its file does not grow as it should."""
    fail_at(
        monkeypatch, 5, RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
    )
    code, _, err = script(*arguments, "--save_steps", 2)
    assert code == 2 and "Traceback" not in err
    assert "\nerror: cannot write the output: the disk is full." in err and "Free some space" in err
    assert "updates up to 4 are saved" in err and err.splitlines()[-1].endswith("--resume_latest")
