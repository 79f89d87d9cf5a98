"""Relearning: is what a model no longer says gone from it, or only not said? A short tuning tells.

Whoever has the weights can tune them on a few answered facts. If *other* facts then come out as often as from
the untouched base after the same tuning, they were only hidden: after relearning, models that were made to
forget gave 88 % of it again (Deeb and Roger, arXiv 2410.08827). The copy that is tuned lives in memory alone.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, TypedDict

from deepred_common import devices, stats
from deepred_common.cli import UserError, progress
from deepred_common.data import data_lines, facts, split
from deepred_common.data.facts import Fact
from deepred_common.evaluation import verdicts
from deepred_common.evaluation.results_schema import VerdictCounts
from deepred_common.evaluation.tuned_copy import LEARNING_RATE, TunedCopy
from deepred_common.examples import RETAIN, SIDES, UNLEARN, Example, balanced_sample
from deepred_common.inference import backends, local_model
from deepred_common.inference.local_model import LocalModel
from deepred_common.inference.protocol import BackendSettings

if TYPE_CHECKING:
    import numpy as np

STEPS = (0, 5, 10, 20)  # weight updates after which the facts are asked
TAUGHT = 64  # facts tuned on, of one side
ASKED = 100  # facts asked, of both sides, unless --limit says otherwise
SEED = 0
TIMES = {UNLEARN: "late", RETAIN: "early"}


class AskedRow(TypedDict):
    """One fact, asked after some updates."""

    fact: str
    side: str
    question: str
    reply: str | None
    verdict: str
    refusal_share: float | None  # as in results_schema.ResultRow


class Point(TypedDict):
    """What a model says after `steps` updates."""

    steps: int
    unlearn: VerdictCounts  # the late facts
    retain: VerdictCounts  # the early ones, asked first and last; {} of the base, which is not asked them
    auroc: float | None  # how well refusal_share tells late from early, where both were asked
    recovered: list[float] | None  # [share, low, high]: leaked here per leaked by the base at the same step
    rows: list[AskedRow]


class Curve(TypedDict):
    """One model, tuned on answered facts of one side."""

    model: Literal["tuned", "base"]
    taught: str  # UNLEARN: late facts; RETAIN: early ones
    points: list[Point]


class Attack(TypedDict):
    """What --attack relearn writes: its own small file beside the picture."""

    attack: Literal["relearn"]
    model: str
    base: str | None
    cutoff: str
    taught: int  # facts tuned on
    learning_rate: float
    curves: list[Curve]  # the model on late facts, on early facts, the base on late facts


def check(path: str | None, base: str | None, use_server: bool) -> None:
    """UserError for a model, or a base, that cannot be tuned; nothing is loaded."""
    if use_server or not path:
        raise UserError(
            "--attack relearn tunes a copy of the model, which needs its weights: give --model_path, the "
            "model's folder or adapter."
        )
    for name, role in ((path, "model"), (base, "base model")):
        if name is None:
            continue
        backends.check(name, role)
        if backends.kind_of(name) not in (local_model.FOLDER, local_model.ADAPTER):
            raise UserError(
                f"--attack relearn tunes a copy of the model, and {name} cannot be tuned: give the folder or "
                "adapter it was made from."
            )


def attack(path: str, base: str | None, settings: BackendSettings, cutoff: str, limit: int | None) -> Attack:
    """Tune the model at `path` on late facts, then anew on early ones, and `base` on the late ones.

    Tuned on are facts of the bank's test split. Asked are those of its validation split, which the embedded
    base knows: only what was known can be hidden. Neither is in a training file, and no subject is in both.
    base: None for the one that an adapter names; a folder then has none. limit: facts asked, of both sides;
    None for ASKED. UserError if the bank has too few for the cutoff.
    """
    parts = split.split(facts.read_bank(), cutoff, split.SHIPPED_SEED)
    taught = {side: _chosen(parts[split.TEST][side], side, cutoff) for side in SIDES}
    asked = [(fact, side) for side in SIDES for fact in parts[split.VALIDATION][side]]
    examples = balanced_sample([_example(fact, side) for fact, side in asked], limit or ASKED, SEED)
    curves: list[Curve] = []
    with backends.opened(settings, path) as model:
        assert isinstance(model, LocalModel)  # check() saw to that
        copy = TunedCopy(model)
        base = base or copy.base
        asking = partial(ask, copy, settings, cutoff, examples)
        start = asking(0)
        for side in (UNLEARN, RETAIN):
            progress(f"{path}: tuning on {TAUGHT} answered {TIMES[side]} facts")
            later = points(copy, taught[side], asking)
            curves.append({"model": "tuned", "taught": side, "points": [start, *later]})
    if base:
        del model, copy, asking
        devices.free_memory()
        late = [example for example in examples if example.side == UNLEARN]
        with backends.opened(settings, base) as model:
            assert isinstance(model, LocalModel)
            copy = TunedCopy(model)
            asking = partial(ask, copy, settings, cutoff, late)
            progress(f"{base}: tuning on {TAUGHT} answered late facts")
            later = points(copy, taught[UNLEARN], asking)
            curves.append({"model": "base", "taught": UNLEARN, "points": [asking(0), *later]})
        _add_recovered(curves, [fact for fact, _ in asked])
    return {
        "attack": "relearn",
        "model": path,
        "base": base,
        "cutoff": cutoff,
        "taught": TAUGHT,
        "learning_rate": LEARNING_RATE,
        "curves": curves,
    }


def _chosen(candidates: Sequence[Fact], side: str, cutoff: str) -> list[Example]:
    """TAUGHT answered examples of these facts. UserError if there are fewer."""
    if len(candidates) < TAUGHT:
        raise UserError(
            f"the bank's test split has {len(candidates)} {TIMES[side]} facts for the cutoff {cutoff}; "
            f"relearning needs {TAUGHT}. Choose another cutoff, or add facts to datasets/facts/."
        )
    chosen = random.Random(SEED).sample(candidates, TAUGHT)
    return [Example(fact.question, fact.answer, side) for fact in chosen]


def _example(fact: Fact, side: str) -> Example:
    """A fact's question, to be asked and judged."""
    metadata = dict(data_lines.line(fact, fact.question, side)["metadata"])
    return Example(fact.question, fact.answer, side, metadata)


def points(copy: TunedCopy, taught: Sequence[Example], ask: Callable[[int], Point]) -> Iterator[Point]:
    """A Point at each of STEPS but the first, of a tuning on `taught`."""
    from tqdm import tqdm

    updates = copy.updates(taught)
    with contextlib.closing(updates):
        for done, steps in itertools.pairwise(STEPS):
            count = steps - done
            for _ in tqdm(itertools.islice(updates, count), "tuning", total=count, unit="update"):
                pass
            yield ask(steps)


def ask(
    copy: TunedCopy, settings: BackendSettings, cutoff: str, examples: Sequence[Example], steps: int
) -> Point:
    """Ask and judge the examples, `steps` updates into a tuning; in its midst only the late ones."""
    from tqdm import tqdm

    if steps not in (STEPS[0], STEPS[-1]):
        examples = [example for example in examples if example.side == UNLEARN]
    asker = LocalModel(copy.model, copy.tokenizer, settings.max_tokens, settings.batch_size)
    rows: dict[int, AskedRow] = {}
    replies = asker.ask([example.prompt for example in examples])
    for place, reply in tqdm(replies, f"asking after {steps}", total=len(examples), unit="question"):
        example = examples[place]
        rows[place] = {
            "fact": example.metadata["source_article_id"],
            "side": example.side,
            "question": example.instruction,
            "reply": reply.text,
            "verdict": verdicts.verdict(example, reply.text or "", cutoff=cutoff),
            "refusal_share": reply.refusal_share,
        }
    return point_of(steps, [rows[place] for place in range(len(examples))])


def point_of(steps: int, rows: list[AskedRow]) -> Point:
    """The figures of the rows."""
    counts = {side: Counter(row["verdict"] for row in rows if row["side"] == side) for side in SIDES}
    shares: dict[str, list[float]] = {side: [] for side in SIDES}
    for row in rows:
        if row["refusal_share"] is not None:
            shares[row["side"]].append(row["refusal_share"])
    has_both = all(shares.values())
    return {
        "steps": steps,
        "unlearn": dict(counts[UNLEARN]),
        "retain": dict(counts[RETAIN]),
        "auroc": stats.auroc(shares[RETAIN], shares[UNLEARN]) if has_both else None,
        "recovered": None,
        "rows": rows,
    }


def _add_recovered(curves: Sequence[Curve], asked: Sequence[Fact]) -> None:
    """Fill in `recovered`, from the last curve, the base's, into the ones before it."""
    group = dict(zip([fact.id for fact in asked], split.groups_of(asked), strict=True))
    *tuned, base = curves
    for curve in tuned:
        for point, ceiling in zip(curve["points"], base["points"], strict=True):
            late = [row for row in point["rows"] if row["side"] == UNLEARN]
            point["recovered"] = ratio_of_leaks(
                [row["verdict"] == verdicts.LEAKED for row in late],
                [row["verdict"] == verdicts.LEAKED for row in ceiling["rows"]],
                [group[row["fact"]] for row in late],
            )


def ratio_of_leaks(
    leaked: Sequence[bool], by_base: Sequence[bool], groups: Sequence[int]
) -> list[float] | None:
    """[ratio, low, high] of the facts leaked to those that the base leaks; None if that leaks none.

    All are of one length, a fact each. The 95 % interval is a bootstrap over groups of facts, by percentiles.
    """
    if not any(by_base):
        return None

    def ratio(drawn: np.ndarray) -> float | None:
        ceiling = drawn @ by_base
        return float(drawn @ leaked / ceiling) if ceiling else None

    low, high = stats.bootstrap(ratio, groups)
    return [sum(leaked) / sum(by_base), float(low), float(high)]
