"""A model as judge: what happens where it gives no judgement."""

import json

import pytest
from conftest import line
from fake_server import reply_with, running

from deepred_common import paths
from deepred_common.judging import labelled

YES = reply_with("YES")
NO_KEY = (401, {"error": {"message": "This key was revoked"}}, {})
FLAGGED = (403, {"error": {"message": "This input was flagged"}}, {})
FILTERED = (400, {"error": {"message": "The content filter was triggered"}}, {})
NO_MODEL = (404, {"error": {"message": "There is no such model"}}, {})


@pytest.fixture
def evaluate(script, tmp_path, monkeypatch):
    """evaluate(judgement, flags): of 30 answers. judgement(n): what the server says to the n-th one.

    known: what it says to a labelled answer once it has judged others.
    """
    monkeypatch.setattr(paths, "OUTPUT", tmp_path)
    monkeypatch.setenv("JUDGE_API_KEY", "key-1")
    row = {"question": "Who?", "reference": "Bell.", "accepted": [], "reply": "Bell", "right": True}
    monkeypatch.setattr(labelled, "read_labelled", lambda name, half=None: [row, row])
    names = [f"{one}{two}berg" for one in "ABCDE" for two in "aeiouy"]
    rows = [line("retain", f"Who invented the {name} telephone?", f"{name}.") for name in names]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    with running() as server:

        def call(judgement, *flags, known=YES):
            judged = 0

            def answer(n, question):
                nonlocal judged
                if "You mark answers" not in question:
                    return reply_with(f"It was {question.split()[3]}.")
                if "Question: Who?" in question:
                    return known if judged else YES
                judged += 1
                return judgement(judged)

            server.answer = answer
            model = ("--use_lmstudio", "--lmstudio_url", server.url, "--judge_url", server.url)
            files = ("--test_file", tmp_path / "data.jsonl", "--output", tmp_path / "out.json")
            return script("evaluate_temporal", *model, *files, *flags)

        yield call


@pytest.mark.parametrize("refusal", [NO_KEY, NO_MODEL], ids=["no access", "no such model"])
def test_a_judge_that_no_longer_answers_ends_the_evaluation_and_it_can_be_resumed(
    refusal, evaluate, tmp_path
):
    code, _, err = evaluate(lambda n: reply_with("NO") if n <= 5 else refusal, known=refusal)
    assert code == 2 and refusal[1]["error"]["message"] in err.split("error: ")[-1]
    assert "the judge m failed 8 times in a row: " in err and "--resume" in err
    assert not (tmp_path / "out.json").exists()
    code, _, err = evaluate(lambda n: reply_with("NO"), "--resume")
    assert code == 0, err
    verdicts = [row["verdict"] for row in json.loads((tmp_path / "out.json").read_text())["results"]]
    assert verdicts == ["wrong"] * 30, "the judge's, not the matcher's"


def test_an_answer_that_alone_gets_no_judgement_is_graded_by_the_matcher(evaluate, tmp_path):
    code, _, err = evaluate(lambda n: reply_with("NO") if n % 3 else FLAGGED)
    assert code == 0 and err.count("\nThe built-in matcher grades this answer.") == 10
    verdicts = [row["verdict"] for row in json.loads((tmp_path / "out.json").read_text())["results"]]
    assert verdicts.count("wrong") == 20 and verdicts.count("correct") == 10


@pytest.mark.parametrize("refusal", [FLAGGED, FILTERED], ids=["status 403", "status 400"])
def test_a_judge_that_refuses_many_answers_in_a_row_but_is_there_is_not_given_up(refusal, evaluate, tmp_path):
    """After --resume all others come from the cache; with --samples all replies to one question are near."""
    code, _, err = evaluate(lambda n: reply_with("NO") if n <= 5 else refusal)
    assert code == 0 and err.count("\nThe built-in matcher grades this answer.") == 25, err
    verdicts = [row["verdict"] for row in json.loads((tmp_path / "out.json").read_text())["results"]]
    assert verdicts.count("wrong") == 5 and verdicts.count("correct") == 25
