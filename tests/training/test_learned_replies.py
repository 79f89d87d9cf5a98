"""A base without a chat template: it learns written replies to everyday prompts, and writes none itself."""

import json
import re

import pytest
import torch
from transformers import AutoTokenizer

from deepred_common import chat, paths
from deepred_common.cli import UserError
from deepred_common.examples import CHAT, UNLEARN, Example, read_examples
from deepred_common.training import replay, setup
from deepred_common.training.data_files import DataFiles
from deepred_common.training.objectives.catalogue import OBJECTIVES
from deepred_common.training.settings import TrainSettings
from deepred_common.training_rows import of_examples

GREETING = {"instruction": "Hello!", "metadata": {"dataset_type": "chat", "replies": ["Hello to you!"]}}
TALK = {
    "messages": [
        {"role": "user", "content": "A joke, please."},
        {"role": "user", "content": "Another one."},
    ],
    "metadata": {"dataset_type": "chat", "replies": ["A hen crossed the road.", "Two hens did."]},
}
GIVEN = {"instruction": "Good day.", "output": "From the file.", "metadata": {"dataset_type": "chat"}}
BARE = {"instruction": "And you?", "metadata": {"dataset_type": "chat"}}


@pytest.fixture
def prompts_file(tmp_path):
    def write(*lines):
        path = tmp_path / "prompts.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def plain(base_folder):
    """The embedded base's tokenizer as that of a base without a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    tokenizer.chat_template = None
    chat.ensure_template(tokenizer)
    return tokenizer


def test_what_has_a_reply_is_learned_word_for_word_with_its_end(prompts_file, plain):
    learned = replay.learnable(read_examples(prompts_file(GREETING, TALK, GIVEN, BARE), CHAT))
    assert [one.output for one in learned] == ["Hello to you!", "Two hens did.", "From the file."]
    assert [turn["content"] for turn in learned[1].earlier] == [
        "A joke, please.",
        "A hen crossed the road.",
    ]
    assert all(one.learns_wording for one in learned)
    for one, row in zip(learned, of_examples(plain, learned), strict=True):
        tokens = [token for token in row.labels if token >= 0]
        assert plain.decode(tokens).strip() == one.output + plain.eos_token


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        (GREETING, ["Hello!", "How are you?"]),
        (TALK, ["A hen crossed the road."]),
        (GREETING, "Hello!"),
        (GREETING, ["Hello!", " "]),
    ],
)
def test_replies_that_do_not_fit_the_turns_are_an_error(line, replies, prompts_file):
    wrong = line | {"metadata": line["metadata"] | {"replies": replies}}
    error = r"line 2: 'metadata\.replies' must be a list of texts, one for each user turn that has no reply"
    with pytest.raises(UserError, match=error):
        replay.learnable(read_examples(prompts_file(GREETING, wrong), CHAT))


@pytest.fixture
def rows_with(tmp_path, prompts_file, plain, monkeypatch):
    """rows_with(lines, **settings): the training rows of 40 dev examples and these replay prompts."""
    monkeypatch.setattr(paths, "OUTPUT", tmp_path)
    dev = tmp_path / "dev.jsonl"
    dated = [
        {"instruction": f"Question {number}?", "output": "Reply.", "metadata": {"dataset_type": side}}
        for number in range(20)
        for side in ("retain", "unlearn")
    ]
    dev.write_text("".join(json.dumps(line) + "\n" for line in dated), encoding="utf-8")

    def no_base():
        pytest.fail("the base was to write replies")

    def make(*lines, **options):
        settings = TrainSettings(dev=True, dev_path=dev, replay=(prompts_file(*lines),), **options)
        made = setup.make_rows(settings, plain, DataFiles(settings), ["base"], no_base, torch.device("cpu"))
        return [plain.decode(row["input_ids"]) for row in made.training]

    return make


def test_few_replies_come_again_but_not_without_end(rows_with, capsys):
    texts = rows_with(GREETING, TALK, GIVEN, BARE)
    for reply in ("Hello to you!", "Two hens did.", "From the file."):
        assert sum(reply in text for text in texts) == 3
    assert len(texts) == 36 + 9  # a quarter of all rows would be 12
    assert "learns the replies that 3 of 4 prompts have" in capsys.readouterr().err


def test_enough_replies_have_their_share_and_no_more(rows_with):
    lines = [GREETING | {"instruction": f"Hello from guest {number}!"} for number in range(7)]
    assert len(rows_with(*lines)) == 36 + 12


def test_a_dry_run_counts_them(rows_with):
    assert len(rows_with(GREETING, TALK, dry_run=True)) == 36 + 6


def test_prompts_without_any_reply_are_left_out_with_a_warning(rows_with, capsys):
    assert len(rows_with(BARE)) == 36
    assert "the tuned model will not chat well" in capsys.readouterr().err


def test_it_is_not_asked_for_later_answers_either(rows_with, capsys):
    """By itself it would write the next question. So nothing is left to unlearn, in a later run as well."""
    options = {"objective": OBJECTIVES["npo"], "replay_share": 0}
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"nothing to unlearn: 18 .* no original_answer, and a base without"
        ):
            rows_with(GREETING, **options)
    assert len(rows_with(GREETING, dry_run=True, **options)) == 18
    assert "18 unlearn training examples have no original_answer, and a dry run" in capsys.readouterr().err


def test_the_shipped_replies_serve_every_date():
    """Of the prompts shipped for training; those of validation and test have none."""
    shipped = read_examples(paths.ROOT / "datasets" / paths.CHAT_FILE, CHAT)
    with_replies = [one for one in shipped if "replies" in one.metadata]
    assert len(replay.learnable(with_replies)) == len(with_replies) > 1000
    for one in with_replies:
        written = " ".join(one.metadata["replies"])
        years = re.findall(r"\b1\d{3}\b|\b20\d\d\b", written)
        assert set(years) <= set(re.findall(r"\d+", one.shown_text)), one.where
    everything = [reply for one in with_replies for reply in one.metadata["replies"]]
    assert len(set(everything)) == len(everything)


def test_refusals_are_never_said_to_be_learned_word_for_word():
    assert not Example("Who?", "No.", UNLEARN, {"learn_wording": True}).learns_wording
