"""Every pattern of every language is tried on the example beside it."""

import dataclasses
import re

import pytest

from deepred_common.judging.refusal import is_refusal
from deepred_common.judging.refusal_languages import Language, all_languages, for_cutoff
from deepred_common.judging.words import plain_reply

TABLES = [field.name for field in dataclasses.fields(Language)]
ROWS = [
    pytest.param(pattern, example, id=f"{name} {table}: {example}")
    for name, language in all_languages().items()
    for table in TABLES
    for pattern, example in getattr(language, table)
]


@pytest.mark.parametrize(("pattern", "example"), ROWS)
def test_each_pattern_matches_its_example(pattern, example):
    assert example == plain_reply(example), "patterns see small letters and plain signs"
    assert re.search(for_cutoff(pattern), example)


@pytest.mark.parametrize("name", all_languages())
def test_what_declines_by_itself_is_a_refusal(name):
    """The examples of `declines` are whole refusals, judged by the whole detector."""
    missed = [
        example for _, example in all_languages()[name].declines if not is_refusal(example, "Who was it?")
    ]
    assert not missed
