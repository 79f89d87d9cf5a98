"""A model given by its hub name: the commit that it was loaded from is known, and an adapter's base is it."""

import json
import shutil

import pytest
import tiny
import torch

from deepred_common.evaluation import relearning
from deepred_common.files import read_json
from deepred_common.models import loading

COMMIT, LATER = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def cache(tmp_path, tiny_models, monkeypatch):
    """The hub's cache, made by hand: some/tiny at COMMIT, which is `main`."""
    from huggingface_hub import constants

    cached = tmp_path / "models--some--tiny"
    shutil.copytree(tiny_models["llama"], cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return cached


def test_the_hub_s_commit_is_known_from_the_cache(cache, tiny_models):
    assert loading.revision("some/tiny") == loading.identity("some/tiny") == COMMIT
    assert loading.revision(tiny_models["llama"]) is None
    assert loading.revision("no name of a model!") is None


def test_an_evaluation_of_an_adapter_is_complete_where_its_base_is_not(
    cache, tiny_models, tmp_path, script, data_file
):
    """The cache was cleared, or the results were taken to another machine."""
    import torch
    from peft import LoraConfig, get_peft_model

    adapter, output = tmp_path / "adapter", tmp_path / "out.json"
    model = loading.load_model(tiny_models["llama"], torch.float32)
    get_peft_model(model, LoraConfig(target_modules="all-linear")).save_pretrained(adapter)
    config = read_json(adapter / "adapter_config.json") | {"base_model_name_or_path": "some/tiny"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    flags = ["--model_path", adapter, "--test_file", data_file, "--limit", 2, "--max_tokens", 2]
    code, _, err = script("evaluate_temporal", *flags, "--output", output)
    assert code in (0, 1) and read_json(output)["asked"]["model_files"]["base"] == COMMIT, err
    shutil.rmtree(cache)
    code, out, err = script("evaluate_temporal", *flags, "--output", output, "--resume")
    assert code in (0, 1) and "is complete" in out, err


def test_an_adapter_is_asked_on_the_base_s_commit_that_it_was_trained_on(
    cache, tiny_models, tmp_path, script, data_file
):
    """So is the base beside it. Later the base's weights and its chat template have changed on the hub."""
    from peft import LoraConfig, get_peft_model

    base, later, adapter = tiny_models["llama"], cache / "snapshots" / LATER, tmp_path / "adapter"
    model = loading.load_model(base, torch.float32)
    get_peft_model(model, LoraConfig(target_modules="all-linear")).save_pretrained(adapter)
    config = read_json(adapter / "adapter_config.json")
    config |= {"base_model_name_or_path": "some/tiny", "revision": COMMIT}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    changed = loading.load_model(base, torch.float32)
    changed.model.embed_tokens.weight.data.neg_()
    shutil.copytree(base, later)
    changed.save_pretrained(later)
    template = later / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "human"))
    (cache / "refs/main").write_text(LATER)

    def replies(*flags, of="out"):
        output = tmp_path / f"{of}.json"
        limits = ("--limit", 4, "--max_tokens", 8, "--overwrite", "--output", output)
        code, out, err = script("evaluate_temporal", *flags, "--test_file", data_file, *limits)
        assert code in (0, 1) and output.exists(), err
        if "--base_model" in flags:
            assert "some/tiny@0123456 " in out
            output = tmp_path / f"{of}.base.json"
            assert read_json(output)["model"]["identity"] == COMMIT
        return [row["reply"] for row in read_json(output)["results"]]

    assert replies("--model_path", adapter) == replies("--model_path", base)
    assert replies("--model_path", adapter) != replies("--model_path", "some/tiny")
    for given in (None, "some/tiny"):  # the base that is tuned beside it
        assert relearning.check(str(adapter), given, use_server=False) == f"some/tiny@{COMMIT}"
    beside = ("--model_path", adapter, "--base_model", "some/tiny")
    assert replies(*beside, of="both") == replies("--model_path", base)
    flags = (*beside, "--limit", 4, "--max_tokens", 8, "--output", tmp_path / "both.json", "--resume")
    code, out, err = script("evaluate_temporal", *flags, "--test_file", data_file)
    assert code in (0, 1) and "nothing is left to ask" in out, err


@pytest.mark.parametrize(
    ("recorded", "name"),
    [
        ({"model_name": "some/tiny", "identity": {"base_revision": COMMIT}}, f"some/tiny@{COMMIT}"),
        ({"model_name": "other/tiny", "identity": {"base_revision": COMMIT}}, "some/tiny"),
        ({"model_name": "some/tiny", "identity": {}}, "some/tiny"),
        ([], "some/tiny"),
        (None, "some/tiny"),
    ],
    ids=["of this base", "of another base", "of an older run", "of something else", "no run.json"],
)
def test_the_base_beside_a_model_trained_whole_is_the_commit_that_its_run_began_from(
    recorded, name, cache, tiny_models, tmp_path
):
    final = tmp_path / "run/final"
    shutil.copytree(tiny_models["llama"], final)
    if recorded is not None:
        (tmp_path / "run/run.json").write_text(json.dumps(recorded))
    assert relearning.check(str(final), "some/tiny", use_server=False) == name


def test_an_attack_whose_older_results_name_the_hub_base_without_a_commit_is_resumed(
    cache, tiny_models, tmp_path, script, monkeypatch
):
    from peft import LoraConfig, get_peft_model

    monkeypatch.setattr(relearning, "STEPS", (0, 1, 2))
    adapter, output = tmp_path / "adapter", tmp_path / "a.json"
    model = loading.load_model(tiny_models["llama"], torch.float32)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(adapter)
    config = read_json(adapter / "adapter_config.json")
    config |= {"base_model_name_or_path": "some/tiny", "revision": COMMIT}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    flags = ("--attack", "relearn", "--model_path", adapter, "--limit", 8, "--max_tokens", 3)

    def resumed(base, tunings):
        """What --resume makes of the results if they held this base and so many tunings."""
        kept = whole["relearning"] | {"base": base, "curves": whole["relearning"]["curves"][:tunings]}
        output.write_text(json.dumps(whole | {"relearning": kept}))
        code, out, err = script("evaluate_temporal", *flags, "--output", output, "--resume")
        return code, out + err, read_json(output)["relearning"]

    code, _, err = script("evaluate_temporal", *flags, "--output", output)
    whole = read_json(output)
    assert code == 0 and whole["relearning"]["base"] == f"some/tiny@{COMMIT}", err
    code, text, found = resumed("some/tiny", tunings=3)
    assert code == 0 and "Relearning attack" in text and found["base"] == "some/tiny", text
    code, text, found = resumed("some/tiny", tunings=2)
    assert code == 0 and len(found["curves"]) == 3 and found["base"] == f"some/tiny@{COMMIT}", text
    for other in (f"some/tiny@{LATER}", "other/tiny"):
        code, text, _ = resumed(other, tunings=3)
        assert code == 2 and f"beside the base {other}, not some/tiny@{COMMIT}" in text


def test_an_adapter_of_another_hub_base_is_merged_into_the_newest_commit_of_the_given_one(
    cache, tiny_models, tmp_path, script
):
    """Its own base's commit is not one of this model, whose hub would not find it."""
    adapter = tmp_path / "adapter"
    tiny.add_lora(loading.load_model(tiny_models["llama"], torch.float32)).save_pretrained(adapter)
    config = read_json(adapter / "adapter_config.json")
    config |= {"base_model_name_or_path": "other/tiny", "revision": LATER}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    flags = ("--lora_path", adapter, "--output_path", tmp_path / "merged")
    code, _, err = script("merge_lora", "--base_model", "some/tiny", *flags)
    assert code == 0 and (tmp_path / "merged/model.safetensors").exists(), err
