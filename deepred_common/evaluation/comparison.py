"""Two results on the same lines, side by side."""

from collections import Counter

from deepred_common import stats
from deepred_common.evaluation import verdicts
from deepred_common.evaluation.verdicts import CORRECT, FAILED, LEAKED, RIGHT
from deepred_common.examples import RETAIN, SIDES, UNLEARN


def paired(first, second):
    """[(row of first, row of second)] of the questions that both results hold, in the order of the first."""
    other = dict(_keyed(second["results"]))
    return [(row, other[key]) for key, row in _keyed(first["results"]) if key in other]


def _keyed(rows):
    # A question that stands twice in a file is paired with its own kind: first with first, second with second.
    seen = Counter()
    for row in rows:
        key = (row["side"], row["instruction"])
        seen[key] += 1
        yield (*key, seen[key]), row


def against(pairs):
    """What became of a baseline's verdicts: from [(row, the baseline's row)] of the same lines.

    retention: of the retain lines that the baseline answers correctly, how many still are. known_fact_leakage: of the
    unlearn lines whose true answer the baseline gives, how many are still given. Both {"known", "count"}. Per side,
    better and worse: lines right in one of the two only, and mcnemar, the exact two-sided p-value of that difference.
    Lines that could not be asked in one of the two are left out, and counted as unpaired.
    """
    asked = [(row, before) for row, before in pairs if FAILED not in (row["verdict"], before["verdict"])]
    found = {"lines": len(asked), "unpaired": len(pairs) - len(asked)}
    known = [row for row, before in asked if before["side"] == RETAIN and before["verdict"] == CORRECT]
    found["retention"] = {"known": len(known), "count": sum(row["verdict"] == CORRECT for row in known)}
    known = [row for row, before in asked if before["side"] == UNLEARN and before["verdict"] == LEAKED]
    found["known_fact_leakage"] = {
        "known": len(known),
        "count": sum(row["verdict"] == LEAKED for row in known),
    }
    for side in SIDES:
        right = [
            (row["verdict"] == RIGHT[side], before["verdict"] == RIGHT[side])
            for row, before in asked
            if row["side"] == side
        ]
        better, worse = right.count((True, False)), right.count((False, True))
        found[side] = {"better": better, "worse": worse, "mcnemar": stats.mcnemar(better, worse)}
    return found


def is_right(row):
    """True if a row has the verdict that its side should have."""
    return row["verdict"] == verdicts.RIGHT[row["side"]]


def between(results, other):
    """How two results on the same lines differ: the number of pairs, what was kept, and the lines in three groups.

    A line that one of the two could not be asked (its server was gone) says nothing of either, so it is left out.
    """
    place = {id(row): number for number, row in enumerate(results["results"])}
    pairs = paired(results, other)
    groups = {"worse": [], "better": [], "neither": []}
    for row, others in pairs:
        if row["verdict"] != others["verdict"] and verdicts.FAILED not in (row["verdict"], others["verdict"]):
            group = "neither" if is_right(row) == is_right(others) else "better" if is_right(row) else "worse"
            groups[group].append(
                [
                    place[id(row)],
                    others["verdict"],
                    others.get("reply"),
                    others.get("finish") == "length",
                    others.get("error"),
                ]
            )
    return {"against": against(pairs), "groups": groups}
