"""The loss: what it is for rows whose logits are known, and the place for another one."""

from dataclasses import FrozenInstanceError, dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from deepred_common import chat
from deepred_common.examples import ALL_SIDES, CHAT, RETAIN, SIDES, UNLEARN, Example
from deepred_common.training import batches
from deepred_common.training.machine import Machine
from deepred_common.training.objectives.protocol import LossInputs, Objective
from deepred_common.training.objectives.refusal import Refusal, token_weights
from deepred_common.training.settings import TrainSettings
from deepred_common.training_rows import IGNORED

SHIPPED = Refusal()


def numbers(*sides: str) -> torch.Tensor:
    """The sides of rows as the batches hold them."""
    return torch.tensor([ALL_SIDES.index(side) for side in sides])


@pytest.fixture
def batch():
    """Rows (retain, unlearn, retain) of 5, 2 and 3 labels; logits of the model and (retain rows) the base."""
    torch.manual_seed(0)
    labels = torch.full((3, 9), IGNORED)
    labels[0, 3:8] = torch.tensor([5, 6, 7, 8, 2])
    labels[1, 2:4] = torch.tensor([5, 2])
    labels[2, 6:9] = torch.tensor([9, 4, 2])
    return SimpleNamespace(
        logits=torch.randn(3, 9, 11),
        labels=labels,
        decisions=torch.tensor([3, 2, 6]),
        sides=numbers(RETAIN, UNLEARN, RETAIN),
        learns_wording=torch.tensor([False, False, False]),
        other_of=torch.tensor([-1, -1, -1]),
        base=torch.randn(2, 9, 11),
    )


def loss_of(batch, objective=SHIPPED, **changes):
    b = SimpleNamespace(**(vars(batch) | changes))
    needed = batches.predicts_label(b.labels)
    needs_base = objective.needs_base(b.sides, b.learns_wording)
    base_logits = None if b.base is None else b.base[:, :-1][needed[needs_base]]
    return objective.loss(
        LossInputs(
            b.logits[:, :-1][needed],
            b.labels,
            b.decisions,
            b.sides,
            b.learns_wording,
            b.other_of,
            base_logits,
        )
    ).item()


def test_logits_are_needed_only_where_a_row_has_a_label(batch):
    needed = batches.predicts_label(batch.labels)
    assert [row.nonzero().flatten().tolist() for row in needed] == [[2, 3, 4, 5, 6], [1, 2], [5, 6, 7]]


def test_the_first_label_of_the_reply_s_own_text_is_found_among_all_labels(batch):
    assert batches.first_text_labels(batch.labels, batch.decisions).tolist() == [0, 5, 7]
    assert batches.first_text_labels(batch.labels, torch.tensor([5, 3, 8])).tolist() == [2, 6, 9]


def test_the_first_reply_token_gets_its_shares_and_each_example_its_length(batch):
    weights = token_weights(batch.labels, batch.decisions, SHIPPED.decision_weight)
    assert weights.sum(1).tolist() == pytest.approx([5, 2, 3])
    assert (weights[0, 2] / weights[0, 3]).item() == pytest.approx(SHIPPED.decision_weight)
    assert ((weights > 0) == (batch.labels[:, 1:] != IGNORED)).all()


def test_the_weight_is_the_reply_s_own_first_token_s_not_the_template_s(batch):
    """Qwen3's template writes an empty thought before each reply; here its first two labels."""
    batch.decisions[0] = 5
    weights = token_weights(batch.labels, batch.decisions, SHIPPED.decision_weight)
    assert weights.sum(1).tolist() == pytest.approx([5, 2, 3])
    assert weights[0].argmax() == 4 and weights[0, 2] == weights[0, 3] > 0


@pytest.mark.parametrize("side", [RETAIN, CHAT])
def test_what_the_template_writes_before_a_reply_is_learned_on_every_side(side, batch):
    """Held to the base, retain replies would begin with a thought and refusals with none."""
    objective = Refusal(retain_learning=0.0)
    changes = {"sides": numbers(side, UNLEARN, side), "base": batch.logits[[0, 2]].clone()}
    batch.decisions[0] = 4
    likelier = batch.logits.clone()
    likelier[0, 2, batch.labels[0, 3]] += 5
    changes["base"][0, 2] = likelier[0, 2]
    assert loss_of(batch, objective, logits=likelier, **changes) < loss_of(batch, objective, **changes)
    changes["base"] = batch.logits[[0, 2]].clone()
    assert loss_of(batch, objective, logits=likelier, **changes) < loss_of(batch, objective, **changes)


def test_unlearn_rows_are_weighted_cross_entropy(batch):
    log = batch.logits.log_softmax(-1)
    weights = token_weights(batch.labels, batch.decisions, SHIPPED.decision_weight)
    expected = 0.0
    for row in range(3):
        for place in range(9):
            if batch.labels[row, place] != IGNORED:
                expected -= weights[row, place - 1] * log[row, place - 1, batch.labels[row, place]]
    unlearn_only = numbers(UNLEARN, UNLEARN, UNLEARN)
    assert loss_of(batch, sides=unlearn_only, base=None) == pytest.approx(expected.item() / 10, rel=1e-5)


def test_retain_rows_pull_back_to_the_base(batch):
    objective = Refusal(retain_learning=0.0)
    rows = numbers(RETAIN, RETAIN, RETAIN)
    away = loss_of(batch, objective, sides=rows, base=torch.randn(3, 9, 11))
    at_the_base = loss_of(batch, objective, sides=rows, base=batch.logits.clone())
    assert at_the_base == pytest.approx(ends_alone(batch, objective, range(3)), rel=1e-5)
    assert at_the_base < away - 0.1


@pytest.mark.parametrize("side", [RETAIN, CHAT])
def test_a_reply_that_the_base_would_not_give_is_learned_word_for_word(side, batch):
    """It weighs as a refusal does, and its distance to the base does not count."""
    rows = numbers(side, UNLEARN, UNLEARN)
    objective = Refusal(retain_weight=3)
    learned = torch.tensor([True, False, False])
    as_unlearn = loss_of(batch, objective, sides=numbers(UNLEARN, UNLEARN, UNLEARN), base=None)
    # So the base is not asked for it.
    assert loss_of(batch, objective, sides=rows, learns_wording=learned, base=None) == pytest.approx(
        as_unlearn, rel=1e-5
    )
    assert loss_of(batch, objective, sides=rows, base=batch.base[:1]) != pytest.approx(as_unlearn, rel=1e-2)


def test_the_end_of_a_retain_reply_is_learned_though_the_base_would_go_on(batch):
    """A base without a chat template never ends a reply; held to it, the model would not either."""
    end = batch.labels[0, 7].item()
    base = batch.logits[[0, 2]].clone()
    going_on = batch.logits.clone()
    going_on[0, 6, end] -= 5
    ending = batch.logits.clone()
    ending[0, 6, end] += 5
    objective = Refusal(retain_learning=0.0)
    assert loss_of(batch, objective, logits=ending, base=base) < loss_of(batch, objective, base=base)
    assert loss_of(batch, objective, base=base) < loss_of(batch, objective, logits=going_on, base=base)


def test_a_base_without_a_template_learns_more_of_the_wording(trainer_of, tokenizer, monkeypatch):
    assert trainer_of(SHIPPED).objective == SHIPPED
    monkeypatch.setattr(tokenizer, "chat_template", None)
    chat.ensure_template(tokenizer)
    objective = trainer_of(SHIPPED).objective
    assert objective.retain_learning == SHIPPED.fallback_learning > SHIPPED.retain_learning


def ends_alone(batch, objective, rows):
    """The loss of the end of the reply in `rows`, towards which retain rows are always trained."""
    log = batch.logits.log_softmax(-1)
    weights = token_weights(batch.labels, batch.decisions, objective.decision_weight)
    total = 0.0
    for row in rows:
        end = (batch.labels[row] != IGNORED).nonzero().max().item()
        total -= weights[row, end - 1] * log[row, end - 1, batch.labels[row, end]]
    return objective.retain_weight * total.item() / 10


def test_chat_rows_learn_nothing_but_to_stay_at_the_base(batch):
    """The wording of their replies does not count, whatever the objective teaches retain rows."""
    rows = numbers(CHAT, UNLEARN, CHAT)
    at_the_base = batch.logits[[0, 2]].clone()
    unlearn_alone = loss_of(batch, Refusal(chat_weight=0), sides=rows)
    assert loss_of(batch, sides=rows, base=at_the_base) == pytest.approx(unlearn_alone, rel=1e-5)
    assert loss_of(batch, sides=rows) > unlearn_alone
    assert loss_of(batch, Refusal(retain_learning=1), sides=rows) == loss_of(batch, sides=rows)


def test_each_row_is_compared_with_its_own_base_row(batch):
    """Retain and chat rows stand in any order; the base's rows stand in the same."""
    rows = numbers(CHAT, UNLEARN, RETAIN)
    objective = Refusal(retain_learning=0.0, retain_weight=1, chat_weight=1)
    base = batch.logits[[0, 2]].clone()
    expected = loss_of(batch, Refusal(retain_weight=0, chat_weight=0), sides=rows)
    expected += ends_alone(batch, objective, [2])
    assert loss_of(batch, objective, sides=rows, base=base) == pytest.approx(expected, rel=1e-5)
    assert loss_of(batch, objective, sides=rows, base=base.flip(0)) > expected + 0.1


def test_without_the_base_the_loss_is_plain_cross_entropy(batch):
    objective = Refusal(decision_weight=1, retain_learning=1, retain_weight=1)
    assert objective.base_sides == ("chat",) and SHIPPED.base_sides == ("retain", "chat")
    plain = torch.nn.functional.cross_entropy(
        batch.logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED
    )
    assert loss_of(batch, objective, base=None) == pytest.approx(plain.item(), rel=1e-5)
    with pytest.raises(ValueError, match="base's logits"):
        loss_of(batch, base=None)


def test_accumulated_batches_sum_to_one_big_batch(batch):
    total, retain_rows = 0.0, 0
    for i in range(3):
        row = slice(i, i + 1)
        needed = batches.predicts_label(batch.labels[row])
        base_logits = batch.base[retain_rows, :-1][needed[0]] if batch.sides[i] == 0 else None
        retain_rows += int(batch.sides[i] == 0)
        logits = batch.logits[row, :-1][needed]
        total += SHIPPED.loss(
            LossInputs(
                logits,
                batch.labels[row],
                batch.decisions[row],
                batch.sides[row],
                batch.learns_wording[row],
                batch.other_of[row],
                base_logits,
                10,
            )
        ).item()
    assert total == pytest.approx(loss_of(batch), rel=1e-5)


def test_padding_changes_nothing_but_the_shape():
    rows = [
        {"input_ids": [1, 5, 6, 2], "reply_start": 2, "decision": 3, "side": 0, "learns_wording": True},
        {"input_ids": [1, 7], "reply_start": 1, "decision": 1, "side": 1, "learns_wording": False},
    ]
    batch = batches.collate([row | {"other_reply": []} for row in rows], pad_id=0)
    assert batch["input_ids"].tolist() == [[1, 5, 6, 2], [1, 7, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 6, 2], [IGNORED, 7, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["decisions"].tolist() == [3, 1]
    assert batch["sides"].tolist() == [0, 1] and batch["learns_wording"].tolist() == [True, False]


def test_an_objective_cannot_change_during_a_run():
    with pytest.raises(FrozenInstanceError):
        SHIPPED.retain_weight = 5


# ---- the place for another objective -----------------------------------------------------------------


@dataclass(frozen=True)
class TowardsBase(Objective):
    """A stand-in that records what the trainer gives it: `strength` times a distance to the base."""

    name: ClassVar[str] = "towards_base"
    summary: ClassVar[str] = "a stand-in"
    strength: float = 2.0
    sides: str = " ".join(SIDES)
    calls: ClassVar[list] = []

    @property
    def base_sides(self):
        return tuple(self.sides.split())

    def loss(self, inputs):
        self.calls.append(inputs)
        target = 0.0 if inputs.base_logits is None else inputs.base_logits.mean()
        return self.strength * (inputs.logits.mean() - target).square()


@pytest.fixture
def trainer_of(tiny_models, tokenizer, tmp_path):
    """trainer_of(objective, dtype): the trainer of a run of four rows in one batch, two of each side."""
    from deepred_common.training import setup, token_rows
    from deepred_common.training.assembly import build_trainer

    def build(objective, dtype=torch.float32):
        settings = TrainSettings(
            model_name=str(tiny_models["llama"]), epochs=1, gradient_accumulation_steps=1, objective=objective
        )
        data = [Example(f"What is {i}?", "It is 4.", SIDES[i % 2]) for i in range(4)]
        dataset, _ = token_rows.load_or_render(tokenizer, ["four"], lambda: data, 512)
        machine = Machine(torch.device("cpu"), dtype)
        model = setup.add_adapter(settings, setup.load_base(settings, machine), False, None)
        return build_trainer(
            settings, tmp_path, model, tokenizer, setup.Rows(dataset, dataset), machine, checkpointing=False
        )

    return build


@pytest.mark.parametrize("sides", [" ".join(SIDES), UNLEARN, ""])
def test_an_objective_of_another_kind_is_what_is_trained(sides, trainer_of):
    objective = TowardsBase(sides=sides)
    objective.calls.clear()
    trainer_of(objective).train()
    inputs = objective.calls[0]
    assert inputs.sides.tolist().count(0) == 2
    labels = (inputs.labels != IGNORED).sum(1)
    assert len(inputs.logits) == labels.sum()
    of_base = labels[objective.needs_base(inputs.sides, inputs.learns_wording)].sum()
    assert (0 if inputs.base_logits is None else len(inputs.base_logits)) == of_base
    assert (of_base > 0) == bool(sides)
    assert objective.identity() == {"name": "towards_base", "strength": 2.0, "sides": sides}


def test_logits_stay_in_the_type_they_are_computed_in(trainer_of):
    # accelerate casts what a model returns to fp32. Of logits that is the largest thing that training holds.
    objective = TowardsBase(sides=UNLEARN)
    objective.calls.clear()
    trainer_of(objective, torch.bfloat16).train()
    inputs = objective.calls[0]
    assert inputs.logits.dtype == inputs.base_logits.dtype == torch.bfloat16
