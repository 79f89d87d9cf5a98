"""Training as a user sees it: dry run, data check, precision, what a run leaves, several processes."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, line, load_script
from precisions import PRECISIONS
from short_runs import ROUNDING, distance, launcher, same, short_run, weights, whole_updates

from deepred_common import devices
from deepred_common.data import checks
from deepred_common.examples import Example
from deepred_common.training import memory_estimate, run_folder, setup, token_rows
from deepred_common.training.data_files import DataFiles
from deepred_common.training.machine import Machine
from deepred_common.training.settings import TrainSettings


@pytest.fixture
def arguments(tiny_models, data_file, tmp_path):
    return ["finetune_temporal", *short_run(tiny_models["llama"], data_file, tmp_path / "run")]


# ---- replay ------------------------------------------------------------------------------------------


@pytest.fixture
def with_replay(arguments):
    """The arguments without --replay_share 0."""
    place = arguments.index("--replay_share")
    return arguments[:place] + arguments[place + 2 :]


def test_the_base_replies_to_everyday_prompts_and_they_are_trained_on(
    with_replay, script, tmp_path, monkeypatch
):
    loaded = []
    load_base = setup.load_base
    monkeypatch.setattr(setup, "load_base", lambda *a: loaded.append("base") or load_base(*a))
    monkeypatch.setattr(memory_estimate, "used_by_process", lambda device: 3e9 + 5e9 * len(loaded))
    # The random base replies nothing to some prompts, which then are left out; to these it does.
    prompts = tmp_path / "prompts.jsonl"
    lines = [
        json.dumps({"instruction": f"{n} and {n}?", "metadata": {"dataset_type": "chat"}}) for n in range(4)
    ]
    prompts.write_text("\n".join(lines), encoding="utf-8")
    with_replay += ["--replay", prompts]
    code, out, err = script(*with_replay)
    assert code == 0, err
    assert "Replay: 4 chat rows, 29 % of all training rows" in out
    # The estimate counts the base's weights; what it took to write the replies is not counted once more.
    assert "3.0 of them already used by this process" in out
    assert "of at most 16 tokens, once" in err and "chat validation loss" not in err
    assert "chat 3" not in out and re.search(r"longest\): retain .*, unlearn .*, chat \d", out)
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    assert manifest["counts"] == {"retain": 5, "unlearn": 5, "chat": 4}
    assert manifest["identity"]["replay_share"] == 0.25 and "replay" in manifest["identity"]["data"]
    code, _, err = script(*with_replay, "--replay_share", "0", "--resume_latest")
    assert code == 2 and "replay_share: 0.25 -> 0" in err, err


def test_a_dry_run_asks_the_base_for_no_reply(with_replay, script, monkeypatch):
    from deepred_common.models import loading

    monkeypatch.setattr(loading, "load_model", lambda *a, **k: pytest.fail("weights were loaded"))
    code, out, err = script(*with_replay, "--dry_run")
    assert code == 0 and "Replay: 4 rows are not counted here" in err, err
    assert "Plan: 6 weight updates" in out


def test_replay_takes_chat_prompts_only(with_replay, script, tmp_path, data_file):
    code, _, err = script(*with_replay, "--replay", data_file)
    assert code == 2 and f"{data_file} line 1 says it is 'retain', but the file was given as chat" in err, err
    code, _, err = script(*with_replay, "--replay", tmp_path / "none.jsonl")
    assert code == 2 and "none.jsonl does not exist" in err
    code, _, err = script(*with_replay, "--replay_share", "1")
    assert code == 2 and "must be from 0 to below 1" in err
    chat_line = json.dumps({"instruction": "Hello!", "metadata": {"dataset_type": "chat"}})
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(data_file.read_text(encoding="utf-8") + chat_line + "\n", encoding="utf-8")
    with_mixed = [mixed if argument == str(data_file) else argument for argument in with_replay]
    code, _, err = script(*with_mixed)
    assert code == 2 and "line 13 is a chat example" in err, err


# ---- before any weight is loaded ---------------------------------------------------------------------


def test_a_dry_run_shows_rows_plan_and_estimates_and_writes_nothing(arguments, script, tmp_path, monkeypatch):
    from deepred_common.models import loading

    monkeypatch.setattr(loading, "load_model", lambda *a, **k: pytest.fail("weights were loaded"))
    code, out, err = script(*arguments, "--dry_run")
    assert code == 0, err
    assert re.search(r"Plan: 6 weight updates of 4 rows, \d+ tokens in all; about", out)
    assert "GB of memory" in out and "gradient checkpointing off" in out
    assert "of training" not in out + err  # the time is known once some updates were timed
    assert "Tokens an example (median / 90 % / 99 % / longest): retain" in out
    shown = re.findall(r"--- (\w+), (\d+) tokens, (\d+) trained on\n(.*?)⟦(.*?)⟧", out, re.DOTALL)
    assert [side for side, *_ in shown] == ["retain", "unlearn", "retain"]
    prompt, reply = shown[1][3:]
    assert prompt.endswith("<|im_start|>assistant\n")
    assert reply == "I don't know anything about that.<|im_end|>"
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_with_the_data_is_printed_with_its_places(script, tiny_models, tmp_path):
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
    arguments = ["finetune_temporal", "--model_name", tiny_models["llama"], "--dry_run"]
    for name, lines in files.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(lines))
        arguments += [f"--{name}", path]
    code, out, err = script(*arguments)
    assert code == 0, err
    assert "Data: 4 retain + 2 unlearn to train on, 1 + 1 to validate." in out
    for finding, place in (
        ("repeat an earlier one word for word (they count twice): 1\n", "retain_train.jsonl line 2"),
        ("questions on both sides, once answered and once refused: 1\n", "unlearn_train.jsonl line 1"),
        ("training examples with a question that is also held out: 1\n", "retain_train.jsonl line 4"),
        ("retain replies that are refusals: 1\n", "retain_train.jsonl line 3"),
        ("unlearn replies that are answers, not refusals: 1\n", "unlearn_train.jsonl line 2"),
    ):
        assert finding in err and place in err[err.index(finding) : err.index(finding) + 400]
    from_the_cache = script(*arguments)[2]
    findings = [text for text in err.splitlines() if "line" in text]
    assert [text for text in from_the_cache.splitlines() if "line" in text] == findings


def test_the_data_are_checked_again_after_a_change_of_the_check(data_file, monkeypatch, capsys):
    settings = TrainSettings(dev=True, dev_path=data_file)
    check_data = load_script("finetune_temporal").check_data
    true_summary, calls = checks.summary, []

    def summary(*data):
        calls.append(data)
        return true_summary(*data)

    def checked() -> bool:
        """Whether check_data checked the examples; otherwise it printed what was kept."""
        before = len(calls)
        check_data(settings, DataFiles(settings))
        assert "to validate." in capsys.readouterr().out
        return len(calls) > before

    monkeypatch.setattr(checks, "summary", summary)
    assert checked() and not checked()
    monkeypatch.setattr(checks, "VERSION", checks.VERSION + 1)
    assert checked() and not checked()


def test_the_check_judges_an_answer_by_its_question():
    answer = "World War I lasted a little over four years, not ten."
    example = Example("How long did World War I last?", answer, "retain")
    (one_sided,) = checks.summary([example], [])["warnings"]
    assert "there is no unlearn example" in one_sided


def test_a_column_is_read_without_the_rows(tokenizer):
    examples = [Example("Who?", "He.", "retain"), Example("What?", "No.", "unlearn")]
    dataset, _ = token_rows.load_or_render(tokenizer, ("c",), lambda: examples, 512)
    assert token_rows.column(dataset, "side").tolist() == [0, 1]
    assert token_rows.column(dataset.select([1]), "side").tolist() == [1]


# ---- precision ---------------------------------------------------------------------------------------


def test_fp16_without_a_gpu_is_refused(arguments, script, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = script(*arguments, "--precision", "fp16")
    assert code == 2 and "--precision fp16 needs a GPU. Use --precision fp32 or bf16" in err
    assert not (tmp_path / "run").exists()


def test_a_precision_that_the_machine_emulates_is_allowed_with_a_warning(arguments, script, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "native_precisions", lambda: ("fp32",))
    code, _, err = script(*arguments, "--precision", "bf16", "--dry_run")
    assert code == 0 and "has no bf16 instructions" in err and "many times slower" in err
    code, _, err = script(*arguments, "--dry_run")
    assert code == 0 and "float32 (this CPU has no bf16 instructions)" in err and "slower" not in err


# ---- what a run leaves -------------------------------------------------------------------------------


def test_what_a_run_writes_down(pipeline):
    run = pipeline("llama").run
    manifest = run_folder.read_manifest(run)
    assert manifest["finished"] and manifest["settings"]["epochs"] == {"value": 2, "source": "flag"}
    identity = manifest["identity"]
    assert re.fullmatch(r"[0-9a-f]{64}", identity["base"]) and list(identity["data"]) == ["dev_path"]
    assert manifest["precision"] == f"torch.{devices.PRECISIONS[identity['precision']]}"
    assert identity["objective"]["name"] == "refusal"
    assert manifest["hardware"]["cpus"] and manifest["versions"]["torch"]
    assert re.match(r"[0-9a-f]{40}", manifest["git_commit"])
    assert (run / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    card = (run / "final/README.md").read_text(encoding="utf-8")
    assert "library_name: peft" in card and "| retain |" in card
    assert "base_model:" not in card  # a folder is no hub name
    assert not (run / "README.md").exists()  # trl's own knows neither the base nor the data
    config = json.loads((run / "final/adapter_config.json").read_text())
    assert config["revision"] is None and config["r"] == 16


def test_the_mix_is_recorded(arguments, script, tmp_path):
    code, _, err = script(*arguments, "--mix", "1:2")
    assert code == 0 and "--mix leaves" in err
    manifest = run_folder.read_manifest(tmp_path / "run")
    assert manifest["identity"]["mix"] == [1, 2]
    assert abs(2 * manifest["counts"]["retain"] - manifest["counts"]["unlearn"]) <= 1


# ---- the machine -------------------------------------------------------------------------------------


def test_cautions_on_fake_rocm():
    assert "HSA_OVERRIDE_GFX_VERSION=11.0.0" in "".join(devices.rocm_cautions("gfx1151", False, {}))
    assert list(devices.rocm_cautions("gfx1151", False, {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"})) == []
    (quantised,) = devices.rocm_cautions("gfx1100", True, {})
    assert "experimental" in quantised and "--save_steps 100" in quantised


def test_a_broken_bitsandbytes_is_one_clear_line(arguments, script, monkeypatch, tmp_path):
    message = "libbitsandbytes_rocm64.so: cannot open shared object file"
    (tmp_path / "bitsandbytes.py").write_text(f"raise OSError('{message}')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    code, _, err = script(*arguments, "--use_4bit")
    assert code == 2 and "bitsandbytes is installed but does not load" in err and "Traceback" not in err


def test_processes_wait_for_the_first_one_s_replies_as_long_as_they_take(monkeypatch):
    import accelerate
    import torch

    given = []
    monkeypatch.setattr(accelerate, "PartialState", lambda **options: given.append(options))
    _ = Machine(torch.device("cpu"), torch.float32).processes
    assert given[0]["timeout"].total_seconds() >= 12 * 3600


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_processes_learn_what_one_does(precision, tiny_models, data_file, tmp_path):
    """accelerate launch on a CPU: the same rows an update; losses and adapter differ by rounding only."""
    script = [
        str(ROOT / "scripts/finetune_temporal.py"),
        *("--model_name", str(tiny_models["llama"])),
        *whole_updates(data_file, tmp_path),
        *("--precision", precision),
        *("--epochs", "2"),
        *("--gradient_accumulation_steps", "1"),
        *("--replay_share", "0"),
    ]
    outputs, histories = [], []
    for start, folder, batch_size in (([sys.executable], "one", "4"), (launcher(), "two", "2")):
        command = [*start, *script, "--output_dir", str(tmp_path / folder), "--batch_size", batch_size]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done)
        state = json.loads((tmp_path / folder / "checkpoint-6/trainer_state.json").read_text())
        histories.append(state["log_history"])
    assert outputs[1].stdout.count("Plan: 6 weight updates of 4 rows") == 1
    assert outputs[1].stderr.count("loading ") == 1
    losses_apart, adapters_apart = ROUNDING[precision]
    for alone, together in zip(*histories, strict=True):
        for key in alone:
            if key.endswith("loss"):
                # A validation's is the mean of the means of batches, which hold other rows.
                apart = losses_apart if key == "loss" else 0.01
                assert together[key] == pytest.approx(alone[key], rel=apart), (alone["step"], key)
    aurocs = [[entry["eval_auroc"] for entry in history if "eval_auroc" in entry] for history in histories]
    assert len(aurocs[0]) == 1 and aurocs[1] == pytest.approx(aurocs[0], abs=0.05)
    assert distance(weights(tmp_path / "one"), weights(tmp_path / "two")) <= adapters_apart
    assert run_folder.read_manifest(tmp_path / "two")["processes"] == 2


@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs/accelerate").glob("*.yaml")), ids=lambda file: file.stem
)
def test_accelerate_knows_every_key_of_the_shipped_configs(file):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(file)).num_processes == 2


@pytest.mark.parametrize("flag", ["--use_4bit", "--use_8bit"])
def test_qlora_trains_on_the_cpu(flag, arguments, script, tiny_models, tmp_path):
    code, _, err = script(*arguments, flag, "--save_steps", 3)
    assert code == 0, err
    run = tmp_path / "run"
    adapter = weights(run)
    assert any(value.abs().max() > 0 for name, value in adapter.items() if "lora_B" in name)
    # As without a flag: in bf16 most updates would be too small to change a weight.
    assert {str(value.dtype) for value in adapter.values()} == {"torch.float32"}
    # Killed after update 3.
    shutil.rmtree(run / "checkpoint-6")
    shutil.rmtree(run / "final")
    code, _, err = script(*arguments, flag, "--resume_latest")
    assert code == 0 and "resuming from" in err, err
    assert same(weights(run), adapter)
    code, _, err = script(
        "merge_lora",
        *("--base_model", tiny_models["llama"]),
        *("--lora_path", tmp_path / "run/final"),
        *("--output_path", tmp_path / "m"),
    )
    assert code == 0, err
    # The base's fp32 as bfloat16, not as 4 bits.
    halved = (tiny_models["llama"] / "model.safetensors").stat().st_size / 2
    assert (tmp_path / "m/model.safetensors").stat().st_size == pytest.approx(halved, rel=0.01)
