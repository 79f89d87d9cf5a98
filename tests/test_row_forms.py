"""Rows in the keys of other tools: read as the same examples as rows in ours, or refused by name."""

import pytest

from deepred_common.cli import UserError
from deepred_common.examples import CHAT, RETAIN, examples_of

QUESTION, ANSWER = "Who wrote Hamlet?", "Shakespeare."
TURNS = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
SHAREGPT = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]
SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day."}]


def read(row, side=RETAIN):
    (example,) = examples_of(row, "data.jsonl line 7", side)
    return example


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": QUESTION, "response": ANSWER},
        {"prompt": QUESTION, "completion": ANSWER},
        {"question": QUESTION, "answer": ANSWER},
        {"query": QUESTION, "response": ANSWER},
        {"input": QUESTION, "output": ANSWER},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"conversations": SHAREGPT},
        {"conversations": TURNS},
        {"instruction": QUESTION, "input": "", "output": ANSWER, "system": "", "history": []},
        {"instruction": QUESTION, "input": None, "output": ANSWER, "system": None, "history": None},
        {"instruction": QUESTION, "output": ANSWER, "messages": None, "conversations": None},
        {"prompt": QUESTION, "completion": ANSWER, "question": None, "instruction": None},
        {"question": QUESTION, "answer": ANSWER, "response": None, "input": None},
        {"messages": [turn | {"weight": None, "name": None} for turn in TURNS], "instruction": None},
        {"conversations": [turn | {"role": None, "content": None, "weight": None} for turn in SHAREGPT]},
        {"prompt": [TURNS[0] | {"weight": None}], "completion": [TURNS[1] | {"weight": None}]},
    ],
)
def test_the_same_example_in_other_tools_keys(row):
    example = read({**row, "metadata": {"field": "plays"}})
    assert (example.prompt, example.output, example.metadata) == (QUESTION, ANSWER, {"field": "plays"})


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Who wrote", "input": "Hamlet?", "output": ANSWER},
        {"prompt": "Who wrote\n\nHamlet?", "response": ANSWER},
        {"messages": [{"role": "user", "content": "Who wrote\n\nHamlet?"}, TURNS[1]]},
        {"conversations": [{"from": "human", "value": "Who wrote\n\nHamlet?"}, SHAREGPT[1]]},
    ],
)
def test_a_system_prompt_and_a_history_beside_the_turns_are_what_the_model_is_shown(row):
    example = read({**row, "system": "Be brief.", "history": [["Hello!", "Good day."]]})
    assert example.output == ANSWER
    assert example.prompt == [SYSTEM, *EARLIER, {"role": "user", "content": "Who wrote\n\nHamlet?"}]


def test_a_chat_prompt_alone_may_be_called_prompt():
    example = read({"prompt": "Hello!"}, CHAT)
    assert (example.prompt, example.output) == ("Hello!", "")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"prompt": QUESTION, "chosen": ANSWER, "rejected": "Me."},
            "line 7: 'output' is missing (the line has 'prompt', 'chosen',",
        ),
        (
            {"prompt": QUESTION, "question": QUESTION, "answer": ANSWER},
            "'instruction' is missing (the line has 'prompt', 'q",
        ),
        ({"text": QUESTION + ANSWER}, "'instruction' is missing (the line has 'text')"),
        ({"question": QUESTION, "answer": 1603}, "'output' is 1603; it must be a text"),
        (
            {"instruction": QUESTION, "output": None},
            "'output' is missing (the line has 'instruction')",
        ),
        ({"messages": [TURNS[0], {"role": "assistant", "content": None}]}, "message 2: 'content' is missing"),
        ({"instruction": QUESTION, "input": ["x"], "output": ANSWER}, "'input' is [\"x\"]; it must be"),
        ({"instruction": QUESTION, "input": 5, "output": ANSWER, "system": "Be brief."}, "'input' is 5; it"),
        ({"conversations": QUESTION}, "'messages' must be a list"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "message 1: 'role' must be system, user or"),
        ({"conversations": SHAREGPT[1:]}, "message 1: an assistant turn must follow a user turn"),
        ({"instruction": QUESTION, "output": ANSWER, "history": [["Hello!"]]}, "message 1: 'content' is"),
        ({"messages": [SYSTEM, *TURNS], "system": "Be long."}, "message 2: a system turn must be the first"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(row, problem):
    with pytest.raises(UserError) as error:
        read(row)
    assert str(error.value).startswith("data.jsonl line 7") and problem in str(error.value)
