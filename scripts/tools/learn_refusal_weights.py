#!/usr/bin/env python3
"""Learn the refusal detector's word weights anew from datasets/labelled/refusals.jsonl and write judging/refusal_weights.json.

    python scripts/tools/learn_refusal_weights.py

The same data give the same weights.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from deepred_common.judging.refusal_weights import FILE, probability

STRENGTH = 5.0  # inverse of the L2 penalty; it and the next chosen by cross-validation
REAL_WEIGHT = 4  # how often a model's own reply counts: most of the labelled ones are made to be hard
LEAST = 2  # replies that a run of words must stand in to be a feature


def learn(pairs):
    """{"bias", "weights"} from [(features, declines)]: logistic regression with an L2 penalty, by L-BFGS."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix

    counts = {}
    for found, _ in pairs:
        for name in found:
            counts[name] = counts.get(name, 0) + 1
    names = sorted(name for name, count in counts.items() if count >= LEAST)
    place = {name: i for i, name in enumerate(names)}
    cells = [
        (row, place[name], value)
        for row, (found, _) in enumerate(pairs)
        for name, value in found.items()
        if name in place
    ]
    rows, columns, values = zip(*cells, strict=True)
    matrix = csr_matrix((values, (rows, columns)), shape=(len(pairs), len(names)))
    wanted = np.array([1.0 if declines else -1.0 for _, declines in pairs])

    def cost(weights):
        margins = wanted * (matrix @ weights[:-1] + weights[-1])
        pull = -wanted / (1 + np.exp(margins))
        gradient = np.append(STRENGTH * (matrix.T @ pull) + weights[:-1], STRENGTH * pull.sum())
        return STRENGTH * np.logaddexp(0, -margins).sum() + weights[:-1] @ weights[:-1] / 2, gradient

    best = minimize(cost, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    weights = {name: round(float(weight), 3) for name, weight in zip(names, best[:-1], strict=True)}
    return {
        "bias": round(float(best[-1]), 3),
        "weights": {name: weight for name, weight in weights.items() if abs(weight) >= 0.05},
    }


def examples():
    """(rows, examples, plain): the labelled replies of the half for building, they as learn() takes them, and plain replies likewise."""
    from deepred_common import paths
    from deepred_common.examples import SIDES, UNLEARN, read_examples
    from deepred_common.judging import labelled, refusal

    rows = labelled.read_labelled("refusals", labelled.BUILD)
    found = [(refusal.clues(row["reply"], row["question"]), row["label"] == refusal.REFUSED) for row in rows]
    # How refusals and answers mostly are: the shipped training lines, one of each fact.
    training = {
        example.metadata["source_article_id"]: example
        for side in SIDES
        for example in read_examples(paths.ROOT / "datasets" / paths.DATASET_FILES[f"{side}_train"], side)
    }
    plain = [
        (refusal.clues(example.output, example.instruction), example.side == UNLEARN)
        for example in training.values()
    ]
    return rows, found, plain


def learnt(numbers, rows, found, plain):
    """The model learnt from the labelled replies with these numbers and all plain ones."""
    return learn(
        [found[i] for i in numbers for _ in range(REAL_WEIGHT if rows[i]["kind"] == "real" else 1)] + plain
    )


def main(argv=None):
    """Learn from labelled and plain replies, print how well each fifth of the labelled is judged by the others, write FILE."""
    import random

    from deepred_common import cli, paths
    from deepred_common.files import write_text
    from deepred_common.judging import labelled

    cli.Parser(
        prog="python scripts/tools/learn_refusal_weights.py",
        description="Learn the refusal detector's word weights anew and write them into the package.",
    ).parse_args(argv)
    rows, found, plain = examples()
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    judged = {}
    for part in range(5):
        left_out = order[part::5]
        model = learnt([i for i in order if i not in set(left_out)], rows, found, plain)
        judged |= {i: probability(found[i][0], model) > 0.5 for i in left_out}
    for name, chosen in (
        ("all", lambda row: True),
        ("replies of models", lambda row: row["kind"] == "real"),
        *(
            (source, lambda row, source=source: row["source"] == source)
            for source in sorted({row["source"] for row in rows if row["kind"] != "real"})
        ),
    ):
        pairs = [
            (found[i][1], judged[i], found[i][0]["(declines by the rules)"] > 0.5)
            for i, row in enumerate(rows)
            if chosen(row)
        ]
        by_model, by_rules = (
            100 * labelled.precision_recall([(pair[0], pair[k]) for pair in pairs], True)["f1"][0]
            for k in (1, 2)
        )
        print(
            f"{name}: {len(pairs)} replies, {sum(a == b for a, b, _ in pairs)} judged as labelled, F1 {by_model:.1f} % "
            f"(the rules alone {by_rules:.1f} %)"
        )
    model = learnt(order, rows, found, plain)
    write_text(FILE, json.dumps(model, ensure_ascii=False, indent=0, sort_keys=True) + "\n")
    print(f"{len(model['weights'])} weights written to {paths.shown(FILE)}")


if __name__ == "__main__":
    main()
