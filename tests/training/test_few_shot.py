"""Replay of a base without a chat template: shown some exchanges first, it replies, and that is learnt."""

import re

import pytest
import torch
from transformers import AutoTokenizer

from deepred_common import chat, paths
from deepred_common.examples import CHAT, UNLEARN, Example, read_examples
from deepred_common.inference import local_model
from deepred_common.inference.protocol import Reply
from deepred_common.training import few_shot, replay
from deepred_common.training_rows import of_examples


@pytest.mark.parametrize(
    ("written", "finish", "kept"),
    [
        ("Good day.\n\n### Question:\nWho are you?\n\n### Ans", "length", "Good day."),
        ("Good day.\n###", "stop", "Good day."),
        ("### Answer:\nGood day.", "length", ""),
        ("Good day", "stop", "Good day"),
        ('He said: "Go." Then he went to the', "length", 'He said: "Go."'),
        ("Take these:\n1. Flour.\n2. Sug", "length", "Take these:\n1. Flour."),
        ("a list of what", "length", ""),
    ],
)
def test_a_reply_ends_before_the_next_turn_or_with_a_sentence(written, finish, kept):
    assert few_shot.whole_reply(Reply(written, finish)) == kept


@pytest.mark.parametrize(
    ("reply", "message", "usable"),
    [
        ("Salt it before.", "Do I salt the water before or after?", True),
        ("I'm sorry, I don't know.", "What keeps a spinning top upright?", False),
        ("", "Hello!", False),
        ("I write to you. " * 6, "How do I begin a letter?", False),
        ("It is late and I am tired of this.", "It is late and I am tired of this.", False),
    ],
)
def test_what_is_not_learnt(reply, message, usable):
    assert few_shot.is_usable(reply, message) == usable


def test_the_shipped_exchanges_end_serve_every_date_and_are_nowhere_else(tokenizer):
    shown = read_examples(few_shot.EXCHANGES, CHAT)
    assert 6 <= len(shown) <= 16
    for exchange in shown:
        assert exchange.output.endswith((".", "?", "!"))
        assert not re.search(r"\d{4}", exchange.instruction + exchange.output)
    asked = {exchange.instruction.casefold() for exchange in shown}
    for name in ("chat/chat_train", "chat/chat_val", "test/chat"):
        prompts = read_examples(paths.ROOT / "datasets" / f"{name}.jsonl", CHAT)
        assert not asked & {prompt.instruction.casefold() for prompt in prompts}
    # A batch reads them once only if they are shorter than a sliding window (Gemma's has 512 tokens).
    assert len(tokenizer(" ".join(turn["content"] for turn in few_shot.exchanges()))["input_ids"]) < 450


@pytest.fixture
def plain(base_folder):
    """The embedded base's tokenizer as that of a base without a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    tokenizer.chat_template = None
    chat.ensure_template(tokenizer)
    return tokenizer


@pytest.fixture
def base(tiny_models):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_models["llama"], dtype=torch.float32)


def test_replies_are_written_after_the_exchanges_and_learnt_with_their_ends__replies_faked(
    plain, base, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(paths, "OUTPUT", tmp_path)
    texts = {
        "Hi.": "Hello, you.\n\n### Question:\n",
        "A joke, please.": "A hen crossed the road.\n\n### Question:\nWhy",
        "Another one.": "Two hens did.",
        "Go on.": "I'm sorry, I don't know.\n\n###",
        "And then?": "Never asked.",
        "Bye.": "and and and and",
        "I am ill.": "I'm sorry to hear that. Perhaps you could tell him that you are ill.",
    }
    shown = []

    def ask(self, prompts, draws=None):
        for place, turns in enumerate(prompts):
            shown.append(turns)
            is_second_bye = draws and turns[-1]["content"] == "Bye."
            yield place, Reply("Goodbye." if is_second_bye else texts[turns[-1]["content"]], "length")

    monkeypatch.setattr(local_model.LocalModel, "ask", ask)

    def user(text):
        return ({"role": "user", "content": text},)

    prompts = [
        Example("Hi.", "", CHAT),
        Example("Another one.", "", CHAT, earlier=user("A joke, please.")),
        Example("And then?", "", CHAT, earlier=user("Go on.")),
        Example("Bye.", "", CHAT),
        Example("I am ill.", "", CHAT),
        Example("Given.", "By the user's file.", CHAT),
    ]
    answered, _ = replay.answered_by_base(
        replay.Prompts(prompts, []), ["base"], plain, lambda: base, torch.device("cpu")
    )
    exchanges = few_shot.exchanges()
    assert all(turns[: len(exchanges)] == exchanges for turns in shown)
    replies = ["Hello, you.", "Two hens did.", "Goodbye.", "By the user's file."]
    assert [one.output for one in answered] == replies
    assert answered[1].earlier[1] == {"role": "assistant", "content": "A hen crossed the road."}
    assert "on 2 of 5 prompts the base refused, looped" in capsys.readouterr().err
    assert all(one.learns_wording for one in answered)
    for row in of_examples(plain, answered):
        assert row.input_ids[-1] == plain.eos_token_id
    assert "crossed the road" not in plain.decode(of_examples(plain, answered[:1])[0].input_ids)


def test_a_base_that_begins_the_next_turn_is_not_asked_to_write_it(plain, base):
    model = few_shot.FewShotModel(base, plain, batch_size=1)
    assert {plain.decode([stop]).strip() for stop in model._stops} == {plain.eos_token, "###"}


def test_refusals_are_never_said_to_be_learnt_word_for_word():
    assert not Example("Who?", "No.", UNLEARN, {"learn_wording": True}).learns_wording
