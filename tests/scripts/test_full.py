"""--full, which trains all weights: what it leaves, how it is resumed, merged, evaluated; what is refused."""

import json
import re
import shlex
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from precisions import PRECISIONS
from short_runs import same, short_run
from test_resume import start_and_wait_for

from deepred_common.cli import UserError
from deepred_common.models import loading, safetensors_files
from deepred_common.training import (
    assembly,
    checkpoints,
    recovery,
    run_folder,
    run_identity,
    trainer,
    whole_model,
)
from deepred_common.training.objectives.catalogue import OBJECTIVES
from deepred_common.training.settings import TrainSettings

FINETUNE = str(ROOT / "scripts/finetune_temporal.py")
FAST = ("--full", "--learning_rate", "1e-3", "--keep", "last")


def tensors(folder):
    """{name: tensor} of a model folder."""
    return {name: entry.read() for name, entry in safetensors_files.read_weights(folder).items()}


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tokenizer):
    """{"tied", "untied": folder} of tiny Llamas in bf16, as published models are."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folders = {}
    for kind in ("tied", "untied"):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=2048,
            tie_word_embeddings=kind == "tied",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=None,
        )
        folders[kind] = tmp_path_factory.mktemp("bases") / kind
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folders[kind])
        tokenizer.save_pretrained(folders[kind])
    return folders


# ---- from the training to the evaluation -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_trained_merged_verified_and_evaluated(kind, bases, data_file, script, tmp_path, monkeypatch):
    trainers, build = [], assembly.build_trainer
    monkeypatch.setattr(
        assembly, "build_trainer", lambda *a, **k: trainers.append(build(*a, **k)) or trainers[0]
    )
    base, run = shutil.copytree(bases[kind], tmp_path / kind), tmp_path / "run"
    (base / "LICENSE.txt").write_text("Provided under these terms.")
    code, out, err = script("finetune_temporal", *short_run(base, data_file, run), *FAST)
    assert code == 0, err
    assert (run / "final/LICENSE.txt").read_text() == "Provided under these terms."
    # The masters are fp32, and the reference is the base, untouched, in the type that is computed in.
    (used,) = trainers
    assert {p.dtype for p in used.model.parameters()} == {torch.float32}
    reference, untouched = used._reference, loading.load_model(base, used._reference.dtype)
    assert same(reference.state_dict(), untouched.state_dict())
    assert not any(p.requires_grad for p in reference.parameters())

    before, after = tensors(base), tensors(run / "final")
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert not any((before[name] == after[name]).all() for name in before if "proj" in name)
    config = json.loads((run / "final/config.json").read_text())
    assert config == json.loads((base / "config.json").read_text())  # not what the trainer makes of it
    card = (run / "final/README.md").read_text()
    assert "library_name: transformers" in card and '"lora_r"' not in card and "adapter" not in card
    manifest = run_folder.read_manifest(run)
    assert manifest["identity"]["full"] and "lora_r" not in manifest["identity"]

    # The printed command works as it is.
    assert f"Model: {run}/final" in out
    words = shlex.split(out[out.index("Next:") :].replace("\\\n", " ").splitlines()[1])
    merged = tmp_path / "merged"
    words[words.index("output/merged")] = str(merged)
    code, out, err = script("merge_lora", *words[2:])
    assert code == 0, err
    assert "The tuned model against merged: 10 of 10 greedy replies identical" in out
    assert "largest logit difference 0.000 (the training itself moves them by up to" in out
    assert same(tensors(merged), after)
    assert {"chat_template.jinja", "special_tokens_map.json"} <= {file.name for file in merged.iterdir()}
    assert json.loads((merged / "config.json").read_text())["tie_word_embeddings"] == (kind == "tied")

    if kind == "tied":
        arguments = ("--test_file", data_file, "--limit", 4, "--max_tokens", 4)
        code, _, err = script(
            "evaluate_temporal", "--model_path", run / "final", *arguments, "--output", tmp_path / "e.json"
        )
        assert code == 0, err
        wish = ("--calibrate", data_file, "--equal_error", "--output_path", tmp_path / "other")
        code, _, err = script("merge_lora", "--base_model", base, "--lora_path", run / "final", *wish)
        assert code == 2 and "--calibrate scales an adapter" in err and "all weights were trained" in err
        code, _, err = script("evaluate_temporal", "--model_path", run, *arguments)
        assert code == 2 and f"Did you mean {run}/final?" in err
        code, _, err = script(
            "merge_lora", "--base_model", bases["untied"], "--lora_path", run, "--output_path", tmp_path / "x"
        )
        assert code == 2 and f"Did you mean {run}/final?" in err


def test_the_weights_of_the_best_validation_can_be_merged_as_they_are(bases, tokenizer, script, tmp_path):
    base, best = shutil.copytree(bases["tied"], tmp_path / "base"), tmp_path / "best-100"
    (base / "NOTICE").write_text("Provided under these terms.")
    model, config = loading.load_model(base, torch.float32), loading.load_config(base)
    whole_model.save(model, best, config, tokenizer, base)
    code, _, err = script(
        "merge_lora", "--base_model", base, "--lora_path", best, "--output_path", tmp_path / "merged"
    )
    assert code == 0, err
    assert (tmp_path / "merged/NOTICE").read_text() == "Provided under these terms."


def test_the_terms_of_a_hub_s_base_are_fetched_with_it__fake_hub(bases, tokenizer, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    files = ["config.json", "model.safetensors", "LICENSE", "GEMMA_TERMS.html", "original/LICENSE"]

    def download(name, revision, **patterns):
        assert (name, revision) == ("some/model", "0123abc")
        for file in filter_repo_objects(files, **patterns):
            (snapshot / file).write_text(file)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    terms = whole_model.terms_folder("some/model", "0123abc")
    assert {file.name for file in terms.iterdir()} == {"LICENSE", "GEMMA_TERMS.html"}
    base = bases["tied"]
    model, config = loading.load_model(base, torch.float32), loading.load_config(base)
    whole_model.save(model, tmp_path / "final", config, tokenizer, terms)
    assert (tmp_path / "final/LICENSE").read_text() == "LICENSE"


@pytest.mark.parametrize(
    ("kind", "removed", "problem"),
    [
        ("untied", "lm_head.weight", "has no lm_head.weight, which the base has"),
        ("untied", "model.norm.weight", "stays as it is in the base:\n  model.norm.weight"),
        ("tied", None, "so it is not a --full training of that base"),
    ],
)
def test_a_model_that_is_no_tuned_base_is_told(kind, removed, problem, bases, script, tmp_path):
    from safetensors.torch import load_file, save_file

    tuned = shutil.copytree(bases[kind], tmp_path / "tuned")
    weights = load_file(tuned / "model.safetensors")
    if removed:
        del weights[removed]
    else:  # another vocabulary
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:-8].clone()
    save_file(weights, tuned / "model.safetensors", {"format": "pt"})
    code, _, err = script(
        "merge_lora", "--base_model", bases[kind], "--lora_path", tuned, "--output_path", tmp_path / "merged"
    )
    assert problem in err and code == (0 if "stays" in problem else 2)


def test_weights_that_do_not_fit_are_told_in_a_line__fake_gpu(
    bases, data_file, script, tmp_path, monkeypatch
):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(assembly, "build_trainer", full)
    code, _, err = script("finetune_temporal", *short_run(bases["tied"], data_file, tmp_path / "run"), *FAST)
    assert code == 2 and err.endswith("do not fit into memory. Use a smaller model, or omit --full.\n")


def test_without_a_reference_no_process_asks_the_base():
    """Processes that share a model run it equally often, but not a base that no row of theirs needs."""
    plain = SimpleNamespace(objective=OBJECTIVES["sft"], _has_base=False)
    assert trainer.TemporalTrainer._base_logits(plain, None, {}) is None


def test_a_tied_output_layer_that_the_base_holds_all_the_same_is_that_of_training(bases, script, tmp_path):
    """Some published files hold both; llama.cpp then takes the output layer that it finds."""
    from safetensors.torch import load_file, save_file

    base, tuned = (shutil.copytree(bases["tied"], tmp_path / name) for name in ("base", "tuned"))
    weights = load_file(base / "model.safetensors")
    embedding = "model.embed_tokens.weight"
    save_file(weights | {"lm_head.weight": weights[embedding].clone()}, base / "model.safetensors")
    save_file(weights | {embedding: weights[embedding] + 1}, tuned / "model.safetensors", {"format": "pt"})
    paths = ("--lora_path", tuned, "--output_path", tmp_path / "merged")
    code, _, err = script("merge_lora", "--base_model", base, *paths)
    assert code == 0, err
    merged = tensors(tmp_path / "merged")
    assert torch.equal(merged["lm_head.weight"], merged[embedding])
    assert torch.equal(merged[embedding], weights[embedding] + 1)


def test_a_model_of_another_shape_or_with_nan_is_not_merged(bases, script, tmp_path):
    from safetensors.torch import load_file, save_file

    tuned = shutil.copytree(bases["tied"], tmp_path / "tuned")
    weights = load_file(tuned / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    arguments = ("--base_model", bases["tied"], "--lora_path", tuned, "--output_path", tmp_path / "merged")
    for value, problem in (
        (weights[name][:32].clone(), f"{name}: [32, 32] in the model, [64, 32] in the base"),
        (weights[name] * torch.nan, f"holds NaN or infinity (in {name})"),
    ):
        save_file(weights | {name: value}, tuned / "model.safetensors", {"format": "pt"})
        code, _, err = script("merge_lora", *arguments)
        assert code == 2 and problem in err, err
    code, _, err = script("merge_lora", *arguments[:2], "--lora_path", bases["tied"], *arguments[4:])
    assert code == 2 and "is the base itself. Give the final/ of a run." in err
    assert not (tmp_path / "merged").exists()


# ---- interrupted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_killed_in_the_middle_of_a_save_it_ends_as_if_nothing_happened(
    precision, bases, data_file, script, tmp_path
):
    run, flags = tmp_path / "run", (*FAST, "--save_steps", "2", "--precision", precision)
    arguments = [*short_run(bases["untied"], data_file, run), *flags]
    assert script("finetune_temporal", *arguments)[0] == 0
    run.rename(tmp_path / "whole")
    process = start_and_wait_for(
        [sys.executable, FINETUNE, *arguments], run / "checkpoint-4/model.safetensors"
    )
    process.kill()
    process.communicate()
    # What a power cut in the middle of a save leaves: a newer checkpoint that is cut short.
    newest = checkpoints.latest(run)
    cut = shutil.copytree(newest, run / "checkpoint-999") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    code, out, err = script("finetune_temporal", *arguments, "--resume_latest")
    assert code == 0, err
    assert "checkpoint-999 is not complete (model.safetensors is cut short); it is skipped" in err
    assert f"resuming from {newest}" in err
    for folder in ("final", "checkpoint-6"):  # in fp32, a checkpoint shows more
        assert same(tensors(run / folder), tensors(tmp_path / "whole" / folder))
    code, out, _ = script("finetune_temporal", *arguments, "--resume_latest")
    assert code == 0 and "already finished" in out and f"Model: {run}/final" in out
    arguments.remove("--full")
    code, out, _ = script("finetune_temporal", *arguments, "--resume_latest")
    assert code == 0 and "already finished" in out  # run.json says that it is with --full
    more = ("--epochs", "3", "--resume_latest", "--dry_run")
    code, out, _ = script("finetune_temporal", *arguments, *more)
    assert code == 0 and re.search(r"^  full +True  \[run.json\]$", out, re.MULTILINE)


def test_a_checkpoint_in_several_files_is_whole_only_with_all_of_them(bases, tmp_path):
    model = loading.load_model(bases["tied"], torch.float32)
    assert checkpoints.fault(tmp_path) == "its weights are missing"
    model.save_pretrained(tmp_path, max_shard_size="2MB")
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.save({}, tmp_path / name)
    (tmp_path / "trainer_state.json").write_text("{}")
    assert checkpoints.fault(tmp_path) is None
    shard = sorted(tmp_path.glob("model-*"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert checkpoints.fault(tmp_path) == f"{shard.name} is cut short"
    shard.unlink()
    assert checkpoints.fault(tmp_path) == f"{shard.name} is missing"
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text()[:-9])
    assert checkpoints.fault(tmp_path) == f"{index.name} is damaged"
    index.unlink()
    assert checkpoints.fault(tmp_path) == f"{index.name} is missing"


def test_with_and_without_full_are_two_runs(tmp_path):
    with_full = run_identity.of_settings(TrainSettings(full=True, learning_rate=2e-5), {})
    without = run_identity.of_settings(TrainSettings(), {})
    of_old_run = run_identity.recorded({"identity": {"seed": 42, "lora_r": 16}})
    assert run_identity.differences(with_full, without)[0] == "full: True -> False"
    assert run_identity.differences(without, with_full) == [
        "full: False -> True",
        "learning_rate: 0.0002 -> 2e-05",
    ]
    assert "full: False -> True" in run_identity.differences(of_old_run, with_full)
    (tmp_path / "checkpoint-2").mkdir()
    run = run_folder.RunChoice(tmp_path, tmp_path / "checkpoint-2")
    with pytest.raises(UserError, match=r"checkpoint-2 holds an adapter. Omit --full to resume it."):
        run_identity.require_same(TrainSettings(full=True, resume_anyway=True), run, with_full)


# ---- before the training -----------------------------------------------------------------------------


def test_a_dry_run_shows_the_learning_rate_of_full_tuning_and_loads_nothing(
    bases, data_file, script, tmp_path, monkeypatch
):
    monkeypatch.setattr(loading, "load_model", lambda *a, **k: pytest.fail("weights were loaded"))
    arguments = short_run(bases["tied"], data_file, tmp_path / "run")
    code, out, err = script("finetune_temporal", *arguments, "--full", "--dry_run")
    assert code == 0, err
    words = [" ".join(text.split()) for text in out.splitlines()]
    assert "learning_rate 2e-05 [default with --full]" in words
    assert "lora_r unused [--full trains no adapter]" in words
    assert any(text.startswith("Checkpoints: ") and " with the model (" in text for text in words)
    code, out, _ = script("finetune_temporal", *arguments, "--full", "--dry_run", "--learning_rate", "1e-5")
    assert code == 0 and "learning_rate 1e-05 [flag]" in " ".join(out.split())


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--lora_r", "8"), "there is no adapter. Omit --lora_r, or --full."),
        (("--lora_alpha=16",), "there is no adapter. Omit --lora_alpha, or --full."),
        (("--use_4bit",), "quantised ones cannot be trained. Omit --use_4bit, or --full."),
        (("--use_8bit",), "quantised ones cannot be trained. Omit --use_8bit, or --full."),
    ],
)
def test_flags_that_full_rules_out(flags, why, script):
    code, out, err = script("finetune_temporal", "--full", *flags)
    assert (code, out) == (2, "") and err.strip() == f"error: --full trains all weights of the base: {why}"


@pytest.mark.parametrize("name", ["FSDP", "DeepSpeed"])
def test_it_is_not_split_over_processes(name, script, monkeypatch):
    monkeypatch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
    code, _, err = script("finetune_temporal", "--full")
    assert code == 2 and f"--full does not run under {name}" in err and "ddp.yaml" in err


def test_what_helps_against_too_little_memory():
    assert recovery.less_memory(TrainSettings(full=True))[:2] == [
        "--batch_size 2 --gradient_accumulation_steps 8",
        "a new run without --full, which trains an adapter",
    ]
