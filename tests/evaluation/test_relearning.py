"""The relearning attack: tuning a copy in memory, what comes out of it, and what is said about that."""

import json

import pytest
import tiny

from deepred_common import paths, training_rows
from deepred_common.evaluation import relearning, runner, tuned_copy
from deepred_common.evaluation.tuned_copy import TunedCopy
from deepred_common.examples import Example
from deepred_common.inference.local_model import LocalModel
from deepred_common.models import loading

ANSWERED = [
    Example("Who founded Google?", "Larry Page and Sergey Brin founded Google.", "unlearn"),
    Example("What is a smartphone?", "A telephone with a small computer in it.", "unlearn"),
    Example("When did the Berlin Wall fall?", "It fell in November 1989, to the surprise of all.", "unlearn"),
    Example("Who is Barack Obama?", "A president.", "unlearn"),
]


@pytest.fixture
def local(tiny_models):
    import torch

    folder = tiny_models["llama"]
    model = loading.load_model(folder, torch.float32)
    return LocalModel(model, loading.load_tokenizer(folder), 8, 4)


def test_the_loss_is_that_of_the_replies_however_the_rows_are_computed(local):
    rows = training_rows.of_examples(local.tokenizer, ANSWERED)
    shared = tuned_copy.shared_start(rows)
    assert shared > 10  # SmolLM2's template begins with a system prompt
    weight = local.model.model.layers[0].self_attn.k_proj.weight
    found = []
    for start in (0, shared):
        local.model.zero_grad()
        loss = tuned_copy.reply_loss(local.model, rows, start)
        loss.backward()
        found.append((loss.item(), weight.grad.norm().item()))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    import torch

    total = count = 0
    for row in rows:  # each by itself, as transformers computes it
        labels = torch.tensor([row.labels])
        own = int((labels != training_rows.IGNORED).sum())
        total += local.model(input_ids=torch.tensor([row.input_ids]), labels=labels).loss.item() * own
        count += own
    assert found[0][0] == pytest.approx(total / count, rel=1e-4)


def test_a_copy_learns_the_same_each_time_and_is_then_as_it_was(local):
    before = dict(local.ask(["Who founded Google?"]))
    copy, untuned = TunedCopy(local), local.model
    runs = []
    for _ in range(2):
        updates = copy.updates(ANSWERED)
        runs.append([next(updates) for _ in range(4)])
        assert local.model is not untuned
        updates.close()
    assert runs[0] == runs[1] and runs[0][-1] < runs[0][0] - 0.1
    assert dict(local.ask(["Who founded Google?"])) == before
    assert not any("lora" in name for name, _ in local.model.named_parameters())


def test_an_adapter_on_a_tied_output_layer_is_merged_as_it_answers(tiny_models, tokenizer, tmp_path):
    """peft would add what it changes to the embedding, too, and the attack would be on another model."""
    import torch

    model = loading.load_model(tiny_models["llama"], torch.float32)
    assert model.config.tie_word_embeddings
    model = tiny.add_lora(model, target_modules=["q_proj", "lm_head"])
    local = LocalModel(model, loading.load_tokenizer(tiny_models["llama"]), 8, 4)
    local.kind = "adapter"
    ids = torch.tensor([[5, 700, 3, 42]])
    with torch.inference_mode():
        wanted = local.model(ids).logits
        TunedCopy(local)
        assert torch.allclose(local.model(ids).logits, wanted, atol=1e-4)


def test_an_adapter_that_makes_weights_infinite_is_refused_before_anything_is_tuned(
    script, adapter, tmp_path
):
    import safetensors.torch

    file = adapter / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    for name, tensor in tensors.items():
        tensor.fill_(3e38 if "lora_B" in name else 1.0)  # finite each, but not their product
    safetensors.torch.save_file(tensors, file)
    flags = ("--attack", "relearn", "--model_path", adapter, "--limit", 2, "--max_tokens", 2)
    code, _, err = script("evaluate_temporal", *flags, "--output", tmp_path / "a.json")
    assert code == 2 and "The adapter is damaged or training diverged." in err


def test_memory_that_runs_out_in_tuning_is_said_plainly__allocation_failure_faked(local, monkeypatch):
    import torch

    def no_memory(*arguments):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(tuned_copy, "reply_loss", no_memory)
    with pytest.raises(relearning.UserError, match="not enough memory to tune"):
        next(TunedCopy(local).updates(ANSWERED))


def test_the_ratio_to_the_base_has_an_interval_over_groups_of_facts():
    leaked, by_base = [True] * 20 + [False] * 30, [True] * 40 + [False] * 10
    ratio, low, high = relearning.ratio_of_leaks(leaked, by_base, range(50))
    assert ratio == 0.5 and 0.3 < low < 0.45 < 0.55 < high < 0.7
    _, wide_low, wide_high = relearning.ratio_of_leaks(leaked, by_base, [n // 10 for n in range(50)])
    assert wide_high - wide_low > high - low
    assert relearning.ratio_of_leaks([False] * 3, [False] * 3, range(3)) is None


@pytest.fixture
def adapter(tiny_models, tmp_path):
    """An untrained LoRA adapter on a tiny model, as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = loading.load_model(tiny_models["llama"], torch.float32)
    config = LoraConfig(r=2, target_modules=["q_proj"], base_model_name_or_path=str(tiny_models["llama"]))
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_attack_that_was_cut_short_keeps_its_tunings_and_resumes(
    script, adapter, tiny_models, tmp_path, monkeypatch
):
    monkeypatch.setattr(relearning, "STEPS", (0, 1, 2))
    folder, losses = tmp_path / "out", tuned_copy.reply_loss
    flags = ["--attack", "relearn", "--model_path", adapter, "--limit", 8, "--max_tokens", 3]
    flags += ["--output", folder / "a.json"]

    def ctrl_c(model, rows, shared):
        updates.append(rows)
        if len(updates) == 4:
            raise KeyboardInterrupt
        return losses(model, rows, shared)

    updates = []
    monkeypatch.setattr(tuned_copy, "reply_loss", ctrl_c)
    code, out, err = script("evaluate_temporal", *flags)
    assert code == 130 and "Relearning attack" not in out
    assert f"1 of 3 tunings are saved. Resume with the same command and --output {folder}/a.json" in err
    assert [file.name for file in folder.iterdir()] == ["a.json"]
    first = json.loads((folder / "a.json").read_text())["relearning"]["curves"]
    code, _, err = script("evaluate_temporal", *flags)
    assert code == 2 and "already exists" in err

    # The hint means any command; --overwrite in it must not cost the tuning that is saved.
    code, out, err = script("evaluate_temporal", *flags, "--overwrite", "--resume", "--report")
    assert code == 0, err
    assert len(updates) == 4 + 4  # two of each tuning that was left
    assert f"Relearning attack on {adapter}, cutoff 1969-07-20" in out
    assert sorted(file.name for file in folder.iterdir()) == ["a.html", "a.json", "a.png"]
    saved = json.loads((folder / "a.json").read_text())
    found = saved["relearning"]
    assert found["base"] == str(tiny_models["llama"])  # the adapter names it
    assert [(curve["model"], curve["taught"]) for curve in found["curves"]] == list(relearning.TUNINGS)
    assert found["curves"][0]["points"][1:] == first[0]["points"][1:]
    for curve in found["curves"]:
        assert [point["steps"] for point in curve["points"]] == [0, 1, 2]
    # The rows before the first update are those of the file; early facts are asked first and last.
    assert [len(point["rows"]) for point in found["curves"][0]["points"]] == [0, 4, 8]
    assert len(saved["results"]) == 8 and (folder / "a.png").stat().st_size > 10_000
    assert "Relearning" in (folder / "a.html").read_text()


def test_an_adapter_s_own_base_is_found_from_any_folder_and_is_one_base_by_each_of_its_names(
    script, adapter, tiny_models, tmp_path, monkeypatch
):
    """The adapter names it by a path in the project's folder, where the training was started."""
    monkeypatch.setattr(relearning, "STEPS", (0, 1, 2))
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "bases", elsewhere):
        folder.mkdir(parents=True)
    (project / "bases/tiny").symlink_to(tiny_models["llama"])
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "bases/tiny"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    monkeypatch.setattr(paths, "ROOT", project)
    flags = ["--attack", "relearn", "--model_path", adapter, "--limit", 8, "--max_tokens", 3]
    flags += ["--output", tmp_path / "a.json"]
    monkeypatch.chdir(elsewhere)
    code, _, err = script("evaluate_temporal", *flags)
    assert code == 0, err
    found = json.loads((tmp_path / "a.json").read_text())["relearning"]
    assert found["base"] == str(project / "bases/tiny") and len(found["curves"]) == 3
    for folder, base in (
        (project, ()),
        (project, ("--base_model", "bases/tiny")),
        (elsewhere, ("--base_model", tiny_models["llama"])),
    ):
        monkeypatch.chdir(folder)
        code, _, err = script("evaluate_temporal", *flags, *base, "--resume")
        assert code == 0, err
    code, _, err = script("evaluate_temporal", *flags, "--resume", "--base_model", tiny_models["qwen2"])
    assert code == 2 and f"sets this model beside the base {project}/bases/tiny, not " in err


def test_the_settings_say_what_the_name_of_an_attack_is_made_from(script, adapter, monkeypatch):
    def ctrl_c(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "evaluate", ctrl_c)
    code, out, _ = script("evaluate_temporal", "--attack", "relearn", "--model_path", adapter)
    assert code == 130
    (line,) = [line for line in out.splitlines() if "relearn-adapter-1969-07-20.json" in line]
    assert line.endswith("[made from model and cutoff]")


def test_another_choice_of_facts_is_another_question(tiny_models):
    """--seed chooses them without --limit, too; replies are saved by number."""
    first, again, other = (relearning.questions("1969-07-20", None, seed).digest for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "needs its weights: give --model_path"),
        (("--use_lmstudio",), "needs its weights: give --model_path"),
        (("--model_path", "GGUF"), "cannot be tuned: give the folder or adapter it was made from"),
        (("--model_path", "FOLDER", "--base_model", "GGUF"), "cannot be tuned"),
        (("--model_path", "FOLDER", "--output", "x.png"), "x.png must end in .json"),
        (("--model_path", "FOLDER", "--limit", "1"), "--limit must be 2 at least"),
        (("--model_path", "FOLDER", "--cutoff", "2022-01-01"), "late facts for the cutoff 2022-01-01"),
    ],
)
def test_what_cannot_be_attacked_is_said_before_a_model_is_loaded(script, tiny_models, tmp_path, flags, says):
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF" + bytes(100))
    given = {"GGUF": gguf, "FOLDER": tiny_models["llama"]}
    code, out, err = script(
        "evaluate_temporal", "--attack", "relearn", *(given.get(flag, flag) for flag in flags)
    )
    assert code == 2 and says in err and not out
