"""Which tokens begin a refusal: one rule for vocabularies and for the token texts of servers."""

import pytest

from deepred_common import refusal_openers


@pytest.mark.parametrize(
    "token", ["I", " I", "ĠSorry", "▁That", "Unfor", "Forg", "Ap", "Can", "Not", "\nNothing"]
)
def test_whole_words_and_most_of_a_word_begin_a_refusal(token):
    assert refusal_openers.begins_refusal(token)


@pytest.mark.parametrize(
    "token", ["", " ", "The", "For", "H", "Be", "In", "i", "sorry", "Italy", "I think", "It"]
)
def test_what_begins_answers_rather_than_refusals_does_not(token):
    assert not refusal_openers.begins_refusal(token)


def test_the_vocabulary_and_the_texts_of_a_server_give_the_same_tokens(tokenizer):
    texts = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    by_text = [number for number, text in enumerate(texts) if refusal_openers.begins_refusal(text)]
    assert refusal_openers.token_ids(tokenizer) == by_text and len(by_text) > 20
