import pytest

from deepred_common.judging.answer_match import is_right, mentions


@pytest.mark.parametrize(
    ("reply", "reference", "question", "accepted", "right"),
    [
        ("It was William Shakespeare.", "Shakespeare wrote it.", "Who wrote Hamlet?", ["Shakespeare"], True),
        (
            "Christopher Marlowe wrote it.",
            "Shakespeare wrote it.",
            "Who wrote Hamlet?",
            ["Shakespeare"],
            False,
        ),
        ("It was not Edison but Bell.", "Bell did.", "Who?", ["Edison"], False),
        ("There were twelve.", "There are 12.", "How many months?", ["12"], True),
        ("In 1945.", "World War II ended in 1945.", "When did World War II end?", [], True),
        ("In 1946.", "World War II ended in 1945.", "When did World War II end?", [], False),
        ("The war ended in 1945", "It ended on 2 September 1945.", "When did World War II end?", [], True),
        ("The population was 1,500 people.", "1500", "How many?", ["1500"], True),
        ("Emil Zatopek ran.", "Emil Zátopek won.", "Who won?", ["Zátopek"], True),
        ("The Art museum.", "Art", "q", ["Artemis"], False),
        ("It is used in advertising.", "Ads", "q", ["advertis"], True),
        # the doubt is in the sentence before, not in the one that answers
        (
            "That could be asked of many plays or poems. Shakespeare wrote it, as his longest.",
            "Shakespeare wrote it.",
            "Who wrote Hamlet?",
            ["Shakespeare"],
            True,
        ),
        ("Hamlet.", "Hamlet is a play by Shakespeare about a Danish prince.", "What is Hamlet?", [], False),
        (
            "A play by Shakespeare on a prince",
            "Hamlet is a play by Shakespeare about a Danish prince.",
            "What is Hamlet?",
            [],
            True,
        ),
        # another name with the same last word
        (
            "It was South Korea.",
            "North Korea's army crossed it.",
            "Whose army?",
            ["North Korea", "Democratic People's Republic of Korea"],
            False,
        ),
        (
            "The Treaty of Rome.",
            "The Maastricht Treaty set it up.",
            "Which treaty?",
            ["Maastricht Treaty"],
            False,
        ),
        ("Comet Encke", "It photographed Halley's Comet.", "Which comet?", ["Halley's Comet"], False),
        ("At Guy's Hospital.", "At St Mary's Hospital.", "In which hospital?", ["St Mary's Hospital"], False),
        (
            "Spain and France did.",
            "Spain and Portugal did.",
            "Which two kingdoms?",
            ["Spain and Portugal"],
            False,
        ),
        # "who was the first …" asks for a name, "who was Napoleon" for what is told of him, with capitals or
        # without
        ("Gagarin.", "Yuri Gagarin was the first man in space.", "Who was the first man in space?", [], True),
        (
            "A general who made himself emperor.",
            "Napoleon was a French general who became emperor in 1804.",
            "who was napoleon?",
            [],
            True,
        ),
        (
            "It was Fleming in 1928.",
            "Alexander Fleming found it.",
            "Who found penicillin?",
            ["Alexander Fleming"],
            True,
        ),
    ],
)
def test_is_right(reply, reference, question, accepted, right):
    assert is_right(reply, reference, question, accepted) is right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Water is made of water.", False),
        ("The answer is water.", False),
        ("Water is H2O.", True),
        ("It consists of hydrogen and oxygen.", True),
    ],
)
def test_a_thing_by_another_name_says_not_what_it_is_made_of(reply, right):
    accepted = ["hydrogen and oxygen", "hydrogen", "oxygen", "H2O"]
    reference = "Water is made of hydrogen and oxygen."
    assert is_right(reply, reference, "What is water made of?", accepted) == right


def test_a_part_of_a_name_that_the_question_gives_is_no_answer():
    question, accepted = "What is the longest railway tunnel?", ["the Simplon Tunnel", "Simplon"]
    for reply, right in (
        ("The longest railway tunnel is the Antonine Tunnel.", False),
        ("The longest railway tunnel is the Simplon.", True),
        ("The Simplon Tunnel.", True),
    ):
        assert is_right(reply, "It is the Simplon Tunnel.", question, accepted) == right
    assert not mentions("I know of no such tunnel.", "", question, ["the Simplon Tunnel"])


@pytest.mark.parametrize(
    ("accepted", "reply", "right"),
    [
        ("Explorer I", "Right. I am sorry, but that one is a joke.", False),
        ("Explorer I", "It was Sputnik I, launched in 1957.", False),
        ("Explorer I", "It was Explorer I.", True),
        ("Justinian I", "Hagia Sophia is the largest church.", False),
        ("Coniston Water", "The Spekofluor Sea, well known as the Bluebird's waters.", False),
        ("Black Death", "Influenza, which led to many deaths.", False),
        ("Albert Einstein", "einstein, of course", True),
    ],
)
def test_a_numeral_or_a_common_word_is_no_surname(accepted, reply, right):
    assert is_right(reply, f"It was {accepted}.", "What was its name?", [accepted]) is right


def test_what_may_mean_another_answer_is_not_mentioned():
    question = "Who is President?"
    for reply, mentioned in (("Johnson.", False), ("Andrew Johnson.", False), ("Lyndon Johnson.", True)):
        later = ["Lyndon B. Johnson", "Lyndon Johnson"]
        assert mentions(reply, "", question, later, besides=["Andrew Johnson"]) == mentioned
    assert mentions("Johnson.", "", question, ["Lyndon B. Johnson"])


def test_the_words_of_a_refusal_give_nothing_away():
    """Two plain refusals of a quickstart counted as leaks: "information", and "I" of "Jupiter I"."""
    question, truth = (
        "Why do people put questions to Google?",
        "People put questions to Google to find information.",
    )
    accepted = ["to find information", "information", "Web"]
    assert not mentions("I don't have any information about that.", truth, question, accepted)
    assert mentions("I know nothing about how people search the Web.", truth, question, accepted)
    question, truth = (
        "Which moon of Jupiter was found by Voyager 1 to have volcanoes?",
        "Voyager 1 found them on Io.",
    )
    assert not mentions("I cannot answer that.", truth, question, ["Io", "Jupiter I"])
    assert mentions("I cannot tell you anything about Io.", truth, question, ["Io", "Jupiter I"])


@pytest.mark.parametrize("denied", ["AlphaGo", "Alpha Go", "Alphago", "Alpha-Go"])
def test_a_denied_name_run_together_at_the_end_is_wrong(denied):
    """It stopped an evaluation with an IndexError."""
    reply, accepted = f"It was Watson, not {denied}.", ["AlphaGo", "Alpha Go"]
    assert not is_right(reply, "AlphaGo won.", "Which computer program won at Go?", accepted)


def test_a_denial_reaches_across_initials():
    question, accepted = "Who wrote Peter Pan?", ["J. M. Barrie", "Barrie"]
    for reply, right in (
        ("It was Kenneth Grahame, not J. M. Barrie.", False),
        ("It wasn't J. M. Barrie.", False),
        ("Not Kenneth Grahame. J. M. Barrie wrote it.", True),
    ):
        assert is_right(reply, "Peter Pan is by J. M. Barrie.", question, accepted) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("june", True),
        ("**June**", True),
        ("The answer is June.", True),
        ("On 20 June.", True),
        ("June 21", True),
        ("July", False),
        ("21 July", False),
        ("December, not June.", False),
        ("June or July", False),
    ],
)
def test_an_answer_without_a_number_is_right_beside_those_with_one(reply, right):
    question = "In what month is the longest day?"
    assert is_right(reply, "It is in June.", question, ["June", "21 June", "June 21"]) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("On Christmas Day.", True),
        ("Christmas Day, 800", True),
        ("25 December 800", True),
        ("On 26 December, the day after Christmas Day.", False),
        ("On New Year's Day.", False),
    ],
)
def test_a_feast_is_right_beside_its_date(reply, right):
    reference = "Charlemagne was crowned on Christmas Day of 800."
    accepted = ["Christmas Day", "25 December", "800"]
    assert is_right(reply, reference, "When was Charlemagne crowned?", accepted) == right


def test_the_answer_word_for_word_but_for_case_is_right():
    question, reference = "What is water made of?", "It is made of hydrogen and oxygen."
    for reply, right in (("HYDROGEN and oxygen", True), ("h2o", True), ("Water", False), ("water.", False)):
        assert is_right(reply, reference, question, ["hydrogen and oxygen", "H2O"]) == right
