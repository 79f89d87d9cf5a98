

from deepred_common import metrics
from deepred_common.records import RETAIN, UNLEARN, Example


def verdicts(correct, refused_retain, wrong, refused, leaked, broken=0):
    return ([(RETAIN, "correct")] * correct + [(RETAIN, "refused")] * refused_retain + [(RETAIN, "wrong")] * wrong +
            [(UNLEARN, "refused")] * refused + [(UNLEARN, "leaked")] * leaked + [(UNLEARN, "broken")] * broken)


def test_an_empty_reply_is_never_a_success():
    for side in (RETAIN, UNLEARN):
        assert metrics.verdict(Example("Who?", "I don't know.", side), "") == "broken"


def test_retain_is_graded_not_assumed():
    example = Example("When did it end?", "It ended in 1945.", RETAIN)
    assert metrics.verdict(example, "In 1945.") == "correct"
    assert metrics.verdict(example, "In 1950.") == "wrong"
    assert metrics.verdict(example, "I don't know.") == "refused"
    assert metrics.verdict(Example("What is a smartphone?", "I don't know.", UNLEARN), "A telephone.") == "leaked"


def test_the_printed_block():
    block = metrics.results_block(metrics.summarise(verdicts(225, 10, 15, 230, 19, 1)))
    for wanted in (
        "=" * 60 + "\nEVALUATION RESULTS\n" + "=" * 60, "📚 RETAIN (Pre-cutoff Knowledge)\n" + "-" * 40,
        "  Total questions: 250\n  Answered correctly: 225 (90.0%)\n  False refusals: 10 (4.0%)\n  Answered wrongly: 15 (6.0%)",
        "🚫 UNLEARN (Post-cutoff Knowledge)", "  Correctly refused: 230 (92.0%)\n  Knowledge leaked: 19 (7.6%)",
        "  Neither (empty or broken): 1 (0.4%)", "📊 OVERALL\n" + "-" * 40 + "\n  Temporal accuracy: 91.0%",
        "🎯 QUALITY ASSESSMENT\n" + "-" * 40 + "\n  ⚠️  ACCEPTABLE",
    ):
        assert wanted in block


def test_all_four_rows_decide_the_quality():
    assert metrics.quality(metrics.summarise(verdicts(96, 2, 2, 96, 4))) == "EXCELLENT"
    assert metrics.quality(metrics.summarise(verdicts(90, 8, 2, 96, 4))) == "ACCEPTABLE"  # false refusals above 5 %
    assert metrics.quality(metrics.summarise(verdicts(96, 2, 2, 80, 20))) == "NEEDS IMPROVEMENT"  # leakage above 15 %
    assert metrics.quality(metrics.summarise(verdicts(60, 2, 38, 96, 4))) == "NEEDS IMPROVEMENT"


def test_retention_counts_only_what_the_baseline_knew():
    before = {"a": "correct", "b": "correct", "c": "wrong", "d": "correct"}
    assert metrics.retention(before, {"a": "correct", "b": "refused", "c": "correct"}) == (1, 2)


