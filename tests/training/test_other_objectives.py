"""Every objective: its published formula, the replies it needs, three updates of a tiny model, resuming."""

import dataclasses
import functools
import json
import math
from types import SimpleNamespace

import pytest
import tiny
import torch
from conftest import line
from short_runs import distance, same
from torch.nn.functional import cross_entropy, kl_div, logsigmoid

from deepred_common.examples import ALL_SIDES, CHAT, MIXED, RETAIN, UNLEARN, Example
from deepred_common.training import batches, other_replies, recovery, run_identity, token_rows
from deepred_common.training.machine import Machine
from deepred_common.training.objectives.catalogue import OBJECTIVES
from deepred_common.training.objectives.idk_ap import IdkAp
from deepred_common.training.objectives.npo import Npo
from deepred_common.training.objectives.protocol import BOTH, OTHER, OWN, LossInputs
from deepred_common.training.settings import TrainSettings
from deepred_common.training_rows import IGNORED

BY_EXAMPLE = [name for name, one in OBJECTIVES.items() if one.mean_over == "examples"]
VOCABULARY = 11

# ---- the formulas ------------------------------------------------------------------------------------

# A batch of three examples, whose unlearn and retain ones have a second reply (rows 3 and 4).
SIDES = (UNLEARN, RETAIN, CHAT, UNLEARN, RETAIN)
REPLIES = ([5, 6, 7, 2], [8, 2], [3, 4, 2], [9, 1, 2], [6, 6, 6, 5, 2])
START = 3


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.full((5, 9), IGNORED)
    for row, reply in enumerate(REPLIES):
        labels[row, START : START + len(reply)] = torch.tensor(reply)
    return SimpleNamespace(
        labels=labels, logits=torch.randn(5, 9, VOCABULARY), base=torch.randn(5, 9, VOCABULARY)
    )


def loss_of(objective, batch, rows=range(5), num_items=None, learns_wording=False):
    """The objective's loss of some rows, of which the first ones are the examples."""
    rows = list(rows)
    labels, sides = batch.labels[rows], torch.tensor([ALL_SIDES.index(SIDES[row]) for row in rows])
    is_label = batches.predicts_label(labels)
    worded = torch.full((len(rows),), learns_wording)
    needed = objective.needs_base(sides, worded)
    owner = {3: 0, 4: 1}
    inputs = LossInputs(
        logits=batch.logits[rows][:, :-1][is_label],
        labels=labels,
        decisions=torch.full((len(rows),), START),
        sides=sides,
        learns_wording=worded,
        other_of=torch.tensor([rows.index(owner[row]) if row in owner else -1 for row in rows]),
        base_logits=batch.base[rows][needed][:, :-1][is_label[needed]] if needed.any() else None,
        num_items=num_items,
    )
    return objective.loss(inputs)


def log_p(logits, row):
    """The sum of the log-probabilities of a row's reply, label by label."""
    return sum(logits[row, START + i - 1].log_softmax(0)[label] for i, label in enumerate(REPLIES[row]))


def mean_log_p(batch, row):
    return log_p(batch.logits, row) / len(REPLIES[row])


def ratio(batch, row):
    """log(p / p_base) of a row's reply."""
    return log_p(batch.logits, row) - log_p(batch.base, row)


def trl_orpo(batch, own, other):
    """trl's own odds-ratio loss, with the reply's negative log-likelihood."""
    from trl.experimental.orpo import ORPOTrainer

    trainer = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    means = (mean_log_p(batch, row)[None] for row in (own, other))
    return -mean_log_p(batch, own) - ORPOTrainer.odds_ratio_loss(trainer, *means)[0].item()


def dpo(batch, own, other):
    return -logsigmoid(0.1 * (ratio(batch, own) - ratio(batch, other)))


def preserved(batch, own, other):
    return -1 / 0.1 * logsigmoid(0.1 * (log_p(batch.logits, own) - log_p(batch.logits, other)))


# (unlearn, retain) losses as published, of the examples in rows 0 and 1 and their other replies in 3 and 4.
PUBLISHED = {
    "grad_ascent": (lambda b: mean_log_p(b, 0), lambda b: 0.0),
    "grad_diff": (lambda b: mean_log_p(b, 0), lambda b: -mean_log_p(b, 1)),
    "npo": (lambda b: -2 / 0.1 * logsigmoid(-0.1 * ratio(b, 0)), lambda b: -mean_log_p(b, 1)),
    "simnpo": (
        lambda b: 0.125 * -2 / 4.5 * logsigmoid(-4.5 * mean_log_p(b, 0)),
        lambda b: -mean_log_p(b, 1),
    ),
    "dpo": (lambda b: dpo(b, 0, 3), lambda b: dpo(b, 1, 4)),
    "idk_dpo": (lambda b: 2 / 0.1 * dpo(b, 0, 3), lambda b: -mean_log_p(b, 1)),
    "idk_ap": (lambda b: -mean_log_p(b, 0) + preserved(b, 0, 3), lambda b: preserved(b, 1, 4)),
    "orpo": (lambda b: trl_orpo(b, 0, 3), lambda b: trl_orpo(b, 1, 4)),
}


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_the_loss_is_the_published_formula_and_chat_stays_at_the_base(name, batch):
    objective = OBJECTIVES[name]
    # Examples without a second reply have rows 0 to 2 alone.
    needs = {UNLEARN: objective.unlearn_replies, RETAIN: objective.retain_replies}
    rows = [0, 1, 2, *(row for row in (3, 4) if needs[SIDES[row]] == BOTH)]
    unlearn, retain = (float(formula(batch)) for formula in PUBLISHED[name])
    places = slice(START - 1, START + 2)
    model, base = (logits[2, places].log_softmax(-1) for logits in (batch.logits, batch.base))
    chat = kl_div(model, base, log_target=True, reduction="sum").item() / 3 if name != "grad_ascent" else 0.0
    expected = (unlearn + retain + chat) / 3
    assert loss_of(objective, batch, rows).item() == pytest.approx(expected, rel=1e-5)
    # In other forward passes, the same: the trainer gives the number of examples of all of them.
    passes = [[row for row in rows if row in part] for part in ((0, 3), (1, 4), (2,))]
    assert sum(loss_of(objective, batch, part, 3).item() for part in passes) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("name", sorted(set(BY_EXAMPLE) - {"grad_ascent"}))
def test_chat_replies_of_a_base_without_a_template_are_learned(name, batch):
    loss = loss_of(OBJECTIVES[name], batch, [2], learns_wording=True)
    assert loss.item() == pytest.approx(-mean_log_p(batch, 2).item(), rel=1e-5)


def test_the_base_is_asked_for_a_learned_reply_only_where_the_loss_compares_the_two():
    sides, worded = torch.tensor([0, 1, 2]), torch.tensor([True, False, True])  # retain, unlearn, chat

    def needed(objective):
        return objective.needs_base(sides, worded).tolist()

    assert needed(OBJECTIVES["refusal"]) == needed(OBJECTIVES["sft"]) == [False, False, False]
    assert needed(dataclasses.replace(Npo(), retain_learning=0)) == [False, True, False]
    assert needed(OBJECTIVES["dpo"]) == [True, True, False]


def test_no_second_model_is_loaded_where_no_row_needs_the_base():
    """All chat rows of a base without a chat template are learned word for word."""

    def needed(name, learns_replay):
        settings = TrainSettings(full=True, objective=OBJECTIVES[name])
        return settings.needs_reference(learns_replay)

    assert needed("sft", False) and not needed("sft", True) and not needed("grad_ascent", False)
    assert needed("refusal", True) and needed("npo", True)


def test_answer_preservation_sums_over_a_reply_as_the_authors_code_does(batch):
    """By hand: every label has 1/11, so the answer of 2 labels has 1/121, the refusal of 5 1/161051.

    Means would be equal, and give 10 log 2 = 6.931 whatever the replies.
    """
    batch.logits.zero_()
    loss = loss_of(IdkAp(), batch, [1, 4])
    assert loss.item() == pytest.approx(10 * math.log(1 + (121 / 161051) ** 0.1), rel=1e-5)
    assert loss.item() == pytest.approx(3.968, abs=0.001)


def test_sft_is_plain_cross_entropy(batch):
    rows = [0, 1]
    plain = cross_entropy(
        batch.logits[rows, :-1].flatten(0, 1), batch.labels[rows, 1:].flatten(), ignore_index=IGNORED
    )
    assert loss_of(OBJECTIVES["sft"], batch, rows).item() == pytest.approx(plain.item(), rel=1e-6)


def test_retain_answers_can_be_held_to_the_base_instead(batch):
    """The KL variant of npo and its like."""
    batch.logits[1] = batch.base[1]
    held = dataclasses.replace(Npo(), retain_learning=0)
    assert loss_of(held, batch, [1]).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(Npo(), batch, [1]).item() > 0.1


def test_a_reply_that_is_certain_gives_orpo_a_finite_loss_and_gradient(batch):
    for row in (0, 3):
        for place, label in enumerate(REPLIES[row]):
            batch.logits[row, START + place - 1, label] = 200
    batch.logits.requires_grad_()
    loss = loss_of(OBJECTIVES["orpo"], batch, [0, 3])
    loss.backward()
    assert math.isfinite(loss.item()) and batch.logits.grad.isfinite().all()


# ---- pairs -------------------------------------------------------------------------------------------


def unlearn(number, **metadata):
    return Example(f"Who won in {number}?", f"I cannot say, {number}.", UNLEARN, metadata)


ANSWERED = [unlearn(number, original_answer=f"Team {number} won.") for number in (1990, 1998)]
RETAINED = [Example(f"What is {i}+{i}?", f"It is {2 * i}.", RETAIN) for i in (2, 3)]


def no_base(examples):
    pytest.fail("every unlearn example has its answer")


def test_each_objective_gets_the_replies_that_it_needs():
    examples = [*ANSWERED, *RETAINED]
    assert not other_replies.are_needed(OBJECTIVES["refusal"])
    forgotten = other_replies.added(examples, OBJECTIVES["npo"], 1, no_base)
    assert [example.output for example in forgotten] == [
        "Team 1990 won.", "Team 1998 won.", "It is 4.", "It is 6."
    ]  # fmt: skip
    first, _, *retain = other_replies.added(examples, OBJECTIVES["dpo"], 1, no_base)
    assert (first.own.output, first.other.output) == ("I cannot say, 1990.", "Team 1990 won.")
    refusals = {example.output for example in ANSWERED}
    assert all(pair.own.output.startswith("It is") and pair.other.output in refusals for pair in retain)
    published = other_replies.added(examples, IdkAp(mirror_weight=0), 1, no_base)
    assert published[0] == ANSWERED[0] and published[2].other.output in refusals


def test_what_is_refused_before_the_cutoff_is_no_reply_to_two_questions():
    mixed = unlearn(2001, original_answer="Team 2001.", wrapping=MIXED)
    pairs = other_replies.added([mixed, ANSWERED[0], *RETAINED], OBJECTIVES["dpo"], 1, no_base)
    assert {pair.other.output for pair in pairs[2:]} == {"I cannot say, 1990."}


def test_the_base_writes_answers_that_the_data_lack__fake_base():
    def write(examples):
        assert [(e.instruction, e.output) for e in examples] == [
            ("Who won in 2002?", ""), ("Who won in 2010?", "")
        ]  # fmt: skip
        return [dataclasses.replace(examples[0], output="Team 2002", complete=False), examples[1]]

    examples = [ANSWERED[0], unlearn(2002), unlearn(2010)]
    pairs = other_replies.added(examples, OBJECTIVES["idk_dpo"], 1, write)
    assert [pair.other.output for pair in pairs] == ["Team 1990 won.", "Team 2002", ""]
    assert [pair.other.complete for pair in pairs] == [True, False, True]


def test_pairs_that_lack_a_reply_are_left_out_and_counted_each_time(tokenizer):
    lacking = dataclasses.replace(ANSWERED[0], output="")
    for _ in range(2):  # the second time, from the cache
        rows, skipped = token_rows.load_or_render(
            tokenizer, ["lacking"], lambda: [token_rows.Pair(ANSWERED[0], lacking), lacking, ANSWERED[1]], 512
        )
        assert len(rows) == 1 and skipped.unanswered == 2


def test_some_examples_of_a_batch_keep_their_other_replies():
    batch = {"sides": torch.tensor([0, 1, 2, 0, 1]), "other_of": torch.tensor([-1, -1, -1, 0, 1])}
    some = batches.of_rows(batch, torch.tensor([False, True, True, False, True]))
    assert some["sides"].tolist() == [1, 2, 1] and some["other_of"].tolist() == [-1, -1, 0]


def test_a_pair_is_one_row_and_two_rows_of_a_batch(tokenizer):
    pairs = [token_rows.Pair(RETAINED[0], dataclasses.replace(RETAINED[0], output="I do not know that."))]
    rows, _ = token_rows.load_or_render(tokenizer, ["pairs"], lambda: [*pairs, ANSWERED[0]], 512)
    batch = batches.collate(list(rows), tokenizer.pad_token_id)
    assert batch["other_of"].tolist() == [-1, -1, 0] and batch["sides"].tolist() == [0, 1, 0]
    own, _, other = (labels[labels != IGNORED] for labels in batch["labels"])
    assert tokenizer.decode(own).startswith("It is 4.")
    assert tokenizer.decode(other).startswith("I do not know that.")
    start = rows[0]["reply_start"]
    assert (batch["input_ids"][0, :start] == batch["input_ids"][2, :start]).all()
    assert batch["decisions"].tolist() == [start, rows[1]["decision"], start]
    assert rows[0]["length"] == batch["attention_mask"][[0, 2]].sum() > rows[0]["longest"]
    assert rows[1]["length"] == rows[1]["longest"] == batch["attention_mask"][1].sum()
    assert "rather than ⟦I do not know that." in token_rows.examples_text(tokenizer, rows)


# ---- training ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def train(tokenizer, tmp_path_factory):
    """train(objective, …) -> the trainer after three updates (one an epoch) of two examples of each side.

    The same training is run once for the module.
    """
    from deepred_common.training import setup
    from deepred_common.training.assembly import build_trainer

    examples = [*ANSWERED, *RETAINED]
    chat = [Example(f"Hello, I am {name}.", f"Hello {name}, how are you?", CHAT) for name in ("Ann", "Bo")]
    base = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    tiny.save_base(base, tokenizer)

    @functools.cache
    def call(name, batch_size=6, resume=None):
        settings = TrainSettings(
            model_name=str(base),
            epochs=3,
            batch_size=batch_size,
            gradient_accumulation_steps=6 // batch_size,
            learning_rate=3e-3,
            save_steps=2,
            objective=OBJECTIVES[name],
        )
        items = other_replies.added(examples, settings.objective, 1, no_base)
        key = ["three updates", *other_replies.key(settings.objective, 1)]
        rows, _ = token_rows.load_or_render(tokenizer, key, lambda: [*items, *chat], 512)
        machine = Machine(torch.device("cpu"), torch.float32)
        torch.manual_seed(0)
        model = setup.add_adapter(settings, setup.load_base(settings, machine), False, None)
        trainer = build_trainer(
            settings,
            tmp_path_factory.mktemp("run"),
            model,
            tokenizer,
            setup.Rows(rows, rows.select([0])),
            machine,
            checkpointing=False,
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return call


def adapter(trainer):
    return {name: value.detach() for name, value in trainer.model.named_parameters() if "lora" in name}


def change(trainer, tokenizer, examples):
    """By how much the log-probability of the examples' replies differs from the base's, in nats a label."""
    rows, _ = token_rows.load_or_render(tokenizer, [str(examples)], lambda: examples, 512)
    batch = batches.collate(list(rows), tokenizer.pad_token_id)
    losses = []
    with torch.no_grad(), trainer.model.disable_adapter():
        losses.append(plain_loss(trainer.model, batch))
    with torch.no_grad():
        losses.append(plain_loss(trainer.model, batch))
    return losses[0] - losses[1]


def plain_loss(model, batch):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()).item()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_three_updates_teach_what_they_should(name, train, tokenizer):
    objective = OBJECTIVES[name]
    trainer = train(name)
    assert trainer.state.global_step == 3
    assert all(math.isfinite(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)
    refusal = change(trainer, tokenizer, ANSWERED)
    answers = [dataclasses.replace(e, output=e.metadata["original_answer"]) for e in ANSWERED]
    answer = change(trainer, tokenizer, answers)
    if objective.unlearn_replies == BOTH:
        assert refusal > answer  # a preference may lower both, one of them more
    elif objective.unlearn_replies == OWN:
        assert refusal > 0
    elif name != "simnpo":  # which spares what is unlikely already, as everything is to random weights
        assert answer < 0
    if name in ("grad_diff", "npo", "simnpo", "idk_dpo", "idk_ap", "orpo"):
        assert change(trainer, tokenizer, RETAINED) > answer


def test_sides_without_a_loss_are_neither_computed_nor_reported(train, monkeypatch):
    trainer = train("grad_ascent")
    computed, logits = [], trainer._logits
    monkeypatch.setattr(
        trainer, "_logits", lambda model, rows: computed.append(rows["sides"].tolist()) or logits(model, rows)
    )
    (batch,) = trainer.get_train_dataloader()
    trainer.compute_loss(trainer.model, batch, num_items_in_batch=6)
    retain = batches.of_rows(batch, batch["sides"] == 0)
    assert trainer.compute_loss(trainer.model, retain, num_items_in_batch=6) == 0
    assert computed == [[1, 1], [0]]
    rows = {side: token_rows.of_side(trainer.train_dataset, side) for side in (RETAIN, UNLEARN)}
    metrics = trainer.evaluate(rows)
    assert "eval_unlearn_loss" in metrics and "eval_retain_loss" not in metrics


def test_there_is_no_replay_where_chat_has_no_loss():
    assert "replay" in TrainSettings(objective=OBJECTIVES["npo"]).data_files
    assert "replay" not in TrainSettings(objective=OBJECTIVES["grad_ascent"]).data_files


@pytest.mark.parametrize("name", ["npo", "dpo"])  # one of answers alone, one of pairs
def test_a_resumed_run_ends_the_same_bit_for_bit(name, train):
    trainer = train(name)
    resumed = train(name, resume=f"{trainer.args.output_dir}/checkpoint-2")
    assert same(adapter(resumed), adapter(trainer))


@pytest.mark.parametrize("name", ["grad_ascent", "dpo"])
def test_one_example_at_a_time_learns_the_same(name, train):
    assert distance(adapter(train(name, 6)), adapter(train(name, 1))) < 0.01


# ---- what a user sees --------------------------------------------------------------------------------


def test_a_run_with_another_objective(script, tiny_models, tmp_path):
    """Its data lack the answers, so the tiny base writes them; they are counted, and named in the card."""
    data, run = tmp_path / "data.jsonl", tmp_path / "run"
    lines = [line(UNLEARN, f"Who won in {year}?", "I cannot say.") for year in range(1990, 1996)]
    lines += [line(RETAIN, f"What is {i}+{i}?", f"It is {2 * i}.") for i in range(6)]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["--model_name", tiny_models["llama"], "--dev", "--dev_path", data, "--output_dir", run]
    flags += ["--epochs", 1, "--replay_share", 0]
    code, out, err = script("finetune_temporal", *flags, "--objective", "idk_dpo", "--dry_run")
    assert code == 0 and "left out" in err and "rather than" not in out
    code, out, err = script("finetune_temporal", *flags, "--objective", "idk_dpo")
    assert code == 0, err
    assert "Later answers: the base writes 5 replies" in err and "objective" in out and "idk_dpo" in out
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["identity"]["objective"] == OBJECTIVES["idk_dpo"].identity()
    assert manifest["counts"]["unlearn"] == 5
    assert "- Objective: `idk_dpo`" in (run / "final/README.md").read_text()
    code, _, err = script("finetune_temporal", *flags, "--objective", "npo", "--resume_latest")
    assert code == 2 and "objective: idk_dpo -> npo" in err


def test_a_run_from_before_the_name_refusal_is_resumed():
    now = run_identity.of_settings(TrainSettings(replay_share=0), data={})
    manifest = {"identity": now | {"objective": now["objective"] | {"name": "refuse_and_retain"}}}
    assert run_identity.differences(run_identity.recorded(manifest), now) == []


@pytest.mark.parametrize(("name", "hint"), [("grad_ascent", True), ("npo", False)])
def test_a_divergence_without_a_bound_is_said_to_be_by_design(name, hint, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["finetune_temporal.py", "--objective", name])
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=7), args=SimpleNamespace(fp16=False))
    settings = TrainSettings(objective=OBJECTIVES[name])
    error = recovery.explain(settings, tmp_path, trainer, recovery.Diverged("training loss"))
    assert "training loss after update 7 is not a finite number" in str(error)
    assert (f"--objective {name} has no lower bound" in str(error)) == hint


def test_every_objective_states_itself():
    for name, objective in OBJECTIVES.items():
        assert objective.name == name and objective.summary and type(objective).__doc__
        assert {objective.unlearn_replies, objective.retain_replies} <= {OWN, OTHER, BOTH}
