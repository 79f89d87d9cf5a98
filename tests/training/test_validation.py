"""What a validation measures beside its losses, and which adapter a run ends with because of it."""

import json
import re

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from short_runs import same, short_run, weights

from deepred_common import refusal_openers, stats
from deepred_common.examples import CHAT, RETAIN, SIDES, UNLEARN, Example
from deepred_common.inference.local_model import LocalModel
from deepred_common.training import loss_plot, packing, run_folder, setup, token_rows, validation
from deepred_common.training.assembly import build_trainer
from deepred_common.training.machine import Machine
from deepred_common.training.objectives.catalogue import OBJECTIVES
from deepred_common.training.settings import TrainSettings
from deepred_common.training.trainer import TemporalTrainer

# ---- what is measured ------------------------------------------------------------------------------------


def test_the_standard_error_is_that_of_the_published_example():
    """Hanley and McNeil 1982, table II: 51 abnormal and 58 normal scans."""
    assert stats.auroc_error(0.893, before=58, after=51) == pytest.approx(0.032, abs=0.001)
    assert stats.auroc_error(1.0, 10, 10) == 0


def test_the_figures_tell_sides_apart_wherever_the_threshold_lies():
    before = torch.arange(-20.0, -10).numpy()
    both = {RETAIN: before, UNLEARN: before + 12, "chat": before[:2] + 25}
    figures = validation.figures(both)
    assert figures["eval_auroc"] == 1 and figures["eval_retain_refused"] == 0
    assert figures["eval_unlearn_refused"] == pytest.approx(0.1) and figures["eval_chat_refused"] == 1
    shown = "AUROC of refusing 1.000 ± 0.000; refused 0 % of retain, 10 % of unlearn, 100 % of chat"
    assert validation.text(figures) == shown
    assert "eval_auroc" not in validation.figures(both | {RETAIN: before[:9]})
    assert validation.text(validation.figures({RETAIN: before})) == "refused 0 % of retain"


@pytest.mark.parametrize("packs", [True, False])
def test_validation_sees_the_refusal_share_that_the_evaluation_sees(
    packs, tiny_models, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(packing, "can_pack", lambda *_: packs)
    examples = [Example(f"What is {'very ' * i}blue?", "It is 4.", SIDES[i % 2]) for i in range(6)]
    rows, _ = token_rows.load_or_render(tokenizer, ["six"], lambda: examples, 512)
    settings = TrainSettings(model_name=str(tiny_models["llama"]))
    machine = Machine(torch.device("cpu"), torch.float32)
    base = setup.load_base(settings, machine)
    model = setup.add_adapter(settings, base, False, None)
    trainer = build_trainer(settings, tmp_path, model, tokenizer, setup.Rows(rows, rows), machine, False)
    measured = {}
    monkeypatch.setattr(validation, "figures", lambda log_odds: measured.update(log_odds) or {})
    trainer.evaluate()
    backend = LocalModel(model, tokenizer, max_tokens=1, batch_size=6)
    replies = dict(backend.ask([example.prompt for example in examples]))
    for number, side in enumerate(SIDES):  # both sorted by length
        shares = [replies[i].refusal_share for i in range(number, 6, 2)]
        assert torch.tensor(measured[side]).sigmoid().tolist() == pytest.approx(shares, rel=1e-3)
    assert refusal_openers.token_ids(tokenizer) and len({round(share, 9) for share in shares}) > 1


@pytest.mark.parametrize("objective", ["refusal", "idk_ap"])
def test_validation_losses_do_not_depend_on_the_batch_size(objective, tiny_models, tokenizer, tmp_path):
    """Of five rows a side, whose replies differ in length; the last batch of two is a short one."""
    examples = [Example(f"What is {n}?", f"It is{' very' * n} blue.", SIDES[n % 2]) for n in range(10)]
    if objective == "idk_ap":
        other = [Example(example.prompt, "I do not know.", example.side) for example in examples]
        examples = [token_rows.Pair(*both) for both in zip(examples, other, strict=True)]
    rows, _ = token_rows.load_or_render(tokenizer, [objective], lambda: examples, 512)
    machine, losses = Machine(torch.device("cpu"), torch.float32), []
    for batch_size in (2, 5):
        settings = TrainSettings(
            model_name=str(tiny_models["llama"]), batch_size=batch_size, objective=OBJECTIVES[objective]
        )
        model = setup.add_adapter(settings, setup.load_base(settings, machine), False, None)
        trainer = build_trainer(settings, tmp_path, model, tokenizer, setup.Rows(rows, rows), machine, False)
        metrics = trainer.evaluate()
        losses.append([metrics[f"eval_{side}_loss"] for side in SIDES])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# ---- which one is chosen ---------------------------------------------------------------------------------


def history(**changes):
    """A log history of validations at updates 100 to 400; changes: {"u100": changed figures}."""
    entries = []
    for update in (100, 200, 300, 400):
        figures = {"eval_auroc": 0.8, "eval_auroc_error": 0.02, "eval_chat_refused": 0.1}
        entries += [{"step": update, "eval_retain_loss": 0.5}, {"step": update, "loss": 1.0}]
        entries.append({"step": update} | figures | changes.get(f"u{update}", {}))
    return entries


def test_an_earlier_adapter_is_chosen_only_if_clearly_better_than_the_last():
    kept = [100, 200, 300]
    assert validation.chosen(history(u200={"eval_auroc": 0.81}), kept, 400) == 400
    assert validation.chosen(history(u200={"eval_auroc": 0.83}), kept, 400) == 200
    assert validation.chosen(history(u200={"eval_auroc": 0.83}), [300], 400) == 400  # its adapter is gone
    without = [entry for entry in history() if "eval_auroc" not in entry]
    assert validation.chosen(without, kept, 400) == 400


def test_of_equal_ones_the_best_refuses_less_talk_and_keeps_more():
    updates = [100, 200, 300, 400]
    assert validation.best(history(), updates) == 400
    assert validation.best(history(u200={"eval_chat_refused": 0.0}), updates) == 200
    assert validation.best(history(u300={"eval_retain_loss": 0.4}), updates) == 300
    assert validation.best(history(u100={"eval_auroc": 0.9, "eval_chat_refused": 0.5}), updates) == 100


# ---- in a training ---------------------------------------------------------------------------------------


@pytest.fixture
def train(script, tiny_models, data_file, tmp_path):
    """train(folder, flags): a run of 3 updates an epoch, validated after each -> (stdout, stderr)."""

    def call(folder, *flags, epochs=2, code=0):
        arguments = short_run(tiny_models["llama"], data_file, tmp_path / folder, epochs)
        ended, out, err = script("finetune_temporal", *arguments, "--eval_steps", 1, *flags)
        assert ended == code, err
        return out, err

    return call


@pytest.fixture
def fake_aurocs(monkeypatch):
    """fake_aurocs(values, end_after): what validations after updates 1, 2, … measure; and when to crash."""
    evaluate = TemporalTrainer.evaluate

    def use(*values, end_after=None):
        def evaluate_fake(self, *args, **kwargs):
            area = values[self.state.global_step - 1]
            figures = {validation.AUROC: area, validation.AUROC_ERROR: 0.02}
            monkeypatch.setattr(validation, "figures", lambda log_odds: dict(figures))
            metrics = evaluate(self, *args, **kwargs)
            if self.state.global_step == end_after and not args and not kwargs.get("eval_dataset"):
                raise RuntimeError("the power is gone")
            return metrics

        monkeypatch.setattr(TemporalTrainer, "evaluate", evaluate_fake)
        monkeypatch.setattr(validation, "caution", lambda *_: None)  # data_file has too few rows

    return use


@pytest.mark.parametrize("measures_refusing", [True, False])
def test_the_curves_are_drawn_at_each_validation(measures_refusing, train, monkeypatch):
    if not measures_refusing:  # as with a vocabulary that is not written as text
        monkeypatch.setattr(refusal_openers, "token_ids", lambda tokenizer: [])
    drawn = []

    def draw(history, *_):
        drawn.append({entry["step"] for entry in history if "eval_unlearn_loss" in entry})

    monkeypatch.setattr(loss_plot, "draw", draw)
    train("run", epochs=1)
    assert [updates for updates in ({1}, {1, 2}, {1, 2, 3}) if updates not in drawn] == []
    assert len(drawn) <= 5  # not once more for every side


def names(folder):
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_the_best_is_kept_though_later_ones_are_worse_and_its_checkpoint_is_gone(
    train, fake_aurocs, tmp_path
):
    fake_aurocs(0.6, 0.9, 0.7, 0.7, 0.8, 0.7)
    out, err = train("best", "--save_steps", 1)
    assert "update 2: AUROC of refusing 0.900 ± 0.020" in err
    assert "AUROC of refusing 0.900 ± 0.020\nKept: the adapter of update 2, AUROC 0.900; " in out
    run = tmp_path / "best"
    assert names(run) == {"best-2", "checkpoint-4", "checkpoint-5", "checkpoint-6", "final"}
    manifest = run_folder.read_manifest(run)
    assert (manifest["kept_update"], manifest["updates"]) == (2, 6)
    assert json.loads((run / "eval_results.json").read_text())["eval_auroc"] == 0.9
    assert "- Update 2 of 6: AUROC of refusing 0.900" in (run / "final/README.md").read_text()

    out, _ = train("last", "--save_steps", 1, "--save_total_limit", 9, "--keep", "last")
    assert "Kept:" not in out and "best-2" not in names(tmp_path / "last")
    checkpoints = [
        load_file(tmp_path / f"last/checkpoint-{update}/adapter_model.safetensors") for update in (2, 6)
    ]
    assert same(weights(run), checkpoints[0])
    assert same(weights(tmp_path / "last"), checkpoints[1])


def test_the_best_is_kept_though_the_last_update_was_not_validated_in_training(train, fake_aurocs, tmp_path):
    fake_aurocs(0.0, 0.9, 0.6, 0.6, 0.6, 0.6)
    train("run", "--eval_steps", 2, "--save_steps", 3)
    resume = ("--resume_from_checkpoint", tmp_path / "run/checkpoint-3")
    out, _ = train("run", "--eval_steps", 2, *resume, epochs=1)  # nothing is left to train
    assert "Kept: the adapter of update 2, AUROC 0.900; after the last update, 3, it was 0.600" in out
    assert run_folder.read_manifest(tmp_path / "run")["kept_update"] == 2


def test_of_a_whole_model_the_best_is_kept_in_the_base_s_type(train, fake_aurocs, tmp_path):
    fake_aurocs(0.6, 0.9, 0.7)
    out, _ = train("best", "--full", "--save_steps", 1, epochs=1)
    assert "Kept: the model of update 2, AUROC 0.900; " in out
    run = tmp_path / "best"
    assert names(run) == {"best-2", "checkpoint-1", "checkpoint-2", "checkpoint-3", "final"}
    final, second, third = (
        load_file(run / folder / "model.safetensors") for folder in ("final", "checkpoint-2", "checkpoint-3")
    )
    assert same(final, second) and not same(final, third)  # this base is in fp32, as checkpoints are


def test_the_best_survives_a_crash_and_what_was_not_saved_is_measured_anew(train, fake_aurocs, tmp_path):
    run = tmp_path / "run"
    fake_aurocs(0.6, 0.9, 0.7, 0.7, 0.95, end_after=5)
    train("run", "--save_steps", 3, code=2)
    assert names(run) == {"best-2", "best-5", "checkpoint-3"}
    before = load_file(run / "best-2/adapter_model.safetensors")
    fake_aurocs(0.0, 0.0, 0.0, 0.7, 0.8, 0.7)  # on a GPU, the same updates end a little elsewhere
    out, _ = train("run", "--save_steps", 3, "--resume_latest")
    assert "Kept: the adapter of update 2, AUROC 0.900" in out
    assert names(run) == {"best-2", "checkpoint-3", "checkpoint-6", "final"}
    assert same(weights(run), before)


@pytest.mark.parametrize("objective", ["grad_ascent", "grad_diff", "npo", "simnpo", "idk_dpo"])
def test_an_objective_that_teaches_no_refusal_ends_with_the_last_update(objective, train, monkeypatch):
    monkeypatch.setattr(stats, "FEWEST_OF_SIDE", 1)  # data_file has too few rows
    _, err = train("run", "--objective", objective, "--dry_run")
    told = (
        f"--keep best: --objective {objective} teaches no refusal, by which the best would be chosen. final/"
    )
    assert (told in err) is (objective != "idk_dpo")


def test_a_run_of_an_earlier_version_is_resumed_and_the_best_is_of_what_follows(train, fake_aurocs, tmp_path):
    _, err = train("run", epochs=1)  # with one validation row of each side
    assert "--keep best: validation has fewer than 10 retain or unlearn rows. final/ will be the last" in err
    assert re.search(r"update 1: refused \d+ % of retain, \d+ % of unlearn\n", err)
    run = tmp_path / "run"
    state = run / "checkpoint-3/trainer_state.json"
    content = json.loads(state.read_text())
    content["log_history"] = [entry for entry in content["log_history"] if "eval_retain_refused" not in entry]
    state.write_text(json.dumps(content))
    fake_aurocs(0.0, 0.0, 0.0, 0.9, 0.8, 0.7)
    out, _ = train("run", "--resume_latest")
    assert "Kept: the adapter of update 4" in out and "best-4" in names(run)


# ---- what is validated with --------------------------------------------------------------------------


def test_of_large_files_a_validation_takes_a_part_chosen_by_the_seed(capsys, monkeypatch):
    sides = [0] * 30 + [1] * 20 + [2] * 10
    rows = Dataset.from_dict({"side": sides, "number": list(range(60))})
    assert validation.at_most(rows, seed=1) is rows and not capsys.readouterr().out
    monkeypatch.setattr(validation, "MOST_ROWS", {RETAIN: 25, UNLEARN: 20, CHAT: 4})
    first, again, other = (validation.at_most(rows, seed)["number"][:] for seed in (1, 1, 2))
    assert first == again == sorted(first) and first != other
    assert [sum(sides[number] == side for number in first) for side in range(3)] == [25, 20, 4]
    told = "Each validation takes 25 of 30 retain, 20 of 20 unlearn, 4 of 10 chat rows, chosen by --seed.\n"
    assert capsys.readouterr().out == told * 3
