#!/usr/bin/env python3
"""Learn the refusal detector's word weights from datasets/labelled/refusals.jsonl.

Writes deepred_common/judging/refusal_weights.json. The same data give the same weights.

    python scripts/tools/learn_refusal_weights.py
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from deepred_common import cli, paths
from deepred_common.examples import SIDES, UNLEARN, read_examples
from deepred_common.files import write_text
from deepred_common.judging import labelled, refusal
from deepred_common.judging.refusal_weights import FILE, WeightModel, probability

Sample = tuple[dict[str, float], bool]  # the features of a reply, and whether it declines

STRENGTH = 5.0  # inverse of the L2 penalty; it and the next were chosen by cross-validation
REAL_WEIGHT = 4  # how often a model's own reply counts: most of the labelled ones are made up to be hard
LEAST = 2  # replies that a run of words must stand in to be a feature
SMALLEST_WEIGHT = 0.05  # weights below it are not kept
FOLDS = 5


def learn(samples: Sequence[Sample]) -> WeightModel:
    """Logistic regression with an L2 penalty, by L-BFGS."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix

    counts = Counter(name for values, _ in samples for name in values)
    names = sorted(name for name, count in counts.items() if count >= LEAST)
    place = {name: i for i, name in enumerate(names)}
    cells = [
        (row, place[name], value)
        for row, (values, _) in enumerate(samples)
        for name, value in values.items()
        if name in place
    ]
    rows, columns, entries = zip(*cells, strict=True)
    matrix = csr_matrix((entries, (rows, columns)), shape=(len(samples), len(names)))
    wanted = np.array([1.0 if declines else -1.0 for _, declines in samples])

    def cost(weights: Any) -> tuple[float, Any]:
        margins = wanted * (matrix @ weights[:-1] + weights[-1])
        pull = -wanted / (1 + np.exp(margins))
        gradient = np.append(STRENGTH * (matrix.T @ pull) + weights[:-1], STRENGTH * pull.sum())
        return STRENGTH * np.logaddexp(0, -margins).sum() + weights[:-1] @ weights[:-1] / 2, gradient

    best = minimize(cost, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    weights = {name: round(float(weight), 3) for name, weight in zip(names, best[:-1], strict=True)}
    return {
        "bias": round(float(best[-1]), 3),
        "weights": {name: weight for name, weight in weights.items() if abs(weight) >= SMALLEST_WEIGHT},
    }


def read_samples() -> tuple[list[dict[str, Any]], list[Sample], list[Sample]]:
    """(labelled replies of the half "build", these as samples, plain replies as samples)."""
    rows = labelled.read_labelled("refusals", labelled.BUILD)
    hard = [(refusal.clues(row["reply"], row["question"]), row["label"] == refusal.REFUSED) for row in rows]
    # How refusals and answers mostly are: the shipped training examples, one of each fact.
    training = {}
    for side in SIDES:
        file = paths.ROOT / "datasets" / paths.DATASET_FILES[f"{side}_train"]
        training.update({one.metadata["source_article_id"]: one for one in read_examples(file, side)})
    plain = [(refusal.clues(one.output, one.instruction), one.side == UNLEARN) for one in training.values()]
    return rows, hard, plain


def learned_from(
    numbers: Iterable[int], rows: Sequence[dict[str, Any]], hard: Sequence[Sample], plain: Sequence[Sample]
) -> WeightModel:
    """The model learned from the labelled replies with these numbers and from all plain ones."""
    samples: list[Sample] = []
    for number in numbers:
        samples += [hard[number]] * (REAL_WEIGHT if rows[number]["kind"] == "real" else 1)
    return learn([*samples, *plain])


def print_scores(name: str, triples: Sequence[tuple[bool, bool, bool]]) -> None:
    """One line of figures. triples: (declines as labelled, as judged by the model, by the rules alone)."""
    agreed = sum(label == judged for label, judged, _ in triples)
    by_model = labelled.precision_recall([(label, judged) for label, judged, _ in triples], True)["f1"][0]
    by_rules = labelled.precision_recall([(label, ruled) for label, _, ruled in triples], True)["f1"][0]
    print(
        f"{name}: {len(triples)} replies, {agreed} judged as labelled, F1 {100 * by_model:.1f} % "
        f"(the rules alone {100 * by_rules:.1f} %)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print how well each fifth of the labelled replies is judged by the others, then learn and write all."""
    cli.Parser(
        prog="python scripts/tools/learn_refusal_weights.py",
        description="Learn the refusal detector's word weights and write them into the package.",
    ).parse_args(argv)
    rows, hard, plain = read_samples()
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    judged: dict[int, bool] = {}
    for fold in range(FOLDS):
        tried = order[fold::FOLDS]
        model = learned_from([i for i in order if i not in set(tried)], rows, hard, plain)
        judged |= {i: probability(hard[i][0], model) > 0.5 for i in tried}
    groups: dict[str, list[tuple[bool, bool, bool]]] = {"all": []}
    for i, row in enumerate(rows):
        triple = (hard[i][1], judged[i], hard[i][0]["(declines by the rules)"] > 0.5)
        group = "replies of models" if row["kind"] == "real" else row["source"]
        for name in ("all", group):
            groups.setdefault(name, []).append(triple)
    for name, triples in groups.items():
        print_scores(name, triples)
    model = learned_from(order, rows, hard, plain)
    write_text(FILE, json.dumps(model, ensure_ascii=False, indent=0, sort_keys=True) + "\n")
    print(f"{len(model['weights'])} weights written to {paths.shown(FILE)}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
