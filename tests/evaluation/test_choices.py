"""Four answers by probability: the form, its verdicts, and what a model knows behind its words."""

import json

import pytest
from conftest import line
from fake_server import NOT_FOUND, reply_with, running

from deepred_common.evaluation import knowledge
from deepred_common.evaluation.probes import choice_by_probability

FORM = choice_by_probability.NAME
UNKNOWN = "gives no probabilities of given answers"


def test_the_true_answer_counts_where_its_mean_over_tokens_is_the_largest(script, tiny_models, tmp_path):
    file = tmp_path / "out.json"
    code, out, err = script(
        *("evaluate_temporal", "--model_path", tiny_models["llama"], "--probes", "direct", FORM),
        *("--limit", 6, "--max_tokens", 2, "--output", file),
    )
    assert code == 0, err
    results = json.loads(file.read_text())
    scored = [row for row in results["results"] if row["scores"]]
    assert len(scored) == 6 and all(row["probe"] == FORM for row in scored)
    for row in scored:
        means = {answer: total / tokens for answer, (total, tokens) in row["scores"].items()}
        best = max(means, key=means.get)
        assert len(means) == 4 and best in row["reply"]
        is_true = best == next(iter(means))
        assert row["verdict"] in (("correct", "leaked") if is_true else ("wrong", "confabulated"))
    known = sum(row["verdict"] in ("correct", "leaked") for row in scored)
    sides, periods = results["knowledge"]["sides"], results["knowledge"]["periods"]
    assert sum(one["likeliest"] for one in sides.values()) == known
    assert sum(one["facts"] for one in periods.values()) == 6
    assert f"true one likeliest {sides['unlearn']['likeliest']} of 3" in out


def test_the_difference_is_that_of_means_over_tokens():
    def row(date, side, true):
        return {
            "side": side,
            "date": date,
            "scores": {"Bono": [2 * true, 2], "Sting": [-8.4, 3], "Cher": [-4.0, 1], "Moby": [-10.4, 2]},
        }

    rows = [row("1995", "unlearn", -3.0), row("1991-02", "unlearn", -5.0), row("1815", "retain", -1.0)]
    found = knowledge.measure([*rows, {"side": "retain", "date": "1815", "scores": None}])
    assert [*found["periods"]] == ["1800s", "1990s"] and [*found["sides"]] == ["retain", "unlearn"]
    later = found["periods"]["1990s"]
    assert (later["facts"], later["likeliest"], later["difference"]) == (2, 0, pytest.approx(0.0))
    assert (later["low"], later["high"]) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert found["sides"]["retain"]["likeliest"] == 1 and knowledge.measure([]) is None


def test_a_server_without_scores_is_asked_the_other_forms__server_faked(script, tmp_path):
    with running() as server:
        server.answer = lambda n, question: (
            reply_with("I don't know.") if "model" in server.requests[-1][0] else NOT_FOUND
        )
        asked = ("--use_lmstudio", "--lmstudio_url", server.url, "--limit", 4)
        code, _, err = script(
            *("evaluate_temporal", *asked, "--probes", "direct", FORM, "--output", tmp_path / "a.json")
        )
        assert code == 0 and f"{UNKNOWN}, as llama.cpp's does: the form {FORM} is left out" in err
        alone = ("--probes", FORM, "--output", tmp_path / "b.json")
        code_alone, _, err_alone = script("evaluate_temporal", *asked, *alone)
    results = json.loads((tmp_path / "a.json").read_text())
    assert [row["probe"] for row in results["results"]] == ["direct"] * 4 and results["knowledge"] is None
    assert code_alone == 2 and UNKNOWN in err_alone and "Traceback" not in err_alone


@pytest.mark.parametrize("given", [["Paris", "Rome"], {"A": "Paris", "B": "Rome"}, "Paris", 4])
def test_a_test_file_s_own_choices_are_no_given_answers__server_faked(given, script, tmp_path):
    """Nor does its own "until_answered" end a conversation."""
    turns = [{"role": "user", "content": "Hello!"}, {"role": "user", "content": "A joke, please."}]
    own = {"choices": given, "until_answered": True, "probe": "mine"}
    chat = {"messages": turns, "metadata": {"dataset_type": "chat", **own}}
    file = tmp_path / "mine.jsonl"
    file.write_text(line("retain", "Which town is it?", "Paris.", **own) + "\n" + json.dumps(chat))
    with running() as server:
        server.answer = lambda n, question: reply_with("It is Paris, of course.")
        code, _, err = script(
            *("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, "--test_file", file),
            *("--output", tmp_path / "out.json"),
        )
    assert code == 0, err
    asked, chatted = json.loads((tmp_path / "out.json").read_text())["results"]
    assert (asked["reply"], asked["verdict"], asked["scores"]) == ("It is Paris, of course.", "correct", None)
    assert len(chatted["turns"]) == 1 and chatted["reply"]
