"""What an objective is: parameters, the replies and predictions that it needs, and the loss of a batch."""

from __future__ import annotations

import abc
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deepred_common.examples import ALL_SIDES

if TYPE_CHECKING:
    from torch import Tensor

# Which replies of a side's examples are trained on: the example's own (on the unlearn side the refusal), the
# other one (on the unlearn side the answer, on the retain side a refusal), or both.
OWN, OTHER, BOTH = "own", "other", "both"
# What a loss is the mean of.
LABELS, EXAMPLES = "labels", "examples"


@dataclass(frozen=True)
class LossInputs:
    """One batch as an objective gets it: what was predicted, and what should have been.

    A row is one reply. Rows that are other replies stand last, in any order.

    logits: (labels, vocabulary), what is predicted for each label, row after row.
    labels: (rows, length), IGNORED where there is no loss.
    decisions: (rows,), the place of the first label that is the reply's own text; labels before it are what
        the chat template writes into every reply (mostly nothing).
    sides: (rows,) of numbers in ALL_SIDES.
    learns_wording: (rows,) bool, True for retain and chat rows whose reply the base would not give.
    other_of: (rows,), the row whose example has this row as its other reply; -1 for an example's first row.
    base_logits: as logits, of the model without its adapter, for the rows of the objective's needs_base only;
        None if there are no such rows.
    num_items: what the objective's loss is the mean of (mean_over), counted in all the accumulated batches by
        the trainer; None counts this batch's own.
    """

    logits: Tensor
    labels: Tensor
    decisions: Tensor
    sides: Tensor
    learns_wording: Tensor
    other_of: Tensor
    base_logits: Tensor | None
    num_items: Tensor | int | None = None


@dataclass(frozen=True)
class Objective(abc.ABC):
    """What every objective is a subclass of: a frozen dataclass whose fields are its parameters.

    Its fields are numbers, texts or booleans, so that run.json can hold them.
    """

    name: ClassVar[str]  # the one that --objective takes
    summary: ClassVar[str]  # a few words for its help text
    mean_over: ClassVar[str] = LABELS
    # True if the loss has no lower bound, so that training goes on to spoil the model.
    unbounded: ClassVar[bool] = False
    # False if it only makes the answers less likely: then no validation can choose by how well it refuses.
    teaches_refusal: ClassVar[bool] = True

    @property
    def unlearn_replies(self) -> str:
        """OWN, OTHER or BOTH: the replies that it needs of unlearn examples."""
        return OWN

    @property
    def retain_replies(self) -> str:
        """OWN, OTHER or BOTH: the replies that it needs of retain examples. Of chat examples it is OWN."""
        return OWN

    @property
    def loss_sides(self) -> tuple[str, ...]:
        """The sides (of ALL_SIDES) whose rows have a loss; those of others are not even computed."""
        return ALL_SIDES

    @property
    def base_sides(self) -> tuple[str, ...]:
        """The sides (of ALL_SIDES) whose rows need the base's logits, in a forward pass of their own."""
        return ()

    @property
    def drift_only_sides(self) -> tuple[str, ...]:
        """Those of base_sides that need them for the distance to the base alone.

        A row whose wording is learned has no such distance in its loss.
        """
        return ()

    def needs_base(self, sides: Tensor, learns_wording: Tensor) -> Tensor:
        """(rows,) bool: which rows need the base's logits. sides, learns_wording: as in LossInputs."""
        import torch

        needed = torch.zeros_like(sides, dtype=torch.bool)
        for side in self.base_sides:
            here = sides == ALL_SIDES.index(side)
            needed |= here & ~learns_wording if side in self.drift_only_sides else here
        return needed

    @abc.abstractmethod
    def loss(self, inputs: LossInputs) -> Tensor:
        """The loss of a batch, a scalar in nats: the mean over labels or examples, as mean_over says."""

    def for_fallback_template(self) -> Objective:
        """The objective for a base that has no chat template, and so has never seen a conversation."""
        return self

    def identity(self) -> dict[str, Any]:
        """{"name": …, parameter: value}, for run.json: a run is resumed only with the same objective."""
        return {"name": self.name, **asdict(self)}
