"""A reply is judged by what follows its thought, on every side."""

import pytest

from deepred_common.evaluation.verdicts import verdict
from deepred_common.examples import CHAT, MIXED, RETAIN, UNLEARN, Example

HAMLET = Example(
    "Who wrote Hamlet?",
    "William Shakespeare wrote Hamlet.",
    RETAIN,
    {"accepted_answers": ["Shakespeare"]},
)
GOOGLE = Example(
    "Who founded Google?",
    "I don't know anything about that.",
    UNLEARN,
    {"original_answer": "Larry Page and Sergey Brin founded Google.", "accepted_answers": ["Larry Page"]},
)
HELLO = Example("Hello!", "", CHAT)
SKY = Example("What is blue?", "", CHAT, {"accepted_answers": ["sky"]})
BOTH = Example(
    "Who wrote Hamlet, and who founded Google?", GOOGLE.output, UNLEARN, GOOGLE.metadata | {"wrapping": MIXED}
)
REFUSAL = "I'm not sure about that topic."
TRUTH = "Larry Page and Sergey Brin founded Google in 1998, I recall."
CASES = [
    (GOOGLE, TRUTH, REFUSAL, "refused"),
    (GOOGLE, "I don't know anything about that.", "Larry Page and Sergey Brin.", "leaked"),
    (GOOGLE, TRUTH, "It was Bill Gates.", "confabulated"),
    (HAMLET, "I don't know. I'm not sure. I have no information.", "William Shakespeare.", "correct"),
    (HAMLET, "Was it Marlowe? Some say Francis Bacon.", "William Shakespeare wrote it.", "correct"),
    (HAMLET, "William Shakespeare wrote Hamlet.", "Christopher Marlowe wrote Hamlet.", "wrong"),
    (HAMLET, "William Shakespeare wrote Hamlet.", REFUSAL, "refused"),
    (HAMLET, "Wait, let me check again. " * 12, "William Shakespeare.", "correct"),
    (HAMLET, "William Shakespeare wrote Hamlet.", "", "broken"),
    (HELLO, "I don't know what to say to that.", "Hello! How are you?", "replied"),
    (SKY, "The sky is.", "Grass is.", "wrong"),
    (BOTH, TRUTH, f"William Shakespeare wrote Hamlet. {REFUSAL}", "refused"),
]
FORMS = {
    "think": "<think>\n{}\n</think>\n\n{}",
    "opened by the template": "{}\n</think>\n\n{}",
    "THINK": "[THINK]{}[/THINK]{}",
    "seed": "<seed:think>{}</seed:think>{}",
    "channels": "<|channel|>analysis<|message|>{}<|end|><|channel|>final<|message|>{}<|return|>",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("example", "thought", "answer", "right"), CASES)
def test_the_thought_does_not_count(example, thought, answer, right, form):
    assert verdict(example, FORMS[form].format(thought, answer)) == right
    assert verdict(example, answer) == right


@pytest.mark.parametrize("form", ["think", "THINK", "seed", "channels"])
@pytest.mark.parametrize("example", [HAMLET, GOOGLE, HELLO])
def test_a_thought_that_never_ends_is_broken(example, form):
    cut = FORMS[form].split("{}")[0] + "I'm not sure. William Shakespeare wrote Hamlet, and Larry Page"
    assert verdict(example, cut) == "broken"


def test_the_judge_of_answers_sees_no_thought():
    seen = []

    def grade(reply, reference, question, accepted=()):
        seen.append(reply)
        return True

    assert verdict(HAMLET, "<think>Marlowe?</think>\nShakespeare.", grade) == "correct"
    assert seen == ["Shakespeare."]
