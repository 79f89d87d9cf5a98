#!/usr/bin/env python3
"""How well does a base tell before the cutoff from after it, taught with more facts, and with dated things?

The date probe (evaluation/date_probe.py) at three quarters of the layers, taught with the training facts of
the bank in all wordings and with dated things in one form each; tried on the wordings of the test facts, and
on things that are held out themselves. No subject tried is taught with.

    python bench/things.py --base output/base/SmolLM2-135M-Instruct
    python bench/things.py --base output/base/SmolLM2-135M-Instruct --limit 400
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from deepred_common import cli, stats
from deepred_common.data import facts, split, thing_lines, things
from deepred_common.dates import DEFAULT_CUTOFF, year_of
from deepred_common.evaluation import date_probe
from deepred_common.examples import SIDES, UNLEARN
from deepred_common.inference.local_model import LocalModel
from deepred_common.models import loading

SEED = split.SHIPPED_SEED
FEWEST_THINGS = 3000  # then twice as many, and so on


class Asked:
    """Questions with their states. rows: (question, side, name, date, fame or 0)."""

    def __init__(self, local: LocalModel, rows: Sequence[tuple[str, str, str, str | None, int]]) -> None:
        self.late = np.array([row[1] == UNLEARN for row in rows])
        self.names = np.array([row[2] for row in rows])
        self.years = np.array([year_of(row[3]) or -9999 for row in rows])
        self.fame = np.array([row[4] for row in rows])
        self.states = date_probe.question_states(local, [row[0] for row in rows])[-1]


def fact_rows(of_side: dict[str, list[facts.Fact]], limit: int | None) -> list[tuple]:
    """All wordings of the facts, fact by fact in an order drawn by SEED; at most `limit` facts of a side."""
    chosen = [(fact, side) for side in SIDES for fact in of_side[side][:limit]]
    random.Random(SEED).shuffle(chosen)
    return [(text, side, f.id, f.date, 0) for f, side in chosen for text in (f.question, *f.phrasings)]


def thing_rows(asked: dict[str, list[things.AskedThing]], limit: int | None) -> list[tuple]:
    """One question about each thing, in an order drawn by SEED; at most `limit` of a side."""
    rows = []
    for side in SIDES:
        first = {one.id: one for one in reversed(asked[side])}
        chosen = random.Random(SEED).sample(sorted(first), min(len(first), limit or len(first)))
        rows += [(first[n].question, side, n, first[n].date, first[n].thing.fame) for n in chosen]
    random.Random(SEED).shuffle(rows)
    return rows


def show(label: str, scores: np.ndarray, tried: Asked, chosen: Sequence[np.ndarray]) -> None:
    """Print a row: the AUROC of the chosen questions of `tried`, by facts or things."""
    cells = [stats.measured_auroc(scores[c], tried.late[c], tried.names[c]) for c in chosen]
    print(f"{label:<34}" + "".join(f"{c.auroc:>8.3f} [{c.low:.3f}, {c.high:.3f}]" for c in cells), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = cli.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, type=cli.model, help="folder or hub name of the base")
    parser.add_argument("--cutoff", type=cli.day, default=DEFAULT_CUTOFF, metavar="YYYY-MM-DD")
    parser.add_argument("--limit", type=cli.positive_int, help="facts and things of a side, for a quick try")
    args = parser.parse_args(argv)
    bank = facts.read_bank()
    parts = split.split(bank, args.cutoff, SEED)
    table = thing_lines.Table(things.read_things(), things.read_forms())
    table = table.without(fact.subject for fact in bank)
    tested = [f.subject for p in (split.VALIDATION, split.TEST) for side in SIDES for f in parts[p][side]]
    pairs = thing_lines.to_train(table, tested, args.cutoff, (1, 1), SEED)
    held_out = [thing for thing in table.things if thing.is_held_out]
    tokenizer, model = loading.load_tokenizer(args.base), loading.load_model(args.base, "float32")
    local = LocalModel(model, tokenizer, max_tokens=1, batch_size=32)
    bank_taught = Asked(local, fact_rows(parts[split.TRAIN], args.limit))
    tried = Asked(local, fact_rows(parts[split.TEST], args.limit))
    taught = Asked(local, thing_rows({s: [one for one, _ in pairs[s]] for s in SIDES}, args.limit))
    tried_things = Asked(
        local, thing_rows(things.ask(held_out, table.forms, args.cutoff, (1, 1), 1, SEED), args.limit)
    )

    near = np.abs(tried.years - (year_of(args.cutoff) or 0)) <= 20
    chosen = [np.ones(len(near), bool), tried.years >= 1900, near]
    count, ids = len(taught.late), list(dict.fromkeys(bank_taught.names))
    print(f"{'taught with':<34}{'all':>8}{'after 1900':>23}{'within 20 years':>28}")
    for share in date_probe.SHARES:
        first = np.isin(bank_taught.names, ids[: round(share * len(ids))])
        scores = date_probe.margins(bank_taught.states[first], bank_taught.late[first], tried.states)
        show(f"{round(share * len(ids))} facts", scores, tried, chosen)
    sizes = [size for n in range(9) if (size := FEWEST_THINGS * 2**n) < count] + [count]
    for size in sizes:
        states = np.concatenate([bank_taught.states, taught.states[:size]])
        late = np.concatenate([bank_taught.late, taught.late[:size]])
        show(f"all facts, {size} things", date_probe.margins(states, late, tried.states), tried, chosen)
    show(f"{count} things", date_probe.margins(taught.states, taught.late, tried.states), tried, chosen)
    print(f"\n{'tried on held-out things':<34}{'all':>8}{'of fame 1':>23}")
    known = [np.ones(len(tried_things.late), bool), tried_things.fame == 1]
    for size in sizes:
        scores = date_probe.margins(taught.states[:size], taught.late[:size], tried_things.states)
        show(f"{size} things", scores, tried_things, known)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
