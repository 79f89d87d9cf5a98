"""In which order training rows are shown: shuffled, both sides in every batch, little padding."""

import random

POOL_BATCHES = 16  # batches whose rows are sorted by length together: enough to pad little, few enough to stay shuffled


class BalancedOrder:
    """A sampler of row numbers. Every batch_size numbers in a row are one batch.

    A batch that holds one side only pulls the decision to answer or refuse its way, and the next one pulls it back. So
    each batch takes from each side in proportion. Within a pool, batches are made of rows of like length, since the
    padding that a long row puts on its short neighbours is computed for nothing; then the batches are shuffled.
    The order follows from seed and epoch alone, so that a resumed run sees the same.

    lengths, retain: one entry a row, its tokens and whether it is on the retain side.
    """

    def __init__(self, lengths, retain, batch_size, seed):
        self._lengths, self._retain = lengths, retain
        self._batch_size = batch_size
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
        size = self._batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(merged), size):
            pool = sorted(merged[start:start + size], key=self._lengths.__getitem__)
            mixed = _in_proportion(self._by_side(pool))
            batches += [mixed[i:i + self._batch_size] for i in range(0, len(mixed), self._batch_size)]
        # Only the very last batch may be short, and it must stay last: the trainer cuts batches by counting.
        short = batches.pop() if batches and len(batches[-1]) < self._batch_size else []
        chooser.shuffle(batches)
        return iter([i for batch in [*batches, short] for i in batch])

    def _by_side(self, rows):
        return [[i for i in rows if self._retain[i]], [i for i in rows if not self._retain[i]]]


def _in_proportion(lists):
    """Merge `lists` into one, each keeping its order and spread evenly over the whole."""
    placed = [((rank + 0.5) / len(items), number, item) for number, items in enumerate(lists) for rank, item in enumerate(items)]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
