"""Where a thought ends and the answer begins, in every form that models write."""

import pytest

from deepred_common import thought
from deepred_common.thought import FORMS, answer_of


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.example[:20])
def test_the_answer_follows_the_thought(form):
    opened, closed = form.example.split("Hm.")
    assert answer_of(form.example) == "Yes."
    # The template wrote the opening mark, or the model thinks twice.
    assert answer_of(f"Hm.{closed}") == "Yes."
    assert answer_of(form.example.replace("Hm.", "Hm.\n\n" * 50)) == "Yes."
    assert answer_of(opened + closed) == "Yes."
    assert form.in_words or answer_of(f"{opened}Hm. The year was 1945 and") is None


def test_a_reply_that_only_thinks_has_no_answer():
    assert answer_of("<think>\nIn 1945.\n</think>\n\n") == ""
    assert answer_of("In 1945.<think>Or was it?") is None
    assert answer_of("<think>One.</think>Two.<think>Three.</think> Four.") == "Two.\n Four."
    assert answer_of("<think>a <think>b</think> c</think>d") == "d"
    assert answer_of('<Thinking budget="9">Hm.</Thinking >Yes.') == "Yes."


@pytest.mark.parametrize(
    "reply",
    [
        "I think <b>so</b>.",
        "Analysis of the text: it is old.",
        "Here are my reasoning steps: first, no.",
        "[1] It is 3 < 4.",
        "  ",
    ],
)
def test_a_reply_without_a_thought_stays_as_it_is(reply):
    assert answer_of(reply) == reply


def test_a_prompt_may_open_the_thought():
    assert thought.opened_by("<|im_start|>assistant\n<think>\n") == "<think>\n"
    assert thought.opened_by("[/INST][THINK]") == "<think>\n"
    assert thought.opened_by("Here are my reasoning steps:\n") == "<think>\n"
    assert thought.opened_by("<|im_start|>assistant\n<think>\n\n</think>\n\n") == ""
    assert thought.opened_by("<|im_start|>assistant\n") == ""


def test_thought_and_answer_that_came_apart_are_one_reply():
    assert answer_of(thought.joined("Hm.", "Yes.")) == "Yes."
    assert answer_of(thought.joined("Hm.", "")) is None
    assert answer_of(thought.joined("Hm.", "<answer>Yes.</answer>")) == "Yes."
