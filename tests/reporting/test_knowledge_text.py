"""The printed lines about what a model knows, from results as they stand in their file."""

import json
import math

from deepred_common.evaluation import knowledge
from deepred_common.files import json_text
from deepred_common.inference.protocol import Score
from deepred_common.reporting import knowledge_text


def test_an_impossible_answer_leaves_figures_that_a_results_file_can_hold():
    def row(false):
        scores = {"Bono": Score(-4.0, 2), "Sting": false, "Cher": Score(-5.0, 1), "Moby": Score(-9.0, 3)}
        return {
            "side": "unlearn",
            "date": "1995",
            "scores": {answer: list(score) for answer, score in scores.items()},
        }

    own = knowledge.measure([row(Score(-math.inf, 3)), row(Score(-8.0, 2))])
    saved = json.loads(json_text(own))
    assert saved == own and saved["sides"]["unlearn"]["difference"] > 100
    text = knowledge_text.text({"knowledge": saved, "baselines": []})
    assert "true one likeliest 2 of 2 (100%), difference +" in text


def test_a_figure_that_an_older_file_lacks_is_a_dash():
    facts = {"facts": 2, "likeliest": 1, "difference": None, "low": None, "high": -0.5}
    text = knowledge_text.text({"knowledge": {"sides": {"retain": facts}, "periods": {}}, "baselines": []})
    assert "true one likeliest 1 of 2 (50%), difference – [–, -0.50]" in text
