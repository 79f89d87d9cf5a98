"""Conversations in which the model writes earlier replies too."""

from dataclasses import dataclass, field

import pytest

from deepred_common.conversation import first_gap, shown_turns, with_replies
from deepred_common.inference import conversations
from deepred_common.inference.protocol import Reply


def user(*texts):
    return [{"role": "user", "content": text} for text in texts]


@dataclass
class Echo:
    """A stand-in for a model: it replies with how many turns it was shown and the last one's text."""

    shown: list = field(default_factory=list)

    def ask(self, prompts):
        for index, prompt in enumerate(prompts):
            self.shown.append(prompt)
            text = prompt[-1]["content"]
            yield (
                index,
                Reply(None, error="down") if text == "fail" else Reply(f"{len(prompt)}:{text}", "stop"),
            )


def test_each_missing_reply_is_written_in_turn():
    prompts = [user("a", "b", "c"), "plain", [{"role": "system", "content": "s"}, *user("x")]]
    model = Echo()
    replies = dict(conversations.ask(model, prompts))
    assert replies[0] == Reply("5:c", "stop", turns=("1:a", "3:b"))
    assert replies[1] == Reply("1:plain", "stop") and replies[2].turns == ()
    last = next(prompt for prompt in model.shown if prompt[-1]["content"] == "c")
    assert [turn["role"] for turn in last] == ["user", "assistant", "user", "assistant", "user"]


def test_a_conversation_fails_if_an_earlier_reply_does():
    replies = dict(conversations.ask(Echo(), [user("fail", "b"), user("a", "b")]))
    assert replies[0].error == "down" and replies[1].text == "3:b"


def test_a_conversation_ends_with_a_thought_that_has_no_end():
    model = Echo()
    replies = dict(conversations.ask(model, [user("<think>Hm", "b"), user("<think>Hm</think>Yes.", "b")]))
    assert replies[0].text == "1:<think>Hm"
    assert replies[1].text == "3:b" and replies[1].turns == ("1:<think>Hm</think>Yes.",)
    assert model.shown[-1][1]["content"] == "1:\nYes."


def test_a_conversation_ends_where_it_is_not_to_go_on():
    def goes_on(index, answer):
        return "no" in answer

    prompts = [user("yes", "b", "c"), user("no", "yes", "c"), user("no", "no", "c")]
    replies = dict(conversations.ask(Echo(), prompts, goes_on=goes_on))
    assert [(replies[n].text, replies[n].turns) for n in range(3)] == [
        ("1:yes", ()),
        ("3:yes", ("1:no",)),
        ("5:c", ("1:no", "3:no")),
    ]
    shown = [shown_turns(prompts[n], replies[n].turns) for n in range(3)]
    assert [turns[-1]["content"] for turns in shown] == ["yes", "yes", "c"]


def test_replies_are_put_into_their_gaps():
    assert first_gap(user("a")) is None
    filled = with_replies(user("a", "b"), ["one"])
    assert [turn["content"] for turn in filled] == ["a", "one", "b"]
    with pytest.raises(ValueError, match="no reply is missing"):
        with_replies(user("a"), ["one"])
