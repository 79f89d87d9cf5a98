"""The labelled verdicts in datasets/labelled/verdicts.jsonl, beside those of the judge."""

from __future__ import annotations

from collections.abc import Sequence

from deepred_common.evaluation.verdicts import verdict
from deepred_common.examples import Example


def judged_verdicts(rows: Sequence[dict]) -> list[tuple[str, str]]:
    """[(label, judged)] of labelled verdicts, rows of labelled.read_labelled("verdicts")."""
    pairs = []
    for row in rows:
        example = Example(
            row["instruction"],
            row["output"],
            row["side"],
            row["metadata"],
            earlier=tuple(row.get("earlier", ())),
            prefix=row.get("prefix", ""),
        )
        pairs.append((row["verdict"], verdict(example, example.whole_reply(row["reply"]))))
    return pairs
