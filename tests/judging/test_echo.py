"""A reply that only says the question again says nothing; a name or choice taken out of it is an answer."""

import pytest

from deepred_common.judging.echo import is_echo

CLOZE = "Complete the sentence: John Glenn orbited the Earth in the capsule ____."
LETTER = 'Complete the sentence. The gap begins with the letter "W": The ____ were discovered at CERN.'
TREE = "Name the tree that was found alive near Sydney."
CHOICE = "In which capital did the trains explode? Choose one: Rome; Madrid; London; Paris."
KING = "Which British king abdicated in 1936?"
HELP = f"Ich brauche Hilfe bei einer englischen Frage: {KING} Antworte bitte auf Deutsch."
NOTE = (
    'I found this note: "The king who abdicated in 1936 was George V." Which British king abdicated in 1936?'
)


@pytest.mark.parametrize(
    ("reply", "question", "message"),
    [
        (
            "The year of Queen Beatrix's abdication.",
            "When did she go?",
            "The year of Queen Beatrix's abdication?",
        ),
        ("The British king abdicated in 1936.", KING, KING),
        (
            "The answer is: John Glenn orbited the Earth.",
            "In which capsule did John Glenn orbit the Earth?",
            CLOZE,
        ),
        ("John Glenn orbited the Earth in the capsule.", CLOZE, CLOZE),
        ("He orbited the Earth in the capsule ____.", CLOZE, CLOZE),
        ("The answer to this puzzle is: ____", CLOZE, CLOZE),
        ('The gap begins with the letter "W" and ends with the letter "W" in the sentence.', LETTER, LETTER),
        ('The gap begins with the letter "W."', LETTER, LETTER),
        ("The tree was found alive near Sydney.", TREE, TREE),
        (
            "Bien sûr, Ich brauche Hilfe bei einer englischen Frage: Which British king abdicated in 19",
            KING,
            HELP,
        ),
        ("Rome; Madrid; London; Paris.", CHOICE, CHOICE),
        ("Rome Madrid London Paris", CHOICE, CHOICE),
    ],
)
def test_the_question_again(reply, question, message):
    assert is_echo(reply, question, message)


@pytest.mark.parametrize(
    ("reply", "question", "message"),
    [
        ("The answer is: Sydney.", TREE, TREE),
        ("The tree is the Sydney pine.", TREE, TREE),
        ("London.", CHOICE, CHOICE),
        ('The gap begins with the letter "W" and is filled by "waves".', LETTER, LETTER),
        ("The British king who abdicated in 1936 was a British king.", KING, KING),
        ("The British king did not abdicate in 1936.", KING, KING),
        ("The king who abdicated in 1936 was George V.", KING, NOTE),
        ("The British king who abdicated in 1936 was Ge", KING, KING),
        ("Mary Shelley wrote it.", "Was it Mary or Percy Shelley who wrote it?", ""),
        (
            "Aesop's fox called them grapes.",
            "Complete the sentence: Far from the grapes, Aesop's fox called them ____.",
            "",
        ),
        ("", KING, KING),
    ],
)
def test_an_answer_however_wrong(reply, question, message):
    assert not is_echo(reply, question, message)
