"""Training data as rows of tokens: rendered once, kept on disk (memory-mapped), found again by hash."""

import os

from deepred_common import cache, chat, examples, provenance
from deepred_common.cli import UserError
from deepred_common.examples import RETAIN, SIDES, UNLEARN

VERSION = 1  # raise it when this module makes other rows of the same examples
_CHUNK = 2000  # rows rendered at a time: memory stays flat whatever the data's size


def load_or_render(tokenizer, key, read_examples, max_length):
    """(datasets.Dataset, {side: number left out for length}) of read_examples() rendered by `tokenizer`.

    A row has input_ids, reply_start (where the labels begin), retain (which side) and length, all in tokens.
    key: texts that tell the data apart (their files' hashes and how they were chosen). read_examples() is called only
    if the cache does not hold their rows yet. A row longer than max_length is left out, not cut: a cut reply would teach
    the model not to stop.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    # Every module that decides what a row is: the one that reads examples, the one that renders, and this one.
    versions = f"examples {examples.VERSION}, chat {chat.VERSION}, token_rows {VERSION}"
    digest = provenance.digest(
        versions, *key, tokenizer.chat_template, tokenizer.backend_tokenizer.to_str(), max_length
    )

    def make(folder):
        dataset, left_out = _render(tokenizer, read_examples(), max_length)
        dataset.save_to_disk(str(folder / "rows"))
        (folder / "left_out.txt").write_text(
            " ".join(str(left_out[side]) for side in SIDES), encoding="utf-8"
        )
        return dataset, left_out

    def read(folder):
        left_out = dict(
            zip(SIDES, map(int, (folder / "left_out.txt").read_text(encoding="utf-8").split()), strict=True)
        )
        return Dataset.load_from_disk(str(folder / "rows")), left_out

    return cache.folder("rows", digest, make, read)


def _render(tokenizer, examples, max_length):
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from tqdm import tqdm

    # Tokenizing uses every core here; nothing forks meanwhile, which is what the switch is for.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    left_out = dict.fromkeys(SIDES, 0)
    tables = []
    with tqdm(total=len(examples), desc="rendering", unit="line", delay=2, leave=False) as bar:
        for start in range(0, len(examples), _CHUNK):
            chunk = examples[start : start + _CHUNK]
            kept = []
            for example, row in zip(chunk, chat.training_rows(tokenizer, chunk), strict=True):
                if len(row.input_ids) > max_length:
                    left_out[example.side] += 1
                else:
                    kept.append((row, example.side == RETAIN))
            lengths = np.array([len(row.input_ids) for row, _ in kept], dtype=np.int32)
            ids = np.array([i for row, _ in kept for i in row.input_ids], dtype=np.int32)
            tables.append(
                pa.table(
                    {
                        "input_ids": pa.ListArray.from_arrays(
                            pa.array(np.concatenate([[0], lengths.cumsum()]).astype(np.int32)), pa.array(ids)
                        ),
                        "reply_start": np.array([row.reply_start for row, _ in kept], dtype=np.int32),
                        "retain": np.array([retain for _, retain in kept], dtype=bool),
                        "length": lengths,
                    }
                )
            )
            bar.update(len(chunk))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    dataset = Dataset(InMemoryTable(pa.concat_tables(tables)))
    if not len(dataset):
        raise UserError(f"every example is longer than --max_seq_length {max_length}; raise it.")
    return dataset, left_out


def column(dataset, name):
    """One column of numbers as a NumPy array."""
    return dataset.select_columns([name]).with_format("numpy")[:][name]


def of_side(dataset, side):
    """The rows of one side, in order."""
    import numpy as np

    return dataset.select(np.flatnonzero(column(dataset, "retain") == (side == RETAIN)))


def mixed(dataset, mix, seed):
    """The dataset with rows of the side that there is too much of left out, so that retain : unlearn is `mix` (a pair of numbers).

    None keeps all. Which rows go follows from `seed`.
    """
    import numpy as np

    retain = column(dataset, "retain")
    if mix is None or retain.all() or not retain.any():
        return dataset
    rows = {RETAIN: np.flatnonzero(retain), UNLEARN: np.flatnonzero(~retain)}
    unit = min(len(rows[side]) / share for side, share in zip(SIDES, mix, strict=True))
    chooser = np.random.default_rng(seed)
    kept = [
        chooser.permutation(rows[side])[: max(1, round(unit * share))]
        for side, share in zip(SIDES, mix, strict=True)
    ]
    return dataset.select(np.sort(np.concatenate(kept)))


def examples_text(tokenizer, training, count=3):
    """`count` rows as the model sees them, as text, what is trained on between ⟦ and ⟧."""
    lines = [
        f"\nExamples as the model sees them; the loss falls on what stands between ⟦ and ⟧ ({tokenizer.name_or_path}):"
    ]
    by_side = [of_side(training, side) for side in SIDES]
    # Both sides in turn.
    order = [side[place] for place in range(count) for side in by_side if place < len(side)]
    for row in order[:count]:
        ids, start = row["input_ids"], row["reply_start"]
        lines.append(
            f"--- {RETAIN if row['retain'] else UNLEARN}, {len(ids)} tokens, {len(ids) - start} trained on"
        )
        lines.append(f"{tokenizer.decode(ids[:start])}⟦{tokenizer.decode(ids[start:])}⟧")
    return "\n".join(lines)


def lengths_line(training):
    """One line about how long the rows are, in tokens, by side."""
    import numpy as np

    lengths, retain = column(training, "length"), column(training, "retain")
    parts = [
        f"{side} {' / '.join(f'{value:.0f}' for value in np.percentile(chosen, (50, 90, 99, 100)))}"
        for side, chosen in ((RETAIN, lengths[retain]), (UNLEARN, lengths[~retain]))
        if len(chosen)
    ]
    return f"Tokens a line (median / 90 % / 99 % / longest): {', '.join(parts)}"
