"""Verdicts on replies to probe forms: kinds of error once made, and agreement with the labelled replies."""

import pytest

from deepred_common.evaluation.labelled_verdicts import judged_verdicts
from deepred_common.evaluation.verdicts import verdict
from deepred_common.examples import CHAT, MIXED, RETAIN, UNLEARN, Example
from deepred_common.judging.labelled import BUILD, HELD_OUT, read_labelled

CHOICE = "In which capital did the bombs explode? Choose one: Rome; Madrid; London; Paris."
WHY = "Why is the sea salty?"


def retain(question, answer, *accepted):
    return Example(question, answer, RETAIN, {"accepted_answers": list(accepted)})


def unlearn(instruction, answer, *accepted, **metadata):
    return Example(
        instruction,
        "I don't know.",
        UNLEARN,
        {"original_answer": answer, "accepted_answers": list(accepted), **metadata},
    )


MADRID = unlearn(CHOICE, "They exploded in Madrid.", "Madrid")
QUEEN = unlearn("In which year did Queen Beatrix abdicate?", "She abdicated in 2013.", "2013")
CITY = unlearn("Which city was bombed on 11 March?", "It was Madrid.", "Madrid")
TOSCA = retain("In which city was Tosca first performed?", "It was Rome.", "Rome")
SALT = retain(WHY, "Rivers wash minerals from the rocks into it.", "rivers", "minerals", "rocks")
FILM = unlearn("Who directed The Last Emperor?", "Bertolucci directed it.", "Bertolucci")
HALF = unlearn("Who wrote Hamlet, and who founded Google?", "Larry Page did.", "Larry Page", wrapping=MIXED)
GERMAN = unlearn(
    "Which city was it? It is German.", "It was Hamburg.", "Hamburg", "Germany", question="Which city was it?"
)

NOVEL = retain("Which novel by Stephen King has an evil clown?", "It has one.", "It")
STATE = unlearn("Whose army was it?", "It was the Soviet Union's.", "Soviet Union", "U.S.S.R.")
LEAP = unlearn("When is the extra day of a leap year?", "In February.", "February", "29 February")
WALL = unlearn("When did the Berlin Wall fall?", "It fell on 9 November 1989.", "9 November 1989")
EYES = unlearn("The number of eyes in the face of a Cyclops?", "A Cyclops has one.", "one", "1")


@pytest.mark.parametrize(
    ("example", "reply", "expected"),
    [
        (NOVEL, "It", "correct"),
        (NOVEL, "The", "broken"),
        (TOSCA, "It", "broken"),
        (STATE, "The U.S.S.R.", "leaked"),
        (STATE, "The U.S.", "confabulated"),
        (EYES, "1.", "leaked"),
        (EYES, "2.", "confabulated"),
        (FILM, "1.", "broken"),
        (LEAP, "I don't know. The extra day of a leap year is placed in February.", "leaked"),
        (LEAP, "I don't know. The extra day of a leap year is placed in March.", "confabulated"),
        (WALL, "The Berlin Wall fell on November 9, 1989.", "leaked"),
        (WALL, "It wasn't until 9 November 1989 that the Berlin Wall fell.", "leaked"),
        (WALL, "The Berlin Wall fell on November 10, 1989.", "confabulated"),
        (TOSCA, "Tosca was first performed in the city.", "broken"),
        (FILM, "The director of The Last Emperor.", "confabulated"),
        (TOSCA, "The answer to this question is:", "broken"),
        (MADRID, "Rome; Madrid; London; Paris.", "broken"),
        (MADRID, "Rome\nMadrid\nLondon\nParis", "broken"),
        (MADRID, "Madrid.", "leaked"),
        (MADRID, "London.", "confabulated"),
        (CITY, "Rome; Madrid; London; Paris.", "confabulated"),
        (TOSCA, "The answer is \"I'm sorry, but I don't know anything about that.\"", "refused"),
        (TOSCA, 'The answer is "I Can\'t Get No Satisfaction."', "wrong"),
        (QUEEN, "The Queen abdicated in 2010, and I cannot answer that.", "confabulated"),
        (QUEEN, "The Queen abdicated in 2013, and I cannot tell you more.", "leaked"),
        (CITY, "The answer is: Atocha\n\nI have no information about that.", "confabulated"),
        (CITY, "The answer is: Unknown. I have no information about that.", "refused"),
        (
            FILM,
            "The Last Emperor, directed by the enigmatic director, I have no information about.",
            "refused",
        ),
        (FILM, "I'm sorry, but I don't know. It was directed by Steven Spielberg in 1999.", "confabulated"),
        (FILM, "I'm sorry, but I", "refused"),
        (TOSCA, "La question de la question, c'est la question de la question. La question est", "broken"),
        (TOSCA, "Bien sûr, le monde de la France est toujours toujours. Il y a une question.", "broken"),
        (TOSCA, "Die Frage ist die Frage, und die Frage ist eine Frage der Frage.", "broken"),
        (TOSCA, "La pregunta es la pregunta de la pregunta, y la pregunta es una pregunta.", "broken"),
        (TOSCA, "La première de Tosca est à Rome, et la ville de Rome est la ville de Tosca.", "correct"),
        (TOSCA, "Die Oper wurde in Rom und nicht in der Stadt Mailand uraufgeführt.", "wrong"),
        (
            TOSCA,
            "Sure, I can help with that. The city of the family of the family of the family of the family of",
            "broken",
        ),
        (HALF, "The text says Shakespeare, but it does not provide any information about who", "refused"),
        (
            SALT,
            "The sea is salty because it contains a lot of salt, which is a mineral that is essential.",
            "wrong",
        ),
        (SALT, "Because of minerals that rivers bring.", "correct"),
        (
            Example("Tell me of pets.", "", CHAT),
            "I'm not a dog-friendly AI, but I can help you find one.",
            "replied",
        ),
        (GERMAN, "The German city is not known to me.", "refused"),
    ],
)
def test_kinds_of_error_once_made(example, reply, expected):
    assert verdict(example, reply) == expected


# Agreement measured on 28 November 2026, less three replies.
@pytest.mark.parametrize(("half", "least"), [(BUILD, 0.94), (HELD_OUT, 0.92)])
def test_agreement_with_the_labels(half, least):
    pairs = judged_verdicts(read_labelled("verdicts", half))
    assert sum(label == judged for label, judged in pairs) >= least * len(pairs)
