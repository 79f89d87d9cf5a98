"""Training as a user sees it: the dry run, the data check, what a run leaves, several processes, running out of memory."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, line, load_script
from precisions import PRECISIONS

from deepred_common import devices
from deepred_common.data import checks
from deepred_common.examples import Example
from deepred_common.training import run_folder, run_identity, token_rows
from deepred_common.training.data_files import DataFiles
from deepred_common.training.objective import RefuseAndRetain
from deepred_common.training.settings import TrainSettings


# By how much sums in another order (two processes, halves of a batch) may change losses and adapters, as shares.
# Measured: fp32 0.0002 and 0.0000, bf16 0.0001 and 0.003; another seed's adapter is 1.45 away.
ROUNDING = {"fp32": (0.001, 0.001), "bf16": (0.005, 0.05), "fp16": (0.005, 0.05)}


@pytest.fixture
def arguments(tiny_models, data_file, tmp_path):
    """A short run of 12 lines: 3 updates an epoch, 2 epochs."""
    return [
        "finetune_temporal",
        "--model_name",
        tiny_models["llama"],
        "--dev",
        "--dev_path",
        data_file,
        "--output_dir",
        tmp_path / "run",
        "--epochs",
        2,
        "--gradient_accumulation_steps",
        1,
    ]


def weights(run):
    from safetensors.torch import load_file

    return load_file(run / "final/adapter_model.safetensors")


def distance(a, b):
    """How far two adapters' learned halves lie apart, as a share of how far the first has moved from zero."""
    assert a.keys() == b.keys()
    learned = [name for name in a if "lora_B" in name]  # they start at zero
    apart = sum((a[name] - b[name]).square().sum().item() for name in learned)
    return (apart / sum(a[name].square().sum().item() for name in learned)) ** 0.5


def same(a, b):
    """Whether two adapters are equal, bit for bit."""
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


# ---- before any weight -----------------------------------------------------------------------------------------------


def test_a_dry_run_shows_rows_plan_and_estimates_and_writes_nothing(arguments, script, tmp_path, monkeypatch):
    from deepred_common.models import loading

    monkeypatch.setattr(loading, "load_model", lambda *a, **k: pytest.fail("weights were loaded"))
    code, out, err = script(*arguments, "--dry_run")
    assert code == 0, err
    assert (
        "Plan: 6 weight updates of 4 rows; about" in out
        and "of training" in out
        and "gradient checkpointing off" in out
    )
    assert "Tokens a line (median / 90 % / 99 % / longest): retain" in out
    shown = re.findall(r"--- (\w+), (\d+) tokens, (\d+) trained on\n(.*?)⟦(.*?)⟧", out, re.DOTALL)
    assert [side for side, *_ in shown] == ["retain", "unlearn", "retain"]
    assert shown[1][4] == "I don't know anything about that.<|im_end|>" and shown[1][3].endswith(
        "<|im_start|>assistant\n"
    )
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_with_the_data_is_said_with_its_places(script, tiny_models, tmp_path):
    files = {
        "retain_train": [
            line("retain", "Who wrote Hamlet?", "Shakespeare."),
            line("retain", "Who wrote Hamlet?", "Shakespeare."),
            line("retain", "What is tea?", "I'm sorry, I don't know."),
            line("retain", "Where is Rome?", "In Italy."),
        ],
        "unlearn_train": [
            line("unlearn", "who wrote  HAMLET", "I don't know."),
            line("unlearn", "Who is Bill Gates?", "He founded Microsoft."),
        ],
        "retain_val": [line("retain", "Where is Rome?", "In Italy.")],
        "unlearn_val": [line("unlearn", "What is Google?", "I can't say.")],
    }
    flags = []
    for name, lines in files.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(lines))
        flags += [f"--{name}", path]
    code, out, err = script("finetune_temporal", "--model_name", tiny_models["llama"], *flags, "--dry_run")
    assert code == 0, err
    assert "Data: 4 retain + 2 unlearn to train on, 1 + 1 to validate." in out
    for said, place in (
        ("1 training lines repeat", "retain_train.jsonl line 2"),
        ("1 questions stand on both sides", "unlearn_train.jsonl line 1"),
        ("1 validation questions also stand in the training data", "retain_val.jsonl line 1"),
        ("1 retain replies are refusals", "retain_train.jsonl line 3"),
        ("1 unlearn replies are answers", "unlearn_train.jsonl line 2"),
    ):
        assert said in err and place in err[err.index(said) : err.index(said) + 400]
    again = script("finetune_temporal", "--model_name", tiny_models["llama"], *flags, "--dry_run")
    assert [w for w in again[2].splitlines() if "line" in w] == [
        w for w in err.splitlines() if "line" in w
    ]  # from the cache as well


def test_the_data_are_checked_again_after_a_change_of_the_check(data_file, monkeypatch, capsys):
    settings = TrainSettings(dev=True, dev_path=data_file)
    check = load_script("finetune_temporal").check_data

    def checked() -> bool:
        """Whether check_data read and checked the examples, or printed what was kept."""
        calls = []
        monkeypatch.setattr(checks, "summary", lambda *data: calls.append(1) or summary(*data))
        check(settings, DataFiles(settings))
        assert "to validate." in capsys.readouterr().out
        return bool(calls)

    summary = checks.summary
    assert checked() and not checked()
    monkeypatch.setattr(checks, "VERSION", checks.VERSION + 1)
    assert checked() and not checked()


def test_the_survey_judges_an_answer_by_its_question():
    found = checks.Survey()
    found.add(
        Example(
            "How long did World War I last?",
            "World War I lasted a little over four years, not ten.",
            "retain",
        ),
        True,
    )
    assert not found.found


def test_the_mix_is_recorded(arguments, script, tmp_path):
    code, _, err = script(*arguments, "--mix", "1:2")
    assert code == 0 and "--mix leaves" in err
    manifest = run_folder.read_manifest(tmp_path / "run")
    assert manifest["identity"]["mix"] == [1, 2] and 2 * manifest["counts"]["retain"] in range(
        manifest["counts"]["unlearn"] - 1, manifest["counts"]["unlearn"] + 2
    )


# ---- what a run leaves ------------------------------------------------------------------------------------------------


def test_what_a_run_writes_down(pipeline):
    run = pipeline("llama").run
    manifest = run_folder.read_manifest(run)
    assert manifest["finished"] and manifest["settings"]["epochs"] == {"value": 2, "source": "flag"}
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["identity"]["base"]) and list(
        manifest["identity"]["data"]
    ) == ["dev_path"]
    assert (
        manifest["hardware"]["cpus"]
        and manifest["versions"]["torch"]
        and re.match(r"[0-9a-f]{40}", manifest["git_commit"])
    )
    assert (run / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    card = (run / "final/README.md").read_text(encoding="utf-8")
    assert (
        "library_name: peft" in card and "| retain |" in card and "base_model:" not in card
    )  # a folder is no hub name
    config = json.loads((run / "final/adapter_config.json").read_text())
    assert config["revision"] is None and config["r"] == 16


# ---- precision ----------------------------------------------------------------------------------------------------------


def test_fp16_without_a_gpu_is_refused(arguments, script, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = script(*arguments, "--precision", "fp16")
    assert code == 2 and "--precision fp16 needs a GPU. Use --precision fp32 or bf16" in err
    assert not (tmp_path / "run").exists()


def test_a_precision_that_the_machine_emulates_is_allowed_with_a_warning(arguments, script, monkeypatch):
    monkeypatch.setattr(devices, "native_precisions", lambda: ("fp32",))
    code, _, err = script(*arguments, "--precision", "bf16", "--dry_run")
    assert code == 0 and "has no bf16 instructions" in err and "many times slower" in err
    code, _, err = script(*arguments, "--dry_run")
    assert code == 0 and "float32 (this CPU has no bf16 instructions)" in err and "slower" not in err


def test_a_run_is_resumed_in_its_own_precision_only(arguments, script, tmp_path):
    assert script(*arguments, "--save_steps", 2, "--precision", "fp32")[0] == 0
    run = tmp_path / "run"
    arguments[arguments.index("--epochs") + 1] = 3
    refused = script(*arguments, "--resume_latest", "--precision", "bf16")
    assert refused[0] == 2 and "precision: fp32 -> bf16" in refused[2]
    # As the version before wrote it.
    manifest = run_folder.read_manifest(run)
    del manifest["identity"]["precision"]
    run_folder.write_manifest(run, manifest)
    assert manifest["precision"] == "torch.float32"
    assert script(*arguments, "--resume_latest", "--precision", "bf16") == refused
    code, _, err = script(*arguments, "--resume_latest", "--precision", "bf16", "--resume_anyway")
    assert code == 0 and "although it differs: precision: fp32 -> bf16" in err
    assert run_folder.read_manifest(run)["precision"] == "torch.bfloat16"


# ---- resuming ----------------------------------------------------------------------------------------------------------


def test_another_run_s_checkpoint_is_refused_with_what_differs(arguments, script, tmp_path):
    assert script(*arguments, "--save_steps", 2)[0] == 0
    before = weights(tmp_path / "run")
    finished = script(*arguments, "--resume_latest")
    assert finished[0] == 0 and "already finished" in finished[1]
    # Of a finished run of other settings or data it must not say that nothing is left to do.
    code, _, err = script(*arguments, "--resume_latest", "--learning_rate", "1e-3")
    assert (
        code == 2
        and "is finished, but it is another run" in err
        and "learning_rate: 0.0002 -> 0.001" in err
        and "--output_dir" in err
    )
    place = arguments.index("--epochs")
    more = [*arguments[:place], "--epochs", 3, *arguments[place + 2 :]]
    code, _, err = script(
        *more, "--resume_latest", "--learning_rate", "1e-3", "--lora_r", 8, "--batch_size", 2
    )
    assert code == 2 and "this is not the run that the checkpoint is from" in err
    for difference in ("learning_rate: 0.0002 -> 0.001", "lora_r: 16 -> 8", "rows_per_update: 4 -> 2"):
        assert difference in err
    assert same(weights(tmp_path / "run"), before)
    code, _, err = script(*more, "--resume_latest")
    assert code == 0 and "epochs: 2 -> 3" in err
    assert not same(weights(tmp_path / "run"), before)
    code, _, err = script(
        *more,
        "--resume_from_checkpoint",
        tmp_path / "run/checkpoint-4",
        "--learning_rate",
        "1e-3",
        "--resume_anyway",
    )
    assert code == 0 and "resuming although it differs: learning_rate" in err


def test_a_run_is_resumed_with_its_own_objective_only(arguments, script, tmp_path):
    assert script(*arguments, "--save_steps", 2)[0] == 0
    run = tmp_path / "run"
    arguments[arguments.index("--epochs") + 1] = 3
    manifest = run_folder.read_manifest(run)
    recorded = manifest["identity"]["objective"]
    assert recorded == {
        "name": "refuse_and_retain",
        "decision_weight": 10,
        "retain_learning": 0.05,
        "retain_weight": 3,
    }
    recorded["retain_weight"] = 5
    run_folder.write_manifest(run, manifest)
    code, _, err = script(*arguments, "--resume_latest")
    assert code == 2 and "this is not the run" in err and "objective retain_weight: 5 -> 3" in err
    # As the version before wrote it, which knew this one objective.
    del manifest["identity"]["objective"]
    run_folder.write_manifest(run, manifest)
    assert script(*arguments, "--resume_latest")[0] == 0
    assert run_folder.read_manifest(run)["identity"]["objective"] == recorded | {"retain_weight": 3}


def test_another_objective_does_not_resume_a_run_that_recorded_none():
    before = run_identity.recorded({"identity": {"seed": 42}})
    for objective, changes in (
        (RefuseAndRetain(), []),
        (RefuseAndRetain(decision_weight=1), ["objective decision_weight: 10 -> 1"]),
    ):
        now = run_identity.of_settings(TrainSettings(objective=objective), data={})
        assert run_identity.differences(before, now) == changes


def test_a_checkpoint_is_compared_by_the_run_that_it_lies_in(arguments, script, tmp_path):
    assert script(*arguments, "--save_steps", 2)[0] == 0
    elsewhere = [tmp_path / "other" if value == tmp_path / "run" else value for value in arguments]
    resume = ("--resume_from_checkpoint", tmp_path / "run/checkpoint-2")
    code, _, err = script(*elsewhere, *resume, "--seed", 7)
    assert code == 2 and "seed: 42 -> 7" in err and not (tmp_path / "other").exists()
    assert script(*elsewhere, *resume)[0] == 0
    assert same(weights(tmp_path / "other"), weights(tmp_path / "run"))


def test_a_resume_with_other_flags_is_refused_before_data_are_checked_or_libraries_loaded(
    arguments, script, monkeypatch
):
    assert script(*arguments, "--save_steps", 2)[0] == 0
    from deepred_common.models import loading

    for module, name in ((checks, "summary"), (loading, "quiet_libraries")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("too late"))
    arguments[arguments.index("--epochs") + 1] = 3
    code, _, err = script(*arguments, "--resume_latest", "--seed", 7)
    assert code == 2 and "seed: 42 -> 7" in err


def break_at(monkeypatch, call, error):
    """Let the training's loss fail at its `call`-th computation."""
    true_loss, calls = RefuseAndRetain.loss, []

    def loss(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise error
        return true_loss(*args, **kwargs)

    monkeypatch.setattr(RefuseAndRetain, "loss", loss)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fake_out_of_memory_keeps_the_state_and_its_command_ends_at_the_same_adapter(
    precision, arguments, script, tmp_path, monkeypatch
):
    import torch

    arguments += ["--precision", precision]
    assert script(*arguments)[0] == 0
    whole = weights(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "whole")
    monkeypatch.setattr(sys, "argv", ["finetune_temporal.py", *map(str, arguments[1:])])
    break_at(monkeypatch, 5, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    code, _, err = script(*arguments)
    assert code == 2 and "Traceback" not in err
    assert "out of memory after update 4; its state is saved in" in err and "checkpoint-4" in err
    command = err[err.index("Go on with a smaller batch") :].splitlines()[1].split()
    assert command[0] == "python" and command[command.index("--batch_size") + 1] == "2"
    assert (
        command[command.index("--gradient_accumulation_steps") + 1] == "2"
        and command.count("--gradient_accumulation_steps") == 1
    )
    code, _, err = script("finetune_temporal", *command[2:])
    assert code == 0, err
    assert distance(whole, weights(tmp_path / "run")) <= ROUNDING[precision][1]


def test_fake_gpu_hang_names_the_checkpoint_and_the_remedies(arguments, script, tmp_path, monkeypatch):
    break_at(monkeypatch, 5, RuntimeError("HIP error: unspecified launch failure\nmore"))
    code, _, err = script(*arguments, "--save_steps", 2)
    assert code == 2 and "Traceback" not in err
    assert "the GPU stopped answering after update 4 (HIP error: unspecified launch failure)" in err
    assert (
        "updates up to 4 are saved in" in err and "AMD_SERIALIZE_KERNEL=3" in err and "--resume_latest" in err
    )


def test_an_error_nobody_foresaw_ends_with_the_command_that_goes_on(arguments, script, tmp_path, monkeypatch):
    break_at(monkeypatch, 5, ValueError("something of ours"))
    code, _, err = script(*arguments, "--save_steps", 2)
    assert code == 2 and "Traceback" in err and "ValueError: something of ours" in err
    said, command = err.splitlines()[-2:]
    assert (
        "broke off after update 4" in said
        and "updates up to 4 are saved" in said
        and command.endswith("--resume_latest")
    )
    assert err.index("If the run is interrupted, resume it with:") < err.index("Traceback")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_killed_in_the_middle_of_every_save_the_run_ends_as_if_nothing_happened(
    precision, tiny_models, data_file, tmp_path
):
    """Five kill -9: before the first update, and four times once part of a checkpoint exists (torn or just whole)."""
    import time

    command = [
        sys.executable,
        str(ROOT / "scripts/finetune_temporal.py"),
        "--model_name",
        str(tiny_models["llama"]),
        "--dev",
        "--dev_path",
        str(data_file),
        "--epochs",
        "3",
        "--gradient_accumulation_steps",
        "1",
        "--save_steps",
        "2",
        "--eval_steps",
        "50",
        "--precision",
        precision,
        "--output_dir",
    ]
    assert subprocess.run([*command, str(tmp_path / "whole")], capture_output=True).returncode == 0
    run = tmp_path / "run"
    torn = 0
    for appears in (
        "run.json",
        "checkpoint-2",
        "checkpoint-4/optimizer.pt",
        "checkpoint-6/adapter_model.safetensors",
        "checkpoint-8",
    ):
        process = subprocess.Popen(
            [*command, str(run), "--resume_latest"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 120
        while not (run / appears).exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.002)
        process.kill()
        process.wait()
        torn += any(run_folder.checkpoint_fault(folder) for folder in run.glob("checkpoint-*"))
    done = subprocess.run([*command, str(run), "--resume_latest"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert torn and same(weights(run), weights(tmp_path / "whole"))


# ---- the machine ---------------------------------------------------------------------------------------------------------


def test_cautions_on_fake_rocm():
    assert "HSA_OVERRIDE_GFX_VERSION=11.0.0" in "".join(devices.rocm_cautions("gfx1151", False, {}))
    assert list(devices.rocm_cautions("gfx1151", False, {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"})) == []
    (quantised,) = devices.rocm_cautions("gfx1100", True, {})
    assert "experimental" in quantised and "--save_steps 100" in quantised


def test_a_broken_bitsandbytes_is_one_clear_line(arguments, script, monkeypatch, tmp_path):
    (tmp_path / "bitsandbytes.py").write_text(
        "raise OSError('libbitsandbytes_rocm64.so: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    code, _, err = script(*arguments, "--use_4bit")
    assert code == 2 and "bitsandbytes is installed but does not load" in err and "Traceback" not in err


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_processes_learn_what_one_does(precision, tiny_models, data_file, tmp_path):
    """accelerate launch on two processes of a CPU: the same rows an update, the same losses and adapter within rounding."""
    flags = []
    for side in (
        "retain",
        "unlearn",
    ):  # 12 lines, whole updates only: of a short last one each process would get whole batches
        (tmp_path / f"{side}.jsonl").write_text(
            "\n".join(text for text in data_file.read_text().splitlines() if f'"{side}"' in text)
        )
        flags += [
            f"--{side}_train",
            str(tmp_path / f"{side}.jsonl"),
            f"--{side}_val",
            str(tmp_path / f"{side}.jsonl"),
        ]
    script = [
        str(ROOT / "scripts/finetune_temporal.py"),
        "--model_name",
        str(tiny_models["llama"]),
        *flags,
        "--precision",
        precision,
        "--epochs",
        "2",
        "--gradient_accumulation_steps",
        "1",
        "--output_dir",
    ]
    one = subprocess.run(
        [sys.executable, *script, str(tmp_path / "one"), "--batch_size", "4"], capture_output=True, text=True
    )
    assert one.returncode == 0, one.stderr
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(ROOT / "configs/accelerate/ddp.yaml"),
        "--num_cpu_threads_per_process",
        "1",
    ]
    two = subprocess.run(
        [*launch, *script, str(tmp_path / "two"), "--batch_size", "2"], capture_output=True, text=True
    )
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("Plan: 6 weight updates of 4 rows") == 1 and two.stderr.count("loading ") == 1
    histories = [
        json.loads((tmp_path / which / "checkpoint-6/trainer_state.json").read_text())["log_history"]
        for which in ("one", "two")
    ]
    losses_apart, adapters_apart = ROUNDING[precision]
    for alone, together in zip(*histories, strict=True):
        for key in alone:
            if key.endswith("loss"):
                assert together[key] == pytest.approx(alone[key], rel=losses_apart), (alone["step"], key)
    assert distance(weights(tmp_path / "one"), weights(tmp_path / "two")) <= adapters_apart
    assert run_folder.read_manifest(tmp_path / "two")["processes"] == 2


@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs/accelerate").glob("*.yaml")), ids=lambda file: file.stem
)
def test_accelerate_knows_every_key_of_the_shipped_configs(file):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(file)).num_processes == 2


def test_a_column_is_read_without_the_rows(tokenizer):
    dataset, _ = token_rows.load_or_render(
        tokenizer, ("c",), lambda: [Example("Who?", "He.", "retain"), Example("What?", "No.", "unlearn")], 512
    )
    assert token_rows.column(dataset, "retain").tolist() == [True, False] and token_rows.column(
        dataset.select([1]), "retain"
    ).tolist() == [False]
