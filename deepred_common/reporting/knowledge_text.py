"""The printed lines about what a model knows behind its words."""

from __future__ import annotations

from deepred_common.evaluation.results_schema import Knowledge, Results
from deepred_common.examples import RETAIN, UNLEARN
from deepred_common.reporting import number_text

_TITLES = {RETAIN: "before the cutoff", UNLEARN: "after the cutoff"}


def text(results: Results) -> str:
    """How often the true answer of four is the likeliest, and by how much, with baselines; "" without scores.

    By period the same stands in the results file only.
    """
    own = results["knowledge"]
    if not own:
        return ""
    lines = [
        "  Behind the words (four answers by probability; a model that knows nothing is at 25%;",
        "  difference: log-likelihood of true less false statements, nats a token):",
    ]
    columns = {"": own} | {one["label"]: one["knowledge"] for one in results["baselines"] if one["knowledge"]}
    for label, knowledge in columns.items():
        lines += _lines(knowledge, f"  {label}" if label else "")
    return "\n".join(lines)


def _lines(knowledge: Knowledge, label: str) -> list[str]:
    return [
        f"  {_TITLES[side]:<18} true one likeliest {one['likeliest']} of {one['facts']} "
        f"({100 * one['likeliest'] / one['facts']:.0f}%), difference {_signed(one['difference'])} "
        f"[{_signed(one['low'])}, {_signed(one['high'])}]{label}"
        for side, one in knowledge["sides"].items()
    ]


def _signed(value: float | None) -> str:
    return number_text.NO_VALUE if value is None else f"{value:+.2f}"
