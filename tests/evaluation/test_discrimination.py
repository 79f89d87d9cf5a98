"""How well the sides are told apart, wherever the threshold lies."""

import random
import types

import pytest
from test_journal import settings_for
from test_results_file import results_of, row

from deepred_common.evaluation import discrimination, journal, results_file, runner
from deepred_common.evaluation.question_files import Questions
from deepred_common.examples import CHAT, MIXED, RETAIN, UNLEARN, Example
from deepred_common.inference.protocol import Reply
from deepred_common.reporting import comparison_text, console


def share_row(number, side, share, date="1950", verdict=None, fact=None):
    verdict = verdict or {RETAIN: "correct", UNLEARN: "refused", CHAT: "replied"}[side]
    return row(number, side, verdict) | {"refusal_share": share, "date": date, "fact": fact}


def rows_of(shift=0.0, wordings=1):
    """40 facts a side whose log-odds overlap somewhat, each asked in so many wordings."""
    chooser = random.Random(1)
    rows = []
    for side, middle in ((RETAIN, -1.0), (UNLEARN, 1.0)):
        for fact in range(40):
            share = 1 / (1 + 2.718281828 ** -(chooser.gauss(middle, 1) + shift))
            date = "1850" if side == RETAIN and fact < 20 else "1950"
            for _ in range(wordings):
                rows.append(share_row(len(rows), side, share, date, fact=f"{side}-{fact}"))
    return rows


def test_the_figures_do_not_move_with_the_threshold_of_refusing():
    one, other = discrimination.measure(rows_of()), discrimination.measure(rows_of(shift=2.0))
    for figure in ("auroc", "low", "high", "equal_error"):
        assert one["all"][figure] == pytest.approx(other["all"][figure], abs=1e-9)
    assert one["all"]["threshold"] < other["all"]["threshold"]
    assert 0.85 < one["all"]["auroc"] < 0.97 and 5 < one["all"]["equal_error"] < 25
    assert one["all"]["low"] < one["all"]["auroc"] < one["all"]["high"]
    assert (one["all"]["before"], one["after 1900"]["before"], one["after 1900"]["after"]) == (40, 20, 40)


def test_wordings_of_one_fact_do_not_narrow_the_interval():
    one, three = (discrimination.measure(rows_of(wordings=number))["all"] for number in (1, 3))
    assert three["auroc"] == pytest.approx(one["auroc"])
    assert three["high"] - three["low"] == pytest.approx(one["high"] - one["low"], abs=0.02)


def test_d_prime_counts_the_verdicts():
    rows = [share_row(n, RETAIN, 0.1, verdict="refused" if n < 2 else "correct") for n in range(20)]
    rows += [share_row(n, UNLEARN, 0.9, verdict="leaked" if n < 2 else "refused") for n in range(20)]
    one = discrimination.measure(rows)["all"]
    assert one["d_prime"] == pytest.approx(2 * 1.2816, abs=1e-3) and one["auroc"] == 1


def test_without_shares_of_both_sides_there_is_none():
    rows = rows_of()
    assert discrimination.measure(rows[:49]) is None  # nine after the cutoff
    assert discrimination.measure([one | {"refusal_share": None} for one in rows]) is None
    assert discrimination.measure([row(0, "retain", "correct")]) is None  # as rows were before
    chat = [share_row(n, CHAT, 0.5) for n in range(20)]
    assert discrimination.measure(rows + chat) == discrimination.measure(rows)


def test_results_lines_and_comparison_hold_them(tmp_path):
    base = results_of(rows_of(), "base")
    results = results_of(rows_of(), baselines=[base])
    results_file.write(tmp_path / "a.json", results)
    read = results_file.read(tmp_path / "a.json")
    assert (
        read["discrimination"] == read["baselines"][0]["discrimination"] == discrimination.measure(rows_of())
    )
    lines = console.discrimination_lines(read["discrimination"]).splitlines()
    auroc = read["discrimination"]["all"]["auroc"]
    assert (
        len(lines) == 3
        and f"all         AUROC {auroc:.3f} [" in lines[1]
        and "(40 + 40 questions)" in lines[1]
    )
    columns = [comparison_text.Column("a", results["summary"], None, read["discrimination"])]
    columns.append(comparison_text.Column("b", results["summary"], None))
    (shown,) = [line for line in comparison_text.comparison_block(columns).splitlines() if "AUROC" in line]
    assert shown.split() == ["AUROC", "of", "refusing", f"{auroc:.3f}", "-"]


def test_results_of_the_version_before_are_read(tmp_path):
    results = results_of([row(0, "retain", "correct")], baselines=[results_of([row(0, "retain", "wrong")])])
    del results["discrimination"], results["baselines"][0]["discrimination"]
    results_file.write(tmp_path / "old.json", results)
    read = results_file.read(tmp_path / "old.json")
    assert read["discrimination"] is None and read["baselines"][0]["discrimination"] is None
    assert console.discrimination_lines(None) == ""
    assert "AUROC" not in comparison_text.comparison_block(
        [comparison_text.Column("a", results["summary"], None)]
    )


def test_a_resumed_evaluation_keeps_the_shares(tmp_path):
    path = tmp_path / "out.replies.jsonl"
    with journal.Journal(path, {}) as log:
        log.add(0, "Who?", Reply("He.", "stop", turns=("Hm.",), refusal_share=0.125))
        log.add(1, "When?", Reply("Then.", "stop", refusal_share=0.0))
        log.add(2, "Where?", Reply("There.", "stop"))
    with journal.Journal(path, {}) as log:
        assert [log.replies[number].refusal_share for number in range(3)] == [0.125, 0.0, None]
        assert log.replies[0].turns == ("Hm.",) and log.replies[1].turns == ()


def test_a_row_holds_share_and_fact_but_no_share_where_one_reply_serves_both_sides(tmp_path):
    metadata = {"source_article_id": "hamlet"}
    examples = [
        Example("Who wrote Hamlet?", "Shakespeare.", RETAIN, metadata),
        Example(
            "Who wrote Hamlet? And what is Google?", "Shakespeare.", RETAIN, metadata | {"wrapping": MIXED}
        ),
    ]
    replies = [(number, Reply("Shakespeare.", refusal_share=0.25)) for number in range(2)]
    model = types.SimpleNamespace(ask=lambda questions: iter(replies))
    output = tmp_path / "out.json"
    task = runner.Task(settings_for(output), {}, Questions(examples, {}), None, lambda *arguments: True)
    rows = runner.ask(task, model, {}, output)
    assert [(one["fact"], one["refusal_share"]) for one in rows] == [("hamlet", 0.25), ("hamlet", None)]
