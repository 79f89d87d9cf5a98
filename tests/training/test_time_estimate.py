"""The time that a training has left: from timed updates, from a trainer's events, and in a real training."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from deepred_common.training import time_estimate, trainer
from deepred_common.training.callbacks import UpdateClock
from deepred_common.training.time_estimate import TimeEstimate, UpdateCost, fit_cost

# ---- the cost of an update -------------------------------------------------------------------------------


def test_the_fit_finds_a_constant_and_a_cost_by_tokens():
    tokens = [100, 220, 340, 150, 400]
    cost = fit_cost(tokens, [0.5 + 0.01 * count for count in tokens])
    assert cost.constant == pytest.approx(0.5) and cost.per_token == pytest.approx(0.01)
    assert cost.seconds([100, 200]) == pytest.approx(1.5 + 2.5)


def test_neither_figure_is_negative():
    # Longer updates that took less time: only noise, so all of it counts as constant.
    cost = fit_cost([100, 200, 300], [3.0, 2.0, 1.0])
    assert cost == UpdateCost(constant=pytest.approx(2.0), per_token=0.0)
    # A line through these would start below 0.
    cost = fit_cost([100, 200, 300], [0.5, 2.0, 3.5])
    assert cost.constant == 0 and cost.per_token > 0


def test_updates_of_one_length_count_by_tokens():
    cost = fit_cost([64] * 10, [2.0] * 10)
    assert cost.seconds([128, 64]) == pytest.approx(6.0)


# ---- the estimate ----------------------------------------------------------------------------------------


def timed(update_tokens, seconds, **changes):
    """A TimeEstimate and the updates from number 2 on timed, as many as there are seconds."""
    options = {"validation_tokens": 0, "eval_steps": 10_000, "save_steps": 10_000} | changes
    estimate = TimeEstimate(update_tokens, **options)
    for update, taken in enumerate(seconds, 2):
        estimate.add_update(update, taken)
    return estimate


def test_nothing_is_estimated_before_ten_updates_were_timed():
    estimate = timed([100] * 40, [1.0] * 9)
    assert estimate.seconds_left(10) is None
    estimate.add_update(11, 1.0)
    assert estimate.seconds_left(11) == pytest.approx(29.0)


def test_long_updates_ahead_count_by_their_tokens():
    tokens = [100, 120] * 10 + [500] * 10
    estimate = timed(tokens, [0.01 * count for count in tokens[1:11]])
    assert estimate.seconds_left(11) == pytest.approx(0.01 * sum(tokens[11:]))
    assert estimate.seconds_left(30) == 0


def test_validations_count_by_tokens_at_first_and_as_measured_later():
    estimate = timed([100] * 60, [1.0] * 10, validation_tokens=600, eval_steps=25)
    # After updates 25, 50 and 60.
    three_validations = 3 * 600 * 0.01 * time_estimate.VALIDATION_COST
    assert estimate.seconds_left(11) == pytest.approx(49 + three_validations)
    estimate.add_validation(7.0)
    assert estimate.seconds_left(25) == pytest.approx(35 + 2 * 7)


def test_checkpoints_count_once_one_was_saved():
    estimate = timed([100] * 60, [1.0] * 10, save_steps=20)
    assert estimate.seconds_left(11) == pytest.approx(49)
    estimate.add_checkpoint(2.0)
    assert estimate.seconds_left(20) == pytest.approx(40 + 2 * 2.0)  # after updates 40 and 60


def test_a_resumed_training_counts_what_is_left_of_it():
    estimate = TimeEstimate([100] * 80 + [200] * 20, 0, 10_000, 10_000)
    for update in range(72, 82):
        estimate.add_update(update, 1.0 if update <= 80 else 2.0)
    assert estimate.seconds_left(81) == pytest.approx(19 * 2.0)


def test_a_machine_that_gets_slower_is_noticed():
    estimate = timed([100] * 300, [1.0] * 100 + [3.0] * time_estimate.WINDOW)
    assert estimate.seconds_left(151) == pytest.approx(149 * 3.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(42.4, "42 s"), (100, "2 min"), (720, "12 min"), (9000, "2.5 h")]
)
def test_times_are_shown_as_people_say_them(seconds, text):
    assert time_estimate.shown_time(seconds) == text


# ---- the callback ----------------------------------------------------------------------------------------


class Events:
    """A trainer's events on a clock of its own: what() takes so many seconds and then happens."""

    def __init__(self, estimate, warm_up=0.0):
        self.seconds = 0.0
        self.state = SimpleNamespace(global_step=0, max_steps=len(estimate.update_tokens))
        self.clock = UpdateClock(estimate, warm_up, now=lambda: self.seconds)
        self.clock.on_train_begin(None, self.state, None)

    def update(self, seconds):
        self.clock.on_step_begin(None, self.state, None)
        self.seconds += seconds
        self.state.global_step += 1
        self.clock.on_step_end(None, self.state, None)

    def validation(self, seconds):
        for _ in range(2):  # each side by itself
            self.seconds += seconds / 2
            self.clock.on_evaluate(None, self.state, None)

    def checkpoint(self, seconds):
        self.seconds += seconds
        self.clock.on_save(None, self.state, None)


def test_the_estimate_is_printed_once_after_ten_updates_and_without_the_first(capsys):
    events = Events(TimeEstimate([100] * 100, 0, 10_000, 10_000))
    events.update(60.0)  # the first update allocates memory and chooses kernels
    for _ in range(9):
        events.update(2.0)
    assert capsys.readouterr().err == "" and events.clock.seconds_left is None
    for _ in range(20):
        events.update(2.0)
    assert capsys.readouterr().err == "about 3 min of training left, measured over 10 updates\n"
    assert events.clock.seconds_left == pytest.approx(70 * 2.0)


def test_validations_and_checkpoints_are_timed_apart_from_the_updates():
    events = Events(TimeEstimate([100] * 100, 1000, eval_steps=5, save_steps=10))
    for number in range(1, 21):
        events.update(1.0)
        if number % 5 == 0:
            events.validation(8.0)
        if number % 10 == 0:
            events.checkpoint(3.0)
    events.update(1.0)
    assert events.clock.seconds_left == pytest.approx(79 * 1.0 + 16 * 8.0 + 8 * 3.0)


def test_what_a_gpu_printed_is_about_what_it_took():
    """A recorded training on an H200. Without a warm-up it printed 3 min of the 1 min that it took."""
    recorded = json.loads(Path(__file__).with_name("h200_updates.json").read_text(encoding="utf-8"))
    estimate = TimeEstimate(recorded["tokens"], recorded["validation_tokens"], eval_steps=100, save_steps=50)
    events = Events(estimate, time_estimate.GPU_WARM_UP)
    for seconds in recorded["seconds"]:
        events.update(seconds)
        if events.clock.seconds_left is not None:
            break
    seconds_after = sum(recorded["seconds"][events.state.global_step :])
    assert events.clock.seconds_left == pytest.approx(seconds_after, rel=0.3)


def test_a_training_of_few_updates_says_nothing(capsys):
    events = Events(TimeEstimate([100] * 11, 500, 10_000, 10_000))
    for _ in range(11):
        events.update(1.0)
    assert capsys.readouterr().err == ""


# ---- in a real training ----------------------------------------------------------------------------------


@pytest.fixture
def train(script, tiny_models, data_file, tmp_path):
    """Train a tiny model on 10 rows of data_file; what was written to stderr."""

    def call(*more):
        code, _, err = script(
            *("finetune_temporal", "--model_name", tiny_models["llama"], "--dev", "--dev_path", data_file),
            *("--output_dir", tmp_path / "run", "--replay_share", 0, *more),
        )
        assert code == 0, err
        return err

    return call


def test_the_tokens_of_every_update_are_those_that_the_trainer_computes(train, monkeypatch):
    of_training, estimates, computed = time_estimate.of_training, [], []
    compute_loss = trainer.TemporalTrainer.compute_loss

    def remember(*args):
        estimates.append(of_training(*args))
        return estimates[-1]

    def count_and_compute(self, model, inputs, *args, **kwargs):
        computed.append((model.training, inputs["input_ids"].numel()))
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(time_estimate, "of_training", remember)
    monkeypatch.setattr(trainer.TemporalTrainer, "compute_loss", count_and_compute)
    train("--batch_size", 2, "--gradient_accumulation_steps", 2, "--epochs", 3, "--eval_steps", 9)
    passes = [tokens for training, tokens in computed if training]
    updates = []
    for epoch in range(3):  # of 5 forward passes, two for each update
        one, two, three, four, five = passes[5 * epoch : 5 * epoch + 5]
        updates += [one + two, three + four, five]
    assert estimates[0].update_tokens == updates
    validations = [tokens for training, tokens in computed if not training]
    assert sum(validations) % estimates[0].validation_tokens == 0


def test_a_training_prints_its_estimate_once_and_the_bar_counts_from_a_checkpoint(train):
    one_row_each = ("--batch_size", 1, "--gradient_accumulation_steps", 1, "--eval_steps", 5)
    err = train(*one_row_each, "--epochs", 2)
    assert len(re.findall(r"about \d+ s of training left, measured over 10 updates\n", err)) == 1
    assert re.search(r" 0/20 \[00:00<\?, ", err) and re.search(r"20/20 \[\d\d:\d\d<\d\d:\d\d, ", err)
    assert re.search(r"update 5: retain validation loss \d", err)
    err = train(*one_row_each, "--epochs", 4, "--resume_latest")
    assert len(re.findall(r"about \d+ s of training left, measured over 10 updates\n", err)) == 1
    assert re.search(r" 20/40 \[00:00<\?, ", err) and re.search(r"40/40 \[\d\d:\d\d<\d\d:\d\d, ", err)
