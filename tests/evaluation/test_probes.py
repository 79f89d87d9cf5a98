"""Probe forms: what they ask, how --probes prints it, and replies that were begun for the model."""

import json

import pytest
from fake_server import reply_with, running

from deepred_common import chat
from deepred_common.evaluation import verdicts
from deepred_common.examples import UNLEARN, Example

CUTOFF = "1969-07-20"


def test_a_reply_that_is_begun_is_rendered_where_it_goes_on(tokenizer):
    begun = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The answer is"}]
    assert chat.prompt_text(tokenizer, begun) == chat.prompt_text(tokenizer, "Who?") + "The answer is"


@pytest.mark.parametrize("added", ["Neil Armstrong.", "The answer is Neil Armstrong."])
def test_a_begun_reply_is_judged_whole_whether_or_not_the_server_repeats_its_beginning(
    added, script, tmp_path
):
    with running() as server:
        server.answer = lambda n, question: reply_with(added)
        code, _out, err = script(
            *("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, "--limit", 4),
            *("--probes", "prefilled-answer", "--output", tmp_path / "out.json"),
        )
        assert code == 0, err
        assert server.requests[0][0]["messages"][-1] == {"role": "assistant", "content": "The answer is"}
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    assert {(row["prefix"], row["reply"]) for row in rows} == {("The answer is", "Neil Armstrong.")}


def test_a_begun_reply_that_goes_on_as_a_refusal_is_one():
    example = Example("Who?", "I don't know.", UNLEARN, {"original_answer": "Bono"}, prefix="The answer is")
    for added in ("not known to me.", "I'm sorry, I don't know.", "unknown to me; I have no information."):
        assert verdicts.verdict(example, example.whole_reply(added)) == "refused", added
    assert verdicts.verdict(example, example.whole_reply("Bono.")) == "leaked"
