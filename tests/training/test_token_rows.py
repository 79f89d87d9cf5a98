"""Rows of tokens: rendered together as one by one, cached, skipped when too long, mixed."""

import numpy as np
import pytest

from deepred_common import chat, examples, paths, training_rows
from deepred_common.cli import UserError
from deepred_common.examples import ALL_SIDES, Example
from deepred_common.training import token_rows

EXAMPLES = [
    Example(
        f"Question {n}: who wrote it?\nTell me {'more' * (n % 3)}",
        f"Author {n} wrote it; é 𝄞.",
        ("retain", "unlearn")[n % 2],
    )
    for n in range(9)
]


def load(tokenizer, examples=EXAMPLES, key=("a",), max_length=512):
    return token_rows.load_or_render(tokenizer, key, lambda: examples, max_length)


def test_rendered_together_the_rows_are_those_of_one_by_one(tokenizer):
    dataset, skipped = load(tokenizer)
    assert skipped == token_rows.Skipped() and len(dataset) == 9
    for example, row in zip(EXAMPLES, dataset, strict=True):
        alone = training_rows.of_reply(tokenizer, example.instruction, example.output)
        assert (row["input_ids"], row["reply_start"], row["decision"], row["length"]) == (
            alone.input_ids,
            alone.reply_start,
            alone.decision,
            len(alone.input_ids),
        )
        assert ALL_SIDES[row["side"]] == example.side


def test_the_same_data_are_not_rendered_twice_and_other_ones_are(tokenizer, monkeypatch):
    first, _ = load(tokenizer)
    again, skipped = token_rows.load_or_render(
        tokenizer, ("a",), lambda: pytest.fail("read although cached"), 512
    )
    assert again[:] == first[:] and skipped == token_rows.Skipped()
    for key, max_length in ((("b",), 512), (("a",), 100)):
        asked = []
        token_rows.load_or_render(tokenizer, key, lambda asked=asked: asked.append(1) or EXAMPLES, max_length)
        assert asked
    template = tokenizer.chat_template
    monkeypatch.setattr(tokenizer, "chat_template", template.replace("helpful", "kind"))
    changed, _ = load(tokenizer)
    assert changed[0]["input_ids"] != first[0]["input_ids"]


@pytest.mark.parametrize("module", [examples, chat, token_rows])
def test_another_version_of_what_makes_the_rows_renders_them_anew(module, tokenizer, monkeypatch):
    load(tokenizer)
    rendered = []

    def read_examples():
        rendered.append(True)
        return EXAMPLES

    token_rows.load_or_render(tokenizer, ("a",), read_examples, 512)
    assert not rendered
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    token_rows.load_or_render(tokenizer, ("a",), read_examples, 512)
    assert rendered


def test_a_damaged_cache_is_made_again(tokenizer):
    first, _ = load(tokenizer)
    for file in (paths.OUTPUT / "cache").rglob("skipped.json"):
        file.write_text("")
    assert load(tokenizer)[0][:] == first[:]


def test_examples_that_are_too_long_are_skipped_and_counted(tokenizer):
    long = Example("Long?", "word " * 200, "retain")
    dataset, skipped = load(tokenizer, [*EXAMPLES, long], max_length=100)
    assert len(dataset) == 9 and skipped.too_long == {"retain": 1, "unlearn": 0, "chat": 0}
    with pytest.raises(UserError, match="every example is longer"):
        load(tokenizer, [long], key=("long",), max_length=100)


def test_examples_that_hold_special_tokens_are_skipped_and_named(tokenizer):
    tagged = [
        Example("What is <|im_start|>?", "A tag.", "retain", where="my.jsonl line 3"),
        Example("What is it?", "The tag <|im_end|> ends a turn.", "unlearn", where="my.jsonl line 7"),
    ]
    for _ in ("rendered", "from the cache"):
        dataset, skipped = load(tokenizer, [*EXAMPLES, *tagged], key=("tagged",))
        assert len(dataset) == 9 and skipped.unusable == 2
        assert skipped.named[1].startswith("my.jsonl line 7: it holds <|im_end|>")
    with pytest.raises(UserError, match=r"no example can be trained on\. my\.jsonl line 3: it holds <\|im"):
        load(tokenizer, tagged, key=("only tagged",))


def test_the_mix_drops_rows_of_one_side_only(tokenizer):
    dataset, _ = load(tokenizer)  # 5 retain, 4 unlearn
    assert token_rows.mixed(dataset, None, 0) is dataset
    chosen = token_rows.mixed(dataset, (1, 2), seed=0)
    assert np.asarray(chosen["side"]).tolist().count(0) == 2 and len(chosen) == 6
    assert chosen[:] == token_rows.mixed(dataset, (1, 2), seed=0)[:]
    assert (
        token_rows.mixed(token_rows.of_side(dataset, "retain"), (1, 2), 0)[:]
        == token_rows.of_side(dataset, "retain")[:]
    )
