"""The relearning attack: tuning a copy in memory, what comes out of it, and what is said about that."""

import json

import pytest

from deepred_common import training_rows
from deepred_common.evaluation import relearning, tuned_copy
from deepred_common.evaluation.tuned_copy import TunedCopy
from deepred_common.examples import Example
from deepred_common.inference.local_model import LocalModel
from deepred_common.models import loading
from deepred_common.reporting import relearning_text

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
    copy = TunedCopy(local)
    runs = []
    for _ in range(2):
        updates = copy.updates(ANSWERED)
        runs.append([next(updates) for _ in range(4)])
        assert copy.model is not local.model
        updates.close()
    assert runs[0] == runs[1] and runs[0][-1] < runs[0][0] - 0.1
    after = LocalModel(copy.model, local.tokenizer, 8, 4)
    assert dict(after.ask(["Who founded Google?"])) == before
    assert not any("lora" in name for name, _ in copy.model.named_parameters())


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


def attack_of(late, early, base=40):
    """An Attack on 50 facts a side: how many leak before and after each tuning, and how many of the base."""

    def points(leaks, sides):
        return [
            relearning.point_of(
                steps,
                [
                    {
                        "fact": f"{side}-{number}",
                        "side": side,
                        "question": "Q",
                        "reply": "R",
                        "verdict": ("leaked" if number < leaked else "refused")
                        if side == "unlearn"
                        else "correct",
                        "refusal_share": 0.5 if side == "unlearn" else 0.25,
                    }
                    for side in sides
                    for number in range(50)
                ],
            )
            for steps, leaked in zip((0, 5), leaks, strict=True)
        ]

    both = ("retain", "unlearn")
    curves = [
        {"model": "tuned", "taught": "unlearn", "points": points(late, both)},
        {"model": "tuned", "taught": "retain", "points": points(early, both)},
    ]
    if base:
        curves.append({"model": "base", "taught": "unlearn", "points": points((base, base), both[1:])})
        for curve in curves[:2]:
            for point in curve["points"]:
                rows = [row for row in point["rows"] if row["side"] == "unlearn"]
                leaked = [row["verdict"] == "leaked" for row in rows]
                point["recovered"] = relearning.ratio_of_leaks(
                    leaked, [n < base for n in range(50)], range(50)
                )
    return {
        "attack": "relearn",
        "model": "tuned",
        "base": "base" if base else None,
        "cutoff": "1969-07-20",
        "taught": 64,
        "learning_rate": 1e-3,
        "curves": curves,
    }


@pytest.mark.parametrize(
    ("late", "early", "says"),
    [
        ((2, 38), (2, 36), ("most of the knowledge was hidden, not gone", "refusing is skin-deep")),
        ((2, 4), (2, 3), ("most of it does not come back", "refusing outlasts")),
        ((2, 38), (2, 20), ("most of the knowledge was hidden", "too few facts to say")),
    ],
)
def test_what_is_said_follows_from_the_share_of_the_base_that_came_back(late, early, says):
    text = relearning_text.text(attack_of(late, early))
    assert all(words in text for words in says)
    assert f"{100 * late[1] / 40:.0f}% as often as from the base" in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_without_a_base_nothing_is_concluded():
    text = relearning_text.text(attack_of((2, 38), (2, 36), base=0))
    assert "give it as --base_model" in text and "hidden" not in text


@pytest.fixture
def adapter(tiny_models, tmp_path):
    """An untrained LoRA adapter on a tiny model, as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = loading.load_model(tiny_models["llama"], torch.float32)
    config = LoraConfig(r=2, target_modules=["q_proj"], base_model_name_or_path=str(tiny_models["llama"]))
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_attacked_from_the_shell_and_leaves_only_its_figures(
    script, adapter, tiny_models, tmp_path, monkeypatch
):
    monkeypatch.setattr(relearning, "STEPS", (0, 1, 2))
    folder = tmp_path / "out"
    flags = ["--attack", "relearn", "--model_path", adapter, "--limit", 8, "--max_tokens", 3]
    code, out, err = script("evaluate_temporal", *flags, "--output", folder / "a.json")
    assert code == 0, err
    assert f"Relearning attack on {adapter}, cutoff 1969-07-20" in out
    assert sorted(file.name for file in folder.iterdir()) == ["a.json", "a.png"]
    assert (folder / "a.png").stat().st_size > 10_000
    saved = json.loads((folder / "a.json").read_text())
    assert saved["base"] == str(tiny_models["llama"])  # the adapter names it
    assert [(curve["model"], curve["taught"]) for curve in saved["curves"]] == [
        ("tuned", "unlearn"),
        ("tuned", "retain"),
        ("base", "unlearn"),
    ]
    late, early, base = ([point["steps"] for point in curve["points"]] for curve in saved["curves"])
    assert late == early == base == [0, 1, 2]
    first, middle, last = saved["curves"][0]["points"]
    assert len(first["rows"]) == len(last["rows"]) == 8 and len(middle["rows"]) == 4
    # The same command gives the same figures, and replaces nothing unasked.
    assert script("evaluate_temporal", *flags, "--output", folder / "b.json")[0] == 0
    assert json.loads((folder / "b.json").read_text()) == saved
    code, _, err = script("evaluate_temporal", *flags, "--output", folder / "a.json")
    assert code == 2 and "already exists" in err


def test_ctrl_c_leaves_nothing(script, tiny_models, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuned_copy, "reply_loss", interrupted)
    folder = tmp_path / "out"
    flags = ("--limit", 2, "--max_tokens", 2, "--output", folder / "a.json")
    code, _, _ = script(
        "evaluate_temporal", "--attack", "relearn", "--model_path", tiny_models["llama"], *flags
    )
    assert code == 130 and list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "needs its weights: give --model_path"),
        (("--use_lmstudio",), "needs its weights: give --model_path"),
        (("--model_path", "GGUF"), "cannot be tuned: give the folder or adapter it was made from"),
        (("--model_path", "FOLDER", "--base_model", "GGUF"), "cannot be tuned"),
        (("--model_path", "FOLDER", "--output", "x.png"), "must not end in .png"),
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
