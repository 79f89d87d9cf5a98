"""How much longer a training takes, from how long its own updates took.

Nothing is estimated from the machine beforehand: what a processor reaches on small batches is a tenth of its
peak or half of it, depending on the arithmetic. callbacks.UpdateClock times the updates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepred_common import devices
from deepred_common.training import token_rows
from deepred_common.training.batch_order import BalancedOrder, padded_tokens

if TYPE_CHECKING:
    from datasets import Dataset

    from deepred_common.training.settings import TrainSettings

TIMED_UPDATES = 10  # the first estimate rests on so many; they differ in length, and so in time
# Seconds from the start whose updates are not timed on a GPU. Kernels are loaded and memory is allocated in
# them: on an H200 the first updates of SmolLM2-135M took 2 s, and after about 10 s a fifth of a second.
GPU_WARM_UP = 15.0
WINDOW = 50  # later ones on the latest so many: a machine that gets slower is noticed
# A validation token's cost in training tokens, until a validation was timed: it has no backward pass.
# Measured on SmolLM2-135M in fp32: 0.5.
VALIDATION_COST = 0.5
LONGEST_IN_SECONDS, LONGEST_IN_MINUTES = 90, 90 * 60  # times shown in seconds, and in minutes; in seconds


@dataclass(frozen=True)
class UpdateCost:
    """Seconds of a weight update: `constant`, and `per_token` for each padded token of its forward passes."""

    constant: float
    per_token: float

    def seconds(self, tokens: Sequence[int]) -> float:
        """Seconds of the updates that compute so many padded tokens each."""
        return self.constant * len(tokens) + self.per_token * sum(tokens)


def fit_cost(tokens: Sequence[int], seconds: Sequence[float]) -> UpdateCost:
    """The UpdateCost of timed updates, by least squares with neither figure below 0.

    tokens, seconds: one entry an update. If all updates have the same length, the cost counts as one by
    tokens. On a CPU nearly all of it is by tokens, on a GPU with a small model nearly all of it is constant.
    """
    import numpy as np
    from scipy.optimize import nnls

    if min(tokens) == max(tokens):
        return UpdateCost(0.0, sum(seconds) / sum(tokens))
    mean = sum(tokens) / len(tokens)  # brings both columns to the same size
    columns = np.column_stack([np.asarray(tokens) / mean, np.ones(len(tokens))])
    (by_tokens, constant), _ = nnls(columns, np.asarray(seconds))
    return UpdateCost(float(constant), float(by_tokens / mean))


class TimeEstimate:
    """Seconds left of a training, from what it measured of itself so far."""

    def __init__(
        self, update_tokens: Sequence[int], validation_tokens: int, eval_steps: int, save_steps: int
    ) -> None:
        """update_tokens: padded tokens of every update of the whole training, in order. Packed rows compute
        fewer, but nearly in proportion.

        validation_tokens: padded tokens of one validation. eval_steps, save_steps: updates between
        validations, and between checkpoints; both also come after the last update.
        """
        self.update_tokens = update_tokens
        self.validation_tokens = validation_tokens
        self._eval_steps, self._save_steps = eval_steps, save_steps
        self._timed: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._validation_seconds: float | None = None
        self._checkpoint_seconds = 0.0

    def add_update(self, update: int, seconds: float) -> None:
        """Note how long an update took; the first of a training is number 1."""
        self._timed.append((self.update_tokens[update - 1], seconds))

    def add_validation(self, seconds: float) -> None:
        """Note how long a validation took."""
        self._validation_seconds = seconds

    def add_checkpoint(self, seconds: float) -> None:
        """Note how long a checkpoint took to save. Before the first, they count as taking no time."""
        self._checkpoint_seconds = seconds

    def seconds_left(self, update: int) -> float | None:
        """Seconds from the end of an update to the end of the training, with its validations and checkpoints.

        None as long as fewer than TIMED_UPDATES updates were timed.
        """
        if len(self._timed) < TIMED_UPDATES:
            return None
        tokens, seconds = zip(*self._timed, strict=True)
        cost = fit_cost(tokens, seconds)
        validation = self._validation_seconds
        if validation is None:
            validation = VALIDATION_COST * self.validation_tokens * sum(seconds) / sum(tokens)
        last = len(self.update_tokens)
        return (
            cost.seconds(self.update_tokens[update:])
            + validation * times_left(update, last, self._eval_steps)
            + self._checkpoint_seconds * times_left(update, last, self._save_steps)
        )


def times_left(update: int, last: int, every: int) -> int:
    """How often something still happens that comes after each `every` updates and after the last."""
    # A run that is resumed with fewer epochs may be beyond its end already.
    return max(0, last // every - update // every) + (last % every > 0 and update < last)


def of_training(
    settings: TrainSettings, order: BalancedOrder, validation: Mapping[str, Dataset]
) -> TimeEstimate:
    """The TimeEstimate of a training. order: of its rows. validation: the rows of each side."""
    processes = devices.processes()
    update_tokens: list[int] = []
    for epoch in range(settings.epochs):
        update_tokens += order.padded_tokens(epoch, settings.batch_size, processes)
    validation_tokens = 0
    for rows in validation.values():
        lengths = token_rows.column(rows, "length").tolist()
        validation_tokens += padded_tokens(lengths, settings.batch_size)
    return TimeEstimate(
        update_tokens, validation_tokens // processes, settings.eval_steps, settings.save_steps
    )


def shown_time(seconds: float) -> str:
    """Seconds as people say them: "40 s", "12 min", "3.5 h"."""
    if seconds < LONGEST_IN_SECONDS:
        return f"{seconds:.0f} s"
    if seconds < LONGEST_IN_MINUTES:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
