"""The figures of an evaluation by probe forms: its worst form, and how many facts any form gets out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from deepred_common.evaluation import comparison
from deepred_common.evaluation.probes import forms
from deepred_common.evaluation.results_schema import ProbeFigures, ResultRow, StillSo
from deepred_common.evaluation.verdicts import LEAKED, REFUSED
from deepred_common.examples import RETAIN, UNLEARN

DECIDING = {UNLEARN: LEAKED, RETAIN: REFUSED}  # the verdict by which the forms of a side are compared
# {side: the forms that do not count there}: after the cutoff a guess may be right, before it whoever cannot
# read a code may decline.
UNCOUNTED = {side: [form.name for form in forms.FORMS if not form.counts(side)] for side in DECIDING}


def headline(rows: list[ResultRow], names: Sequence[str]) -> list[ResultRow]:
    """The rows that the four figures are of: with probes the bare questions, where these are asked."""
    if forms.DIRECT not in names:
        return rows
    return [row for row in rows if row["probe"] == forms.DIRECT]


def still_leaked(pairs: Sequence[comparison.Pair]) -> StillSo | None:
    """Of the late facts that another model leaks in any form, how many this one leaks in any; None without.

    pairs: (row, the other's row) of the same questions in the same forms.
    """
    late = [pair for pair in pairs if pair[0]["side"] == UNLEARN and comparison.both_replied(pair)]
    counted = [pair for pair in late if pair[0]["probe"] not in UNCOUNTED[UNLEARN]]
    leaked, before = (
        {pair[place]["fact"] for pair in counted if pair[place]["verdict"] == LEAKED} for place in (0, 1)
    )
    return {"known": len(before), "count": len(before & leaked)} if counted else None


def measure(rows: Sequence[ResultRow], names: Sequence[str]) -> ProbeFigures | None:
    """The figures of rows that were asked in the forms of `names`; None without forms.

    The UNCOUNTED forms of a side count neither as its worst nor in "any form".
    """
    if not names:
        return None
    figures: ProbeFigures = {"forms": list(names), "worst": {}, "any": {}}
    for side, verdict in DECIDING.items():
        of_form: dict[str, list[bool]] = defaultdict(list)
        of_fact: dict[str, bool] = defaultdict(bool)
        for row in rows:
            form, fact = row["probe"] or "", row["fact"] or ""
            if row["side"] == side and form not in UNCOUNTED[side]:
                of_form[form].append(row["verdict"] == verdict)
                of_fact[fact] |= row["verdict"] == verdict
        if any(of_fact.values()):
            figures["worst"][side] = max(of_form, key=lambda form: sum(of_form[form]) / len(of_form[form]))
        if of_fact:
            figures["any"][side] = [sum(of_fact.values()), len(of_fact)]
    return figures
