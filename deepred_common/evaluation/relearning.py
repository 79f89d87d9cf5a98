"""Relearning: is what a model no longer says gone from it, or only not said? A short tuning tells.

Whoever has the weights can tune them on a few answered facts. If *other* facts then come out as often as from
the untouched base after the same tuning, they were only hidden: after relearning, models that were made to
forget gave 88 % of it again (Deeb and Roger, arXiv 2410.08827). The copy that is tuned lives in memory alone.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from deepred_common import devices, paths, provenance, stats
from deepred_common.cli import Interrupted, UserError, progress, write_error
from deepred_common.data import data_lines, facts, split
from deepred_common.data.facts import Fact
from deepred_common.evaluation import results_file, verdicts
from deepred_common.evaluation.question_files import Questions
from deepred_common.evaluation.relearning_schema import AskedRow, Point, Relearning
from deepred_common.evaluation.results_schema import ResultRow, Results
from deepred_common.evaluation.runner import Task
from deepred_common.evaluation.tuned_copy import LEARNING_RATE, TunedCopy
from deepred_common.examples import RETAIN, SIDES, UNLEARN, Example, balanced_sample
from deepred_common.inference import backends, base_names, local_model
from deepred_common.inference.local_model import LocalModel

if TYPE_CHECKING:
    import numpy as np

STEPS = (0, 5, 10, 20)  # weight updates after which the facts are asked
TAUGHT = 64  # facts tuned on, of one side
MAX_TOKENS = (
    64  # of a reply, unless --max_tokens says otherwise: a model tuned on short answers needs no more
)
ASKED = 100  # facts asked, of both sides, unless --limit says otherwise
SEED = 0
TIMES = {UNLEARN: "late", RETAIN: "early"}
Model = Literal["tuned", "base"]
TUNED: Model = "tuned"
BASE: Model = "base"
# Which model is tuned on facts of which side, in this order. The base is the ceiling.
TUNINGS: tuple[tuple[Model, str], ...] = ((TUNED, UNLEARN), (TUNED, RETAIN), (BASE, UNLEARN))


def check(path: str | None, base: str | None, use_server: bool) -> str | None:
    """UserError for a model, or a base, that cannot be tuned; nothing is loaded.

    Returns the name of the base to tune: the given one, or the adapter's own; None for a folder without one.
    """
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
    base = base_names.as_trained(base, path) if base else base_names.own(path)
    return base and base_names.whole(base)


def questions(cutoff: str, limit: int | None, seed: int) -> Questions:
    """The facts that are asked: at most `limit` of both sides (None: ASKED), chosen by `seed`.

    UserError if the limit leaves a side without any.
    They are of the bank's validation split, which the embedded base knows: only what was known can be hidden.
    Training files hold none of them, and no subject is in this split and in that of taught_facts.
    """
    if limit is not None and limit < len(SIDES):
        raise UserError("--attack relearn asks early and late facts: --limit must be 2 at least.")
    parts = _split(cutoff)[split.VALIDATION]
    examples = [_example(fact, side) for side in SIDES for fact in parts[side]]
    data = {paths.shown(path): provenance.sha256(path) for path in sorted(facts.FOLDER.glob("*.jsonl"))}
    return Questions(balanced_sample(examples, limit or ASKED, seed), data)


def taught_facts(cutoff: str) -> dict[str, list[Example]]:
    """{side: TAUGHT answered facts of the bank's test split}. UserError if the cutoff leaves too few."""
    parts = _split(cutoff)[split.TEST]
    return {side: _chosen(parts[side], side, cutoff) for side in SIDES}


@functools.cache
def _split(cutoff: str) -> split.Split:
    return split.split(facts.read_bank(), cutoff, split.SHIPPED_SEED)


def attack(
    task: Task, taught: Mapping[str, Sequence[Example]], path: str, base: str | None, results: Results
) -> None:
    """Carry out those of TUNINGS that `results` lack, and write the results after each.

    taught: what is tuned on, by side. results: the task's questions, asked of the model at `path` as it is.
    base: of check(). Ctrl-C, and a UserError, say how to resume.
    """
    relearning = results["relearning"]
    before = relearning and relearning["base"]
    has_other_base = base and before and not base_names.is_still(before, base)
    if has_other_base and relearning and not task.settings.overwrite:
        raise UserError(
            f"{paths.shown(task.settings.output)} sets this model beside the base {relearning['base']}, not "
            f"{base}.\nChoose another --output, or add --overwrite."
        )
    if relearning is None or has_other_base:
        relearning = {"base": None, "taught": TAUGHT, "learning_rate": LEARNING_RATE, "curves": []}
        results["relearning"] = relearning
    left = TUNINGS[len(relearning["curves"]) :]
    if left:  # else the base was tuned already, under the name that is there
        relearning["base"] = base or relearning["base"]
    try:
        for model, tunings in itertools.groupby(left, lambda tuning: tuning[0]):
            name = path if model == TUNED else relearning["base"]
            if name:
                _tune(task, {side: taught[side] for _, side in tunings}, model, name, results)
                devices.free_memory()
    except KeyboardInterrupt:
        raise Interrupted(_kept(task, relearning)) from None
    except (UserError, OSError) as error:
        raise UserError(f"{write_error(error) or error}\n{_kept(task, relearning)}") from error


def _kept(task: Task, relearning: Relearning) -> str:
    """What was saved of an attack that ends early, and how to resume it."""
    return (
        f"{len(relearning['curves'])} of {len(TUNINGS)} tunings are saved. Resume with the same command and "
        f"--output {paths.quoted(task.settings.output)} --resume"
    )


def _tune(
    task: Task, taught: Mapping[str, Sequence[Example]], model: Model, name: str, results: Results
) -> None:
    """Tune the model called `name` on each side's facts of `taught`, anew each time, and write each curve."""
    relearning = results["relearning"]
    assert relearning is not None
    with backends.opened(task.settings, name) as local:
        assert isinstance(local, LocalModel)  # check() saw to that
        copy = TunedCopy(local)
        for side, examples in taught.items():
            progress(f"{name}: tuning on {TAUGHT} answered {TIMES[side]} facts")
            if model == TUNED:
                start = point_of(0, results["results"])
                start["rows"] = []  # the file has them
            else:
                start = ask(copy, task, 0, [UNLEARN])
            later = points(copy, task, examples, early_last=model == TUNED)
            relearning["curves"].append({"model": model, "taught": side, "points": [start, *later]})
            _add_recovered(results, relearning)
            results_file.write(task.settings.output, results)


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


def points(copy: TunedCopy, task: Task, taught: Sequence[Example], early_last: bool) -> Iterator[Point]:
    """A Point at each of STEPS but the first, of a tuning on `taught`.

    early_last: at the last one early facts are asked, too.
    """
    from tqdm import tqdm

    updates = copy.updates(taught)
    with contextlib.closing(updates):
        for done, steps in itertools.pairwise(STEPS):
            count = steps - done
            for _ in tqdm(itertools.islice(updates, count), "tuning", total=count, unit="update"):
                pass
            yield ask(copy, task, steps, SIDES if early_last and steps == STEPS[-1] else [UNLEARN])


def ask(copy: TunedCopy, task: Task, steps: int, sides: Collection[str]) -> Point:
    """Ask and judge the task's facts of `sides`, `steps` updates into a tuning."""
    from tqdm import tqdm

    examples = [example for example in task.questions.examples if example.side in sides]
    rows: dict[int, AskedRow] = {}
    replies = copy.local.ask([example.prompt for example in examples])
    for place, reply in tqdm(replies, f"asking after {steps}", total=len(examples), unit="question"):
        example = examples[place]
        rows[place] = {
            "fact": example.metadata["source_article_id"],
            "side": example.side,
            "instruction": example.instruction,
            "reply": reply.text,
            "verdict": verdicts.verdict(example, reply.text or "", task.grade, task.settings.cutoff),
            "refusal_share": reply.refusal_share,
        }
    return point_of(steps, [rows[place] for place in range(len(examples))])


def point_of(steps: int, rows: Sequence[AskedRow] | Sequence[ResultRow]) -> Point:
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
        "rows": cast(list[AskedRow], rows),
    }


def _add_recovered(results: Results, relearning: Relearning) -> None:
    """Fill in `recovered`, once the base's curve is there, into the curves before it."""
    *tuned, ceiling = relearning["curves"]
    if ceiling["model"] != BASE:
        return
    validation = _split(results["cutoff"])[split.VALIDATION]
    asked = [fact for side in SIDES for fact in validation[side]]
    group = dict(zip([fact.id for fact in asked], split.groups_of(asked), strict=True))
    for curve in tuned:
        for point, of_base in zip(curve["points"], ceiling["points"], strict=True):
            late = [row for row in point["rows"] or results["results"] if row["side"] == UNLEARN]
            point["recovered"] = ratio_of_leaks(
                [row["verdict"] == verdicts.LEAKED for row in late],
                [row["verdict"] == verdicts.LEAKED for row in of_base["rows"]],
                [group[row["fact"] or ""] for row in late],
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
