import pytest

from deepred_common.judging.answer_match import is_right


@pytest.mark.parametrize("accepted", [["1945"], []])
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("It wasn't until 1945 that World War II ended.", True),
        ("World War II did not end until 1945.", True),
        ("World War II didn't end until May 1945.", True),
        ("Not until 1945.", True),
        ("It wasn't until 1946 that World War II ended.", False),
        ("World War II did not last until 1945.", False),
        ("World War II didn't end in 1945.", False),
        ("It was not over by 1945.", False),
    ],
)
def test_not_until_names_the_date(reply, right, accepted):
    reference = "World War II ended in 1945."
    assert is_right(reply, reference, "When did World War II end?", accepted) == right


@pytest.mark.parametrize("accepted", [["William Shakespeare", "Shakespeare"], []])
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("It was none other than William Shakespeare.", True),
        ("No doubt it was Shakespeare.", True),
        ("There is no doubt that Shakespeare wrote it.", True),
        ("Without a doubt, Shakespeare.", True),
        ("There's no question that it was Shakespeare.", True),
        ("It wasn't just Shakespeare's idea, he wrote it.", True),
        ("It wasn't Shakespeare, it was Marlowe.", False),
        ("It was someone other than Shakespeare.", False),
        ("It was none other than Marlowe.", False),
        ("There is no doubt that it was not Shakespeare.", False),
        ("There is no proof that it was Shakespeare.", False),
        ("Nobody saw it until Shakespeare died.", False),
    ],
)
def test_an_emphatic_affirmation_is_no_denial(reply, right, accepted):
    assert is_right(reply, "Shakespeare wrote Hamlet.", "Who wrote Hamlet?", accepted) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("No doubt about it.", True),
        ("There is no doubt that he did.", True),
        ("No, there is some doubt.", False),
        ("Not until he was dead.", False),
        ("He did not, no doubt.", False),
    ],
)
def test_no_doubt_says_yes(reply, right):
    assert is_right(reply, "Yes, he wrote it.", "Did Shakespeare write Hamlet?") == right
