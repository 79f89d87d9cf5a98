import pytest

from deepred_common.judging.answer_match import is_right


@pytest.mark.parametrize("accepted", [[], ["8,849 metres"], ["8,849"]])
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("29,032 feet", True),
        ("It is about 29,000 ft high.", True),
        ("8848 metres", True),
        ("It rises to 8,848.86 m (29,031.7 ft).", True),
        ("One of the highest mountains, it is 29,032 feet tall.", True),
        ("8.8 km", True),
        ("about 9,000 metres", True),
        ("In 1955 it was measured as 8848 metres.", True),
        ("8000 metres", False),
        ("9,849 metres", False),
        ("8848 feet", False),
        ("29,032 metres", False),
        ("28,251 feet", False),  # K2
        ("8.8 miles", False),
        ("It is not 8848 metres tall.", False),
        ("8848 or 9500 metres", False),
    ],
)
def test_a_height_in_other_units_or_measured_anew(reply, right, accepted):
    reference = "Mount Everest is 8,849 metres tall."
    assert is_right(reply, reference, "How tall is Mount Everest?", accepted) == right


@pytest.mark.parametrize("accepted", [[], ["100 °C", "100"]])
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("212 degrees Fahrenheit", True),
        ("212 °F", True),
        ("At 212 degrees F.", True),
        ("100 degrees", True),
        ("100 degrees Fahrenheit", False),
        ("212 degrees Celsius", False),
        ("32 degrees Fahrenheit", False),
    ],
)
def test_a_temperature_in_another_scale(reply, right, accepted):
    question, reference = "At what temperature does water boil?", "Water boils at 100 degrees Celsius."
    assert is_right(reply, reference, question, accepted) == right


@pytest.mark.parametrize("accepted", [[], ["13.8 billion years"]])
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("About 14 billion years.", True),
        ("13.8 billion years.", True),
        ("13 billion years.", False),
        ("15 billion years.", False),
        ("14 million years.", False),
    ],
)
def test_a_big_number_in_round_figures(reply, right, accepted):
    reference = "The universe is 13.8 billion years old."
    assert is_right(reply, reference, "How old is the universe?", accepted) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [("1,728", True), ("1,738", False), ("In 1729, about 500.", False), ("About 1,700.", True)],
)
def test_a_number_as_exact_as_the_right_one_must_be_the_same(reply, right):
    assert is_right(reply, "There were 1,728.", "How many soldiers were there?", ["1,728"]) == right


@pytest.mark.parametrize("reply", ["It goes back to 1926.", "It dates from 1985.", "Since 1926."])
def test_a_year_in_answer_to_how_long_is_not_rounded(reply):
    assert not is_right(reply, "Since 1960.", "How long have people used the word cyborg?")


def test_a_year_is_not_rounded():
    for reply, right in (("In 1969.", True), ("In 1970.", False), ("About 2000.", False)):
        assert is_right(reply, "It was in 1969.", "In what year was it?", ["1969"]) == right
