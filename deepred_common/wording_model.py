"""A small linear model of how refusals are worded: what the rules of refusal.py miss, learnt from labelled replies.

Rules know the wordings that somebody thought of; people and models find others without end ("you've come to the wrong
fellow"). So the rules' verdict is one feature among the words of the reply, and logistic regression weighs them. It
needs no library to judge. `python -m deepred_common.wording_model` learns it anew from datasets/labelled/refusals.jsonl
and writes wording_model.json; the same data give the same weights.
"""

import functools
import itertools
import json
import math
import re
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
STRENGTH = 5.0  # inverse of the L2 penalty; it and the next chosen by cross-validation
REAL_WEIGHT = 4  # how often a model's own reply counts: most of the labelled ones are made to be hard
LEAST = 2  # replies that a run of words must stand in to be a feature


def features(text, asked, signs):
    """{feature: value} of a reply.

    text: the normalised reply. asked: the words of the question, which say nothing about the reply: they count as one.
    signs: {name: number} of what else is known of it. The runs of one and two words have value 1, scaled so that their
    squares sum to 1: a long reply has no louder voice.
    """
    words = ["<asked>" if word in asked and len(word) > 3 else "<number>" if word[0].isdigit() else word
             for word in re.findall(r"[\w']+", text)]
    runs = {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}
    return {run: 1 / math.sqrt(len(runs)) for run in runs} | {f"({name})": float(value) for name, value in signs.items()}


def probability(found, model=None):
    """How likely the reply with these features declines, 0 to 1. model: of learn(); None for the shipped one."""
    model = model or _model()
    return 1 / (1 + math.exp(-model["bias"] - sum(value * model["weights"].get(name, 0.0) for name, value in found.items())))


@functools.cache
def _model():
    return json.loads(FILE.read_text(encoding="utf-8"))


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
    cells = [(row, place[name], value) for row, (found, _) in enumerate(pairs) for name, value in found.items() if name in place]
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
    return {"bias": round(float(best[-1]), 3), "weights": {name: weight for name, weight in weights.items() if abs(weight) >= 0.05}}


def examples():
    """(rows, examples, plain): the labelled replies of the half for building, they as learn() takes them, and plain replies likewise."""
    from deepred_common import agreement, paths, records, refusal

    rows = agreement.read_labelled("refusals", agreement.BUILD)
    found = [(refusal.clues(row["reply"], row["question"]), row["label"] == refusal.REFUSED) for row in rows]
    # How refusals and answers mostly are: the shipped training lines, one of each fact.
    training = {example.metadata["source_article_id"]: example for side in records.SIDES
                for example in records.read_examples(paths.ROOT / "datasets" / paths.DATASET_FILES[f"{side}_train"], side)}
    plain = [(refusal.clues(example.output, example.instruction), example.side == records.UNLEARN) for example in training.values()]
    return rows, found, plain


def learnt(numbers, rows, found, plain):
    """The model learnt from the labelled replies with these numbers and all plain ones."""
    return learn([found[i] for i in numbers for _ in range(REAL_WEIGHT if rows[i]["kind"] == "real" else 1)] + plain)


def main(argv=None):
    """Learn from labelled and plain replies, print how well each fifth of the labelled is judged by the others, write FILE."""
    import argparse
    import random

    from deepred_common import agreement, paths

    argparse.ArgumentParser(prog="python -m deepred_common.wording_model",
                            description="Learn the refusal detector's word weights anew and write them into the package.").parse_args(argv)
    rows, found, plain = examples()
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    judged = {}
    for part in range(5):
        left_out = order[part::5]
        model = learnt([i for i in order if i not in set(left_out)], rows, found, plain)
        judged |= {i: probability(found[i][0], model) > 0.5 for i in left_out}
    for name, chosen in (("all", lambda row: True), ("replies of models", lambda row: row["kind"] == "real"),
                         *((source, lambda row, source=source: row["source"] == source)
                           for source in sorted({row["source"] for row in rows if row["kind"] != "real"}))):
        pairs = [(found[i][1], judged[i], found[i][0]["(declines by the rules)"] > 0.5) for i, row in enumerate(rows) if chosen(row)]
        by_model, by_rules = (100 * agreement.precision_recall([(pair[0], pair[k]) for pair in pairs], True)["f1"][0] for k in (1, 2))
        print(f"{name}: {len(pairs)} replies, {sum(a == b for a, b, _ in pairs)} judged as labelled, F1 {by_model:.1f} % "
              f"(the rules alone {by_rules:.1f} %)")
    model = learnt(order, rows, found, plain)
    paths.write_text(FILE, json.dumps(model, ensure_ascii=False, indent=0, sort_keys=True) + "\n")
    print(f"{len(model['weights'])} weights written to {paths.shown(FILE)}")


if __name__ == "__main__":
    main()
