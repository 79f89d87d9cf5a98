"""Training data as rows of tokens: rendered once, kept on disk (memory-mapped), found again by hash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deepred_common import cache, chat, examples, provenance, training_rows
from deepred_common.cli import UserError
from deepred_common.examples import ALL_SIDES, RETAIN, SIDES, UNLEARN, Example

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

VERSION = 3  # raise it when this module makes other rows of the same examples
CHUNK = 2000  # rows rendered at a time: memory stays flat whatever the data's size
BAR_DELAY = 2  # seconds of rendering before a bar is shown
SHOWN_EXAMPLES = 3
SHOWN_PERCENTILES = (50, 90, 99, 100)
NAMED_UNUSABLE = 5  # examples that cannot be trained on and are named


@dataclass
class Skipped:
    """Examples without a row: {side: too long ones}, how many cannot be trained on, the first of these."""

    too_long: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ALL_SIDES, 0))
    unusable: int = 0
    named: list[str] = field(default_factory=list)


def load_or_render(
    tokenizer: PreTrainedTokenizerBase,
    key: Sequence[str],
    read_examples: Callable[[], Sequence[Example]],
    max_length: int,
) -> tuple[Dataset, Skipped]:
    """read_examples() rendered by `tokenizer` as a datasets.Dataset, and what was Skipped.

    A row has input_ids, reply_start (where the labels begin), decision (where the reply's own text begins)
    and length, all in tokens, side, its number in ALL_SIDES, and learns_wording (of Example).
    key: texts that tell the data apart (their files' paths and hashes, and how they were chosen).
    read_examples() is called only if the cache does not hold their rows yet. A row longer than max_length is
    skipped, not cut: a cut reply would teach the model not to stop. UserError if no row is left.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    # Every module that decides what a row is: the one that reads examples, the one that renders them, and
    # this one.
    versions = (
        f"examples {examples.VERSION}, chat {chat.VERSION}, training_rows {training_rows.VERSION}, "
        f"token_rows {VERSION}"
    )
    digest = provenance.digest(
        versions, *key, tokenizer.chat_template, tokenizer.backend_tokenizer.to_str(), max_length
    )

    def make(folder: Path) -> tuple[Dataset, Skipped]:
        dataset, skipped = _render(tokenizer, read_examples(), max_length)
        dataset.save_to_disk(str(folder / "rows"))
        (folder / "skipped.json").write_text(json.dumps(asdict(skipped)), encoding="utf-8")
        return dataset, skipped

    def read(folder: Path) -> tuple[Dataset, Skipped]:
        skipped = Skipped(**json.loads((folder / "skipped.json").read_text(encoding="utf-8")))
        return Dataset.load_from_disk(str(folder / "rows")), skipped

    return cache.folder("rows", digest, make, read)


def _render(
    tokenizer: PreTrainedTokenizerBase, to_render: Sequence[Example], max_length: int
) -> tuple[Dataset, Skipped]:
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from tqdm import tqdm

    # Tokenizing uses every core here. The tokenizers library switches that off for fear of forks; none happen
    # here.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    skipped = Skipped()
    tables = []
    with tqdm(total=len(to_render), desc="rendering", unit="example", delay=BAR_DELAY, leave=False) as bar:
        for start in range(0, len(to_render), CHUNK):
            chunk = to_render[start : start + CHUNK]
            rows, sides, learns_wording = [], [], []
            for example, row in zip(chunk, training_rows.of_examples(tokenizer, chunk), strict=True):
                if isinstance(row, str):
                    skipped.unusable += 1
                    if len(skipped.named) < NAMED_UNUSABLE:
                        skipped.named.append(f"{example.where}: {row}")
                elif len(row.input_ids) > max_length:
                    skipped.too_long[example.side] += 1
                else:
                    rows.append(row)
                    sides.append(ALL_SIDES.index(example.side))
                    learns_wording.append(example.learns_wording)
            tables.append(_table(rows, sides, learns_wording))
            bar.update(len(chunk))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    dataset = Dataset(InMemoryTable(pa.concat_tables(tables)))
    if not len(dataset) and skipped.unusable:
        raise UserError(f"no example can be trained on. {skipped.named[0]}.")
    if not len(dataset):
        raise UserError(f"every example is longer than --max_seq_length {max_length}; raise it.")
    return dataset, skipped


def _table(
    rows: Sequence[training_rows.TrainingRow], sides: Sequence[int], learns_wording: Sequence[bool]
) -> pa.Table:
    """The Arrow table of rows and their sides, made of flat arrays: many times faster than from Python
    lists."""
    import numpy as np
    import pyarrow as pa

    lengths = np.array([len(row.input_ids) for row in rows], dtype=np.int32)
    ids = np.array([i for row in rows for i in row.input_ids], dtype=np.int32)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.table(
        {
            "input_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids)),
            "reply_start": np.array([row.reply_start for row in rows], dtype=np.int32),
            "decision": np.array([row.decision for row in rows], dtype=np.int32),
            "side": np.array(sides, dtype=np.int8),
            "learns_wording": np.array(learns_wording, dtype=bool),
            "length": lengths,
        }
    )


def column(rows: Dataset, name: str) -> np.ndarray:
    """One column of numbers as a NumPy array."""
    return rows.select_columns([name]).with_format("numpy")[:][name]


def of_side(rows: Dataset, side: str) -> Dataset:
    """The rows of one side, in order."""
    import numpy as np

    return rows.select(np.flatnonzero(column(rows, "side") == ALL_SIDES.index(side)))


def mixed(rows: Dataset, mix: tuple[float, float] | None, seed: int) -> Dataset:
    """Retain and unlearn rows without some of the side that has too many, so that they are as `mix` says.

    None keeps all. Which rows are dropped follows from `seed`.
    """
    import numpy as np

    retain = column(rows, "side") == ALL_SIDES.index(RETAIN)
    if mix is None or retain.all() or not retain.any():
        return rows
    share = dict(zip(SIDES, mix, strict=True))
    numbers = {RETAIN: np.flatnonzero(retain), UNLEARN: np.flatnonzero(~retain)}
    unit = min(len(numbers[side]) / share[side] for side in SIDES)
    chooser = np.random.default_rng(seed)
    kept = [chooser.permutation(numbers[side])[: max(1, round(unit * share[side]))] for side in SIDES]
    return rows.select(np.sort(np.concatenate(kept)))


def examples_text(tokenizer: PreTrainedTokenizerBase, rows: Dataset, count: int = SHOWN_EXAMPLES) -> str:
    """`count` rows as the model sees them, as text, with what is trained on between ⟦ and ⟧."""
    lines = [
        f"\nExamples as the model sees them, rendered by {tokenizer.name_or_path}.",
        "The loss covers what stands between ⟦ and ⟧.",
    ]
    by_side = [of_side(rows, side) for side in ALL_SIDES]
    # The sides in turn.
    order = [side[place] for place in range(count) for side in by_side if place < len(side)]
    for row in order[:count]:
        ids, start = row["input_ids"], row["reply_start"]
        side = ALL_SIDES[row["side"]]
        lines.append(f"--- {side}, {len(ids)} tokens, {len(ids) - start} trained on")
        lines.append(f"{tokenizer.decode(ids[:start])}⟦{tokenizer.decode(ids[start:])}⟧")
    return "\n".join(lines)


def lengths_line(rows: Dataset) -> str:
    """One line about how long the rows are, in tokens, by side."""
    import numpy as np

    lengths, sides = column(rows, "length"), column(rows, "side")
    parts = []
    for number, side in enumerate(ALL_SIDES):
        chosen = lengths[sides == number]
        if len(chosen):
            values = np.percentile(chosen, SHOWN_PERCENTILES)
            parts.append(f"{side} {' / '.join(f'{value:.0f}' for value in values)}")
    return f"Tokens an example (median / 90 % / 99 % / longest): {', '.join(parts)}"
