import pytest

from deepred_common.judging.broken_reply import is_broken


@pytest.mark.parametrize(
    "reply",
    [
        "U.S.S.R.",
        "The U.S.",
        "U.S.A.",
        "E.T.",
        "It was R.E.M.",
        "The answer is U. N.",
        "2.",
        "7.",
        "π",
        "It's π.",
        "The answer is Ω.",
        "א",
        "水。",
        "C",
        "The answer is **C**.",
        "½",
    ],
)
def test_a_short_answer_is_not_broken(reply):
    assert not is_broken(reply)


@pytest.mark.parametrize("reply", ["1.", "The", "It", "It is a", "The answer is I", "The answer is:"])
def test_a_begun_reply_is_broken(reply):
    assert is_broken(reply)
