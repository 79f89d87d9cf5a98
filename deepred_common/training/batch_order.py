"""In which order training rows are shown: shuffled, both sides in every batch, little padding."""

import random

POOL_STEPS = (
    8  # updates whose rows are sorted by length together: enough to pad little, few enough to stay shuffled
)


class BalancedOrder:
    """A sampler of row numbers. Every step_rows numbers in a row are what one weight update learns from.

    An update that sees one side only pulls the decision to answer or refuse its way, and the next one pulls it back. So
    each takes from each side in proportion. Within a pool, updates are made of rows of like length, shortest first,
    since the padding that a long row puts on its short neighbours is computed for nothing; then the updates are
    shuffled. Forward passes, one process's or many's, are slices of an update: how it is cut changes the memory that it
    takes, not what is learnt. The order follows from seed and epoch alone, so that a resumed run sees the same.

    lengths, retain: one entry a row, its tokens and whether it is on the retain side. step_rows: rows an update, which
    is batch size x accumulation steps x processes.
    """

    def __init__(self, lengths, retain, step_rows, seed):
        self._lengths, self._retain = lengths, retain
        self._step_rows = step_rows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch):
        """Choose the epoch's order; the trainer calls it."""
        self._epoch = epoch

    def __len__(self):
        return len(self._lengths)

    def __iter__(self):
        chooser = random.Random(f"{self._seed} {self._epoch}")
        rows = list(range(len(self)))
        chooser.shuffle(rows)
        merged = _in_proportion(self._by_side(rows))
        size = self._step_rows * POOL_STEPS
        steps = []
        for start in range(0, len(merged), size):
            pool = sorted(merged[start : start + size], key=self._lengths.__getitem__)
            mixed = _in_proportion(self._by_side(pool))
            steps += [mixed[i : i + self._step_rows] for i in range(0, len(mixed), self._step_rows)]
        # Only the very last update may be short, and it must stay last: the trainer cuts by counting.
        short = steps.pop() if steps and len(steps[-1]) < self._step_rows else []
        chooser.shuffle(steps)
        return iter([i for step in [*steps, short] for i in step])

    def _by_side(self, rows):
        return [[i for i in rows if self._retain[i]], [i for i in rows if not self._retain[i]]]


def _in_proportion(lists):
    """Merge `lists` into one, each keeping its order and spread evenly over the whole."""
    placed = [
        ((rank + 0.5) / len(items), number, item)
        for number, items in enumerate(lists)
        for rank, item in enumerate(items)
    ]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
