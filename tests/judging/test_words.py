"""Text cut into words and sentences, and words made comparable."""

import pytest

from deepred_common.judging.comparable_words import comparable_words
from deepred_common.judging.words import plain_reply, plain_words, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It was Paris. I am sure.", ["It was Paris.", "I am sure."]),
        ("i dont know. it was paris", ["i dont know.", "it was paris"]),
        ('He said "No." Then he left.', ['He said "No.', "Then he left."]),
        ("Dr. Who met J. R. R. Tolkien. Really?", ["Dr. Who met J. R. R. Tolkien.", "Really?"]),
        ("Stones, e.g. flint, etc. and sand.", ["Stones, e.g. flint, etc. and sand."]),
        ("One line\n\nAnother line", ["One line", "Another line"]),
        ("  \n ", []),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C++ is a well-known language—isn't it?", "c++ is a well known language isn t it"),
        ("**Bold** and `code`, 2 * 3", "bold and code 2 * 3"),
        ("Cafe\u0301 au lait", "café au lait"),
        ("?!", ""),
    ],
)
def test_plain_words(text, words):
    assert " ".join(plain_words(text)) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("forty-six", "46"),
        ("one hundred and five", "105"),
        ("3.5 million", "3,500,000"),
        ("nineteen forty-five", "1945"),
        ("Louis XIV", "Louis the Fourteenth"),
        ("1944-06-16", "16 June 1944"),
        ("16/06/1944", "16 June 1944"),
        ("Jan 5", "January 5th"),
        ("a dozen eggs", "12 eggs"),
        ("the USSR", "The Soviet Union"),
        ("New York City", "NYC"),
        ("5 %", "five per cent"),
        ("Dvořák", "Dvorak"),
    ],
)
def test_two_spellings_of_one_thing_come_out_alike(one, other):
    texts = [[word.text for word in comparable_words(text)] for text in (one, other)]
    assert texts[0] == texts[1]


def test_us_is_a_country_only_in_capitals():
    assert [word.text for word in comparable_words("tell us of the US")] == "tell us of united states".split()


def test_a_plain_reply_has_no_template_tokens_and_plain_signs():
    assert plain_reply("<|im_start|>assistant\nI don’t   know…</s>") == "i don't know…"
