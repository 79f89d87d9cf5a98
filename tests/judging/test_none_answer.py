import pytest

from deepred_common.judging.answer_match import is_right

MOONS = "How many moons does Venus have?"
WALKED = "How many people have walked on the Moon?"


@pytest.mark.parametrize("accepted", [[], ["none", "zero", "0"], ["no moons"]])
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("None.", True),
        ("Zero.", True),
        ("0", True),
        ("No moons.", True),
        ("It has no moons.", True),
        ("Venus has no known moons.", True),
        ("Venus doesn't have any moons.", True),
        ("Venus does not have moons.", True),
        ("None, but Mars has two.", True),
        ("Two.", False),
        ("Venus has one moon.", False),
        ("Venus has 2 moons, none of them large.", False),
        ("No, Venus has 2 moons.", False),
        ("There is no doubt that Venus has two moons.", False),
        ("It has no fewer than 2 moons.", False),
        ("It has no moons except Neith.", False),
        ("Not none, but one.", False),
        ("No two moons are alike.", False),
        ("Nobody knows.", False),
    ],
)
def test_no_moons(reply, right, accepted):
    assert is_right(reply, "Venus has no moons.", MOONS, accepted) == right


@pytest.mark.parametrize("accepted", [[], ["nobody", "none", "no one", "zero", "0"]])
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("None.", True),
        ("No one has.", True),
        ("Nobody has walked on the Moon.", True),
        ("As of 1968, nobody.", True),
        ("Before Apollo 11 nobody had.", True),
        ("Twelve people.", False),
        ("One.", False),
        ("Twelve, and nobody since 1972.", False),
        ("Nobody knows.", False),
    ],
)
def test_nobody(reply, right, accepted):
    assert is_right(reply, "Nobody has walked on the Moon.", WALKED, accepted) == right


@pytest.mark.parametrize(
    ("reply", "right"), [("0 degrees Celsius", True), ("32 °F", True), ("0 degrees Fahrenheit", False)]
)
def test_zero_degrees_is_a_temperature(reply, right):
    reference = "Water freezes at 0 degrees Celsius."
    assert is_right(reply, reference, "At what temperature does water freeze?", ["0 °C", "0"]) == right


def test_an_answer_that_counts_is_not_none():
    question, reference = "How many people died?", "No one in the other car was hurt, but 12 people died."
    for reply, right in (("12", True), ("Twelve people died.", True), ("None.", False), ("Nobody.", False)):
        assert is_right(reply, reference, question) == right
