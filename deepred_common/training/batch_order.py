"""In which order training rows are shown: shuffled, all sides in every update, little padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

POOL_STEPS = (
    8  # updates whose rows are sorted by length together: enough to pad little, few enough to stay shuffled
)


class BalancedOrder:
    """A sampler of row numbers. Every step_rows numbers in a row are what one weight update learns from.

    An update that sees one side only pulls the decision to answer or refuse its way, and the next one pulls
    it back. So each takes from each side in proportion. Within a pool, updates are made of rows of like
    length, and an update's rows stand shortest first, since the padding that a long row puts on its short
    neighbours is computed for nothing; then the updates are shuffled. Forward passes, one process's or
    many's, are slices of an update: how it is cut changes the memory that it takes, not what is learned. The
    order follows from seed and epoch alone, so that a resumed run sees the same.
    """

    def __init__(self, lengths: Sequence[int], sides: Sequence[int], step_rows: int, seed: int) -> None:
        """lengths, sides: one entry a row, its tokens and the number of its side.

        step_rows: rows an update, which is batch size x accumulation steps x processes.
        """
        self._lengths, self._sides = lengths, sides
        self._step_rows = step_rows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; the trainer calls it, and callbacks.Resumption."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter([row for rows in self.updates(self._epoch) for row in rows])

    def updates(self, epoch: int) -> list[list[int]]:
        """The row numbers that each weight update of an epoch learns from, in order."""
        chooser = random.Random(f"{self._seed} {epoch}")
        rows = list(range(len(self)))
        chooser.shuffle(rows)
        merged = _in_proportion(self._by_side(rows))
        size = self._step_rows * POOL_STEPS
        updates = []
        for start in range(0, len(merged), size):
            pool = sorted(merged[start : start + size], key=self._lengths.__getitem__)
            mixed = _in_proportion(self._by_side(pool))
            for first in range(0, len(mixed), self._step_rows):
                rows = mixed[first : first + self._step_rows]
                # Sides differ in length, and a forward pass pads its rows to the longest.
                updates.append(sorted(rows, key=self._lengths.__getitem__))
        # Only the very last update may be short, and it must stay last: the trainer cuts by counting.
        short = [updates.pop()] if updates and len(updates[-1]) < self._step_rows else []
        chooser.shuffle(updates)
        return updates + short

    def padded_tokens(self, epoch: int, batch_size: int, processes: int = 1) -> list[int]:
        """How many tokens, padding included, the forward passes of each update of an epoch compute.

        batch_size: rows a forward pass. With several processes, which take forward passes in turn and then
        wait for each other, the tokens of the one that has most.
        """
        tokens = []
        for rows in self.updates(epoch):
            lengths = [self._lengths[row] for row in rows]
            batches = _batch_tokens(lengths, batch_size)
            tokens.append(max(sum(batches[process::processes]) for process in range(processes)))
        return tokens

    def _by_side(self, rows: list[int]) -> list[list[int]]:
        by_side: dict[int, list[int]] = {}
        for row in rows:
            by_side.setdefault(self._sides[row], []).append(row)
        return [by_side[side] for side in sorted(by_side)]


def padded_tokens(lengths: Sequence[int], batch_size: int) -> int:
    """Tokens, padding included, of rows of these lengths in batches of `batch_size`, in this order."""
    return sum(_batch_tokens(lengths, batch_size))


def _batch_tokens(lengths: Sequence[int], batch_size: int) -> list[int]:
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    return [len(batch) * max(batch) for batch in batches]


def _in_proportion(lists: list[list[int]]) -> list[int]:
    """Merge `lists` into one, each keeping its order and spread evenly over the whole."""
    placed = [
        ((rank + 0.5) / len(items), number, item)
        for number, items in enumerate(lists)
        for rank, item in enumerate(items)
    ]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
