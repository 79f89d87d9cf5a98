"""What most objectives share: a loss for each example, by its side, and the mean over examples."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.examples import ALL_SIDES, CHAT, RETAIN, UNLEARN
from deepred_common.training.objectives import log_probabilities
from deepred_common.training.objectives.log_probabilities import ReplyScores
from deepred_common.training.objectives.protocol import BOTH, EXAMPLES, LossInputs, Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ByExample(Objective):
    """Sum over the sides of: unlearn loss, retain_weight x retain loss, chat_weight x drift; by example.

    With as many retain as unlearn examples, this weighs the two sides as the published sums of two means do.
    Chat examples (replay) are held to the base's predictions by every objective that holds anything, so that
    objectives can be compared; no published form has them. Those whose wording is learned have the mean of
    -log p(label) in place of the drift. Of what the template writes before a reply, the retain and chat
    examples learn the wording (Qwen3's would begin to think).
    """

    mean_over: ClassVar[str] = EXAMPLES
    # The sides whose loss compares the replies' log-probabilities with the base's.
    reference_sides: ClassVar[tuple[str, ...]] = ()

    # How much a retain example counts beside an unlearn example. 1 in the papers.
    retain_weight: float = 1
    # How much a chat example counts. 1, as in `refusal`.
    chat_weight: float = 1

    @abc.abstractmethod
    def unlearn_losses(self, scores: ReplyScores) -> Tensor:
        """(examples,) losses of unlearn examples."""

    @abc.abstractmethod
    def retain_losses(self, scores: ReplyScores) -> Tensor:
        """(examples,) losses of retain examples, before retain_weight."""

    @property
    def loss_sides(self) -> tuple[str, ...]:
        weights = {UNLEARN: 1.0, RETAIN: self.retain_weight, CHAT: self.chat_weight}
        return tuple(side for side in ALL_SIDES if weights[side])

    @property
    def drift_sides(self) -> tuple[str, ...]:
        """The sides whose distance to the base is part of the loss."""
        return (CHAT,) if self.chat_weight else ()

    @property
    def base_sides(self) -> tuple[str, ...]:
        needed = {*self.reference_sides, *self.drift_sides}
        return tuple(side for side in ALL_SIDES if side in needed)

    @property
    def drift_only_sides(self) -> tuple[str, ...]:
        return tuple(side for side in self.drift_sides if side not in self.reference_sides)

    def loss(self, inputs: LossInputs) -> Tensor:
        import torch

        needs_drift = torch.zeros_like(inputs.sides, dtype=torch.bool)
        for side in self.drift_sides:
            needs_drift |= inputs.sides == ALL_SIDES.index(side)
        needs_drift &= ~inputs.learns_wording
        needs_base = self.needs_base(inputs.sides, inputs.learns_wording)
        scores = log_probabilities.of_batch(inputs, needs_base, needs_drift)
        sides = inputs.sides[: len(scores.own)]
        # Of a batch without any example that counts, too, the trainer wants a gradient.
        total = 0 * scores.own.sum()
        for side, losses_of, weight in (
            (UNLEARN, self.unlearn_losses, 1.0),
            (RETAIN, self.retain_losses, self.retain_weight),
            (CHAT, _chat_losses, self.chat_weight),
        ):
            here = sides == ALL_SIDES.index(side)
            if weight and here.any():
                total = total + weight * losses_of(scores.of(here)).sum()
        return total / (inputs.num_items if inputs.num_items is not None else len(sides))


def _chat_losses(scores: ReplyScores) -> Tensor:
    """(examples,) losses of chat examples, before chat_weight."""
    import torch

    return torch.where(scores.learns_wording, scores.nll, scores.drift)


@dataclass(frozen=True)
class LearnsAnswers(ByExample):
    """With the papers' retain term, the mean over the answer's labels of -log p(label)."""

    # The share of the answer's wording in what is learned of it; the rest is the distance to the base, the KL
    # variant in the papers. 1 is what they and open-unlearning take first.
    retain_learning: float = 1

    def retain_losses(self, scores: ReplyScores) -> Tensor:
        import torch

        learned = torch.where(scores.learns_wording, 1.0, self.retain_learning)
        return learned * scores.nll + (1 - learned) * scores.drift

    @property
    def drift_sides(self) -> tuple[str, ...]:
        retain = (RETAIN,) if self.retain_weight and self.retain_learning < 1 else ()
        return (*retain, *super().drift_sides)


@dataclass(frozen=True)
class Preference(ByExample):
    """With the same loss of a pair on both sides: of unlearn and of retain examples."""

    @property
    def unlearn_replies(self) -> str:
        return BOTH

    @property
    def retain_replies(self) -> str:
        return BOTH

    @abc.abstractmethod
    def pair_losses(self, scores: ReplyScores) -> Tensor:
        """(examples,) losses of pairs of replies, of either side."""

    def unlearn_losses(self, scores: ReplyScores) -> Tensor:
        return self.pair_losses(scores)

    def retain_losses(self, scores: ReplyScores) -> Tensor:
        return self.pair_losses(scores)
