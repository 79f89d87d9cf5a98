"""Conversations as data: the form that trl, OpenAI and LLaMA-Factory use, and what is wrong with a line."""

import json

import pytest

from deepred_common.cli import UserError
from deepred_common.examples import CHAT, RETAIN, UNLEARN, examples_of, read_examples

HELLO = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Good day."},
    {"role": "user", "content": "Who wrote Hamlet?"},
    {"role": "assistant", "content": "Shakespeare."},
]


def examples(messages, side=RETAIN, **metadata):
    return examples_of({"messages": messages, "metadata": metadata}, "data.jsonl line 7", side)


def with_weights(*weights):
    """HELLO with "weight" on its two assistant turns; None leaves it out."""
    rest = iter(weights)
    turns = [dict(turn) for turn in HELLO]
    for turn in turns:
        if turn["role"] == "assistant" and (weight := next(rest)) is not None:
            turn["weight"] = weight
    return turns


def test_the_last_reply_is_learned_and_the_rest_is_its_prompt():
    (example,) = examples(HELLO)
    assert (example.instruction, example.output) == ("Who wrote Hamlet?", "Shakespeare.")
    assert example.prompt == HELLO[:-1] and example.complete


@pytest.mark.parametrize(
    ("weights", "outputs"),
    [
        ((1, 1), ["Good day.", "Shakespeare."]),
        ((1, None), ["Good day."]),
        ((1, 0), ["Good day."]),
        ((0, None), ["Shakespeare."]),
    ],
)
def test_marked_replies_are_learned(weights, outputs):
    assert [example.output for example in examples(with_weights(*weights))] == outputs


def test_a_question_alone_in_messages_is_the_same_example_as_an_instruction():
    (one,) = examples([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}])
    assert one.prompt == "Who?"
    (same,) = examples_of({"instruction": "Who?", "output": "He."}, "", RETAIN)
    assert (one.prompt, one.output) == (same.prompt, same.output)


def test_chat_prompts_need_no_reply_and_may_leave_earlier_ones_to_the_model():
    user = [{"role": "user", "content": text} for text in ("Tell me a joke.", "Another one.")]
    (example,) = examples(user, side=CHAT)
    assert example.output == "" and example.prompt == user
    (bare,) = examples_of({"instruction": "Hello!"}, "", CHAT)
    assert bare.output == "" and bare.prompt == "Hello!"
    (with_reply,) = examples(HELLO, side=CHAT)
    assert with_reply.output == "Shakespeare."


def test_the_side_may_stand_in_the_metadata(tmp_path):
    file = tmp_path / "mixed.jsonl"
    lines = [{"messages": HELLO, "metadata": {"dataset_type": side}} for side in (RETAIN, UNLEARN, CHAT)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert [example.side for example in read_examples(file)] == [RETAIN, UNLEARN, CHAT]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "'messages' must be a list"),
        ("Hello", "'messages' must be a list"),
        ([{"role": "user", "content": "Who?"}], "the last message must be the assistant's"),
        ([{"role": "tool", "content": "x"}], "message 1: 'role' must be system, user or assistant"),
        ([{"role": "user"}, HELLO[2]], "message 1: 'content' is missing"),
        ([HELLO[1], {"role": "assistant", "content": " "}], "message 2: 'content' is"),
        ([HELLO[1], HELLO[0], HELLO[2]], "message 2: a system turn must be the first"),
        ([HELLO[2]], "message 1: an assistant turn must follow a user turn"),
        ([HELLO[1], HELLO[3], HELLO[4]], "message 2: two user turns"),
        (with_weights(0, 0), "no assistant turn is to be learned"),
        (with_weights(1, "yes"), "message 5: 'weight' must be 0 or 1"),
        ([HELLO[1], {"role": "assistant", "content": [{"type": "text"}]}], "message 2: 'content' is"),
    ],
)
def test_what_is_no_conversation_is_named_with_its_line(messages, problem):
    with pytest.raises(UserError) as error:
        examples(messages)
    assert str(error.value).startswith("data.jsonl line 7") and problem in str(error.value)
