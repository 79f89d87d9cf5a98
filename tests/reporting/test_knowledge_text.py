"""The printed lines about what a model knows, from results as they stand in their file."""

import json
import math

import pytest

from deepred_common.evaluation import knowledge
from deepred_common.files import json_text
from deepred_common.inference.protocol import Score
from deepred_common.reporting import knowledge_text


def fact(false):
    """A row of four answers, one of which is `false`."""
    scores = {"Bono": Score(-4.0, 2), "Sting": false, "Cher": Score(-5.0, 1), "Moby": Score(-9.0, 3)}
    return {
        "side": "unlearn",
        "date": "1995",
        "scores": {answer: list(score) for answer, score in scores.items()},
    }


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_fact_with_an_impossible_answer_counts_as_a_fact_but_not_in_the_difference(tokens):
    """Of an infinite difference there is no mean, and a large number in its place would be all of it."""
    own = knowledge.measure([fact(Score(-math.inf, tokens)), fact(Score(-8.0, 2))])
    saved = json.loads(json_text(own))
    assert saved == own
    text = knowledge_text.text({"knowledge": saved, "baselines": []})
    assert "true one likeliest 2 of 2 (100%), difference +2.00 [+2.00, +2.00]" in text


def test_where_each_fact_has_an_impossible_answer_the_difference_is_a_dash():
    own = knowledge.measure([fact(Score(-math.inf, 1))])
    text = knowledge_text.text({"knowledge": json.loads(json_text(own)), "baselines": []})
    assert "true one likeliest 1 of 1 (100%), difference – [–, –]" in text


def test_a_figure_that_an_older_file_lacks_is_a_dash():
    facts = {"facts": 2, "likeliest": 1, "difference": None, "low": None, "high": -0.5}
    text = knowledge_text.text({"knowledge": {"sides": {"retain": facts}, "periods": {}}, "baselines": []})
    assert "true one likeliest 1 of 2 (50%), difference – [–, -0.50]" in text
