"""A row of the results in words: what was asked, and all that the model replied."""

from __future__ import annotations

import textwrap

from deepred_common.evaluation.results_schema import ResultRow
from deepred_common.examples import ASSISTANT, USER

_LONGEST_TURN = 100  # characters of a turn before the last


def question(row: ResultRow) -> str:
    """What a row asks, on one line: of a conversation each turn after its role, and how the reply begins."""
    earlier, prefix = row.get("earlier") or [], row.get("prefix")
    if not earlier and not prefix:
        return row["instruction"]
    turns = [
        f"{turn['role']}: {textwrap.shorten(turn['content'], _LONGEST_TURN, placeholder=' …')}"
        for turn in earlier
    ]
    turns.append(f"{USER}: {row['instruction']}")
    if prefix:
        turns.append(f"{ASSISTANT}: {prefix} …")
    return " | ".join(turns)


def reply(row: ResultRow) -> str:
    """What the model replied, to the earlier turns that were left to it too; else why there is no reply."""
    return row.get("error") or " | ".join([*(row.get("turns") or []), row["reply"] or ""])
