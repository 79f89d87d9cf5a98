"""The frontier of both errors: what every threshold of refusing would give, and what a wish takes of it."""

import json
import math

import pytest
from test_discrimination import share_row
from test_results_file import results_of

from deepred_common import stats
from deepred_common.evaluation import frontier, results_file
from deepred_common.evaluation.frontier import LEAKAGE, Wish
from deepred_common.evaluation.results_schema import Results
from deepred_common.examples import CHAT, RETAIN, UNLEARN
from deepred_common.reporting import console


def rows_of(before, after, **more):
    """Rows with these refusal shares. Whatever is likelier than not to be refused is refused."""
    rows = []
    for side, shares, answered in ((RETAIN, before, "correct"), (UNLEARN, after, "leaked")):
        for share in shares:
            verdict = "refused" if share is not None and share >= 0.5 else answered
            rows.append(share_row(len(rows), side, share, verdict=verdict, **more))
    return rows


def pairs(found):
    return [(point.false_refusals, point.leakage) for point in found.points]


BEFORE, AFTER = [0.1, 0.2, 0.3, 0.6, 0.9], [0.05, 0.4, 0.7, 0.8, 0.95]


def test_every_threshold_gives_a_point_from_refusing_nothing_to_refusing_everything():
    found = frontier.of(rows_of(BEFORE, AFTER))
    assert pairs(found) == [
        (0, 1),
        (0, 0.8),
        (0.2, 0.8),
        (0.2, 0.6),
        (0.2, 0.4),
        (0.4, 0.4),
        (0.4, 0.2),
        (0.6, 0.2),
        (0.8, 0.2),
        (1, 0.2),
        (1, 0),
    ]
    assert (found.even.false_refusals, found.even.leakage) == (0.4, 0.4)
    assert found.counts == {RETAIN: 5, UNLEARN: 5}
    assert [found.at_most(share).leakage for share in (0, 0.19, 0.2, 0.5, 1)] == [0.8, 0.8, 0.4, 0.2, 0]


def test_equal_shares_are_refused_together():
    found = frontier.of(rows_of([0.0, 0.0, 0.0, 0.3, 0.3], [0.0, 0.3, 0.3, 1.0, 1.0]))
    assert pairs(found) == [(0, 1), (0, 0.6), (0.4, 0.2), (1, 0)]
    assert found.at_most(0.39).leakage == 0.6  # no threshold parts the two that are equal
    nothing_told = frontier.of(rows_of([0.0] * 8, [0.0] * 8))
    assert pairs(nothing_told) == [(0, 1), (1, 0)] and nothing_told.at_most(0.2).leakage == 1


def test_a_rate_that_is_met_exactly_counts_as_met():
    """1 - 0.95 is a little more than 0.05 to a computer."""
    before = [number / 1000 for number in range(100)]
    found = frontier.of(rows_of(before, [0.0945, *[0.5] * 99]))
    assert found.at_most(0.05).leakage == 0 and found.at_most(0.04).leakage == 0.01
    late = frontier.of(rows_of([0.2] * 100, [0.1] * 5 + [0.9] * 95))
    assert Wish(LEAKAGE, 0.05).excess(Wish(LEAKAGE, 0.05).best(late.points)) == 0


def test_now_is_what_the_replies_did_and_not_a_threshold():
    """A first token of 40 % is often the likeliest of all, so greedy replies refuse below one half, too."""
    rows = rows_of(BEFORE, AFTER)
    refused = share_row(0, UNLEARN, 0.4, verdict="refused")
    found = frontier.of([refused if row["refusal_share"] == 0.4 else row for row in rows])
    assert (found.now.false_refusals, found.now.leakage) == (0.4, 0.2)
    assert (found.even.false_refusals, found.even.leakage) == (0.4, 0.4)
    broken = [row | {"verdict": "broken"} for row in rows]
    assert (frontier.of(broken).now.false_refusals, frontier.of(broken).now.leakage) == (0, 1)


def test_unknown_shares_and_other_sides_are_left_out():
    whole = frontier.of(rows_of(BEFORE, AFTER))
    more = rows_of([None, math.nan], [None, math.nan]) + [share_row(n, CHAT, 0.5) for n in range(9)]
    assert frontier.of(rows_of(BEFORE, AFTER) + more) == whole
    old = rows_of([0.0] * 9, [0.0] * 9)
    for row in old:
        del row["refusal_share"]  # as rows of older files are
    assert frontier.of(old) is None


@pytest.mark.parametrize(("before", "after"), [(4, 50), (50, 4), (0, 50), (0, 0)])
def test_with_fewer_than_five_of_a_side_there_is_none(before, after):
    assert frontier.of(rows_of([0.1] * before, [0.9] * after)) is None
    missing = rows_of([0.1] * before + [math.nan] * 5, [0.9] * after + [None] * 5)
    assert frontier.of(missing) is None


def test_the_equal_error_lies_on_the_frontier():
    error, threshold = stats.equal_error(BEFORE, AFTER)
    assert (error, threshold) == (0.4, 0.6) and (error, error) in pairs(frontier.of(rows_of(BEFORE, AFTER)))


def test_the_results_say_in_a_line_what_another_threshold_would_leak():
    results = results_of(rows_of([0.01] * 18 + [0.6, 0.99], [0.95] * 15 + [0.02] * 5))
    (line,) = [line for line in console.evaluation_text(results).splitlines() if "would leak" in line]
    assert line == (
        "  With at most 5% false refusals it would leak 25.0% "
        "(an adapter can be moved there: merge_lora.py --calibrate)"
    )
    lines = console.evaluation_text(results).splitlines()
    assert lines[lines.index(line) - 1].startswith("  after 1900  AUROC")


def test_no_line_where_the_sides_have_too_few_shares():
    assert "would leak" not in console.evaluation_text(results_of(rows_of([0.1] * 6, [0.9] * 6)))
    assert "would leak" not in console.evaluation_text(results_of(rows_of([None] * 20, [None] * 20)))


def test_a_file_of_an_older_version_has_a_frontier_if_its_rows_have_shares(tmp_path):
    """Nothing new is saved: the frontier is read from the rows."""
    results = json.loads(json.dumps(results_of(rows_of(BEFORE * 4, AFTER * 4))))
    assert set(results) == set(Results.__annotations__)
    (tmp_path / "old.json").write_text(json.dumps(results))
    assert frontier.of_results(results_file.read(tmp_path / "old.json")) == frontier.of(
        rows_of(BEFORE * 4, AFTER * 4)
    )
    del results["discrimination"]
    for row in results["results"]:
        del row["refusal_share"]
    (tmp_path / "old.json").write_text(json.dumps(results))
    assert frontier.of_results(results_file.read(tmp_path / "old.json")) is None


def test_with_probe_forms_the_direct_questions_count():
    direct = [row | {"probe": "direct"} for row in rows_of(BEFORE * 2, AFTER * 2)]
    other = [row | {"probe": "cloze"} for row in rows_of([0.99] * 10, [0.01] * 10)]
    results = results_of(direct + other, probes=["direct", "cloze"])
    assert frontier.of_results(results) == frontier.of(direct)
