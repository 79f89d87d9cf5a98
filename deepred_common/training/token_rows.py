"""Training data as rows of tokens: rendered once, kept on disk (memory-mapped), found again by hash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deepred_common import cache, chat, examples, provenance, training_rows
from deepred_common.cli import UserError
from deepred_common.examples import ALL_SIDES, RETAIN, SIDES, UNLEARN, Example

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

VERSION = 5  # raise it when this module makes other rows of the same examples
CHUNK = 2000  # rows rendered at a time: memory stays flat whatever the data's size
BAR_DELAY = 2  # seconds of rendering before a bar is shown
SHOWN_EXAMPLES = 3
SHOWN_PERCENTILES = (50, 90, 99, 100)
NAMED_UNUSABLE = 5  # examples that cannot be trained on and are named


class Pair(NamedTuple):
    """Two examples that differ in their replies: what should be said, and what should not."""

    own: Example
    other: Example


class _Rendered(NamedTuple):
    """What the table of rows holds of one example."""

    own: training_rows.TrainingRow
    other: training_rows.TrainingRow | None
    side: int
    learns_wording: bool


@dataclass
class Skipped:
    """Examples without a row: {side: too long ones}, how many cannot be trained on, the first of these.

    unanswered: how many have no other reply, though the objective needs one.
    """

    too_long: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ALL_SIDES, 0))
    unusable: int = 0
    named: list[str] = field(default_factory=list)
    unanswered: int = 0


def load_or_render(
    tokenizer: PreTrainedTokenizerBase,
    key: Sequence[str],
    read_examples: Callable[[], Sequence[Example | Pair]],
    max_length: int,
) -> tuple[Dataset, Skipped]:
    """read_examples() rendered by `tokenizer` as a datasets.Dataset, and what was Skipped.

    A row has input_ids, reply_start (where the labels begin), decision (where the reply's own text begins)
    and length, all in tokens, side, its number in ALL_SIDES, and learns_wording (of Example). That of a Pair
    also has other_reply, the other's tokens from reply_start on (empty in all other rows), and
    other_decision, as decision. length counts the prompt once for each reply, longest is that of one.
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
    tokenizer: PreTrainedTokenizerBase, to_render: Sequence[Example | Pair], max_length: int
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
    skipped.unanswered = sum(not _has_replies(item) for item in to_render)
    with tqdm(total=len(to_render), desc="rendering", unit="example", delay=BAR_DELAY, leave=False) as bar:
        for start in range(0, len(to_render), CHUNK):
            chunk = [item for item in to_render[start : start + CHUNK] if _has_replies(item)]
            examples = [item.own if isinstance(item, Pair) else item for item in chunk]
            others = [item.other for item in chunk if isinstance(item, Pair)]
            other_rows = iter(training_rows.of_examples(tokenizer, others))
            rendered = []
            for item, example, own in zip(
                chunk, examples, training_rows.of_examples(tokenizer, examples), strict=True
            ):
                other = next(other_rows) if isinstance(item, Pair) else None
                if isinstance(own, str) or isinstance(other, str):
                    skipped.unusable += 1
                    if len(skipped.named) < NAMED_UNUSABLE:
                        skipped.named.append(f"{example.where}: {own if isinstance(own, str) else other}")
                elif max(len(row.input_ids) for row in (own, other) if row) > max_length:
                    skipped.too_long[example.side] += 1
                else:
                    side = ALL_SIDES.index(example.side)
                    rendered.append(_Rendered(own, other, side, example.learns_wording))
            tables.append(_table(rendered))
            bar.update(min(CHUNK, len(to_render) - start))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    dataset = Dataset(InMemoryTable(pa.concat_tables(tables)))
    if not len(dataset) and skipped.unusable:
        raise UserError(f"no example can be trained on. {skipped.named[0]}.")
    if not len(dataset) and skipped.unanswered:
        raise UserError("no example has the replies that the objective needs.")
    if not len(dataset):
        raise UserError(f"every example is longer than --max_seq_length {max_length}; raise it.")
    return dataset, skipped


def _has_replies(item: Example | Pair) -> bool:
    return bool((item.other if isinstance(item, Pair) else item).output)


def _table(rows: Sequence[_Rendered]) -> pa.Table:
    """The Arrow table of rows, made of flat arrays: many times faster than from Python lists."""
    import numpy as np
    import pyarrow as pa

    def lists(values: Sequence[Sequence[int]]) -> pa.ListArray:
        lengths = np.array([len(ids) for ids in values], dtype=np.int32)
        flat = np.array([i for ids in values for i in ids], dtype=np.int32)
        offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))

    others = [row.other.input_ids[row.other.reply_start :] if row.other else [] for row in rows]
    lengths = [[len(reply.input_ids) for reply in (row.own, row.other) if reply] for row in rows]
    return pa.table(
        {
            "input_ids": lists([row.own.input_ids for row in rows]),
            "reply_start": np.array([row.own.reply_start for row in rows], dtype=np.int32),
            "decision": np.array([row.own.decision for row in rows], dtype=np.int32),
            "other_reply": lists(others),
            "other_decision": np.array(
                [row.other.decision if row.other else 0 for row in rows], dtype=np.int32
            ),
            "side": np.array([row.side for row in rows], dtype=np.int8),
            "learns_wording": np.array([row.learns_wording for row in rows], dtype=bool),
            "length": np.array([sum(each) for each in lengths], dtype=np.int32),
            "longest": np.array([max(each) for each in lengths], dtype=np.int32),
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
        if len(row["other_reply"]):
            lines.append(f"rather than ⟦{tokenizer.decode(row['other_reply'])}⟧")
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
