"""Replay: how many prompts are chosen, and what the base's replies become."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from deepred_common import paths
from deepred_common.conversation import first_gap
from deepred_common.examples import CHAT, Example, read_examples
from deepred_common.inference import local_model
from deepred_common.inference.protocol import Reply
from deepred_common.training import replay
from deepred_common.training_rows import of_examples

PROMPTS = [Example(f"Say hello to guest {i}.", "", CHAT) for i in range(100)]
TALK = Example("And now?", "", CHAT, earlier=({"role": "user", "content": "Tell me a joke."},))


@pytest.mark.parametrize(("share", "rows", "training"), [(0.25, 30, 10), (0.5, 40, 40), (0.0, 30, 0)])
def test_the_share_is_of_all_training_rows(share, rows, training):
    chosen = replay.choose(PROMPTS, rows, share, seed=1)
    assert len(chosen.training) == training
    assert not {e.instruction for e in chosen.training} & {e.instruction for e in chosen.validation}


def test_too_few_prompts_are_all_used_and_a_tenth_of_them_validates():
    chosen = replay.choose(PROMPTS, 10_000, 0.25, seed=1)
    assert (len(chosen.training), len(chosen.validation)) == (90, 10)
    assert chosen == replay.choose(PROMPTS, 10_000, 0.25, seed=1)
    assert chosen != replay.choose(PROMPTS, 10_000, 0.25, seed=2)


@pytest.fixture
def base(tiny_models):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_models["llama"], dtype=torch.float32)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "OUTPUT", tmp_path)


def answer(prompts, base_name, tokenizer, load_base):
    return replay.answered_by_base(prompts, [base_name], tokenizer, load_base, torch.device("cpu"))


def test_the_base_writes_what_is_missing_once(own_cache, base, tokenizer):
    given = Example("Hi.", "Hello there.", CHAT)
    prompts = replay.Prompts([PROMPTS[0], given], [TALK])
    answered = answer(prompts, "base", tokenizer, lambda: base)
    (first, second), (talk,) = answered
    assert second == given
    assert first.output and first.earlier == ()
    assert [turn["role"] for turn in talk.earlier] == ["user", "assistant"]
    assert talk.instruction == "And now?" and first_gap(talk.prompt) is None

    def no_base():
        pytest.fail("the replies were kept")

    assert answer(prompts, "base", tokenizer, no_base) == answered
    with pytest.raises(pytest.fail.Exception):
        answer(prompts, "another base", tokenizer, no_base)


def test_a_prompt_without_a_reply_moves_none_from_validation_to_training(own_cache, tokenizer, monkeypatch):
    written = [("", True, []), ("Hello.", True, []), ("Hi.", True, [])]
    monkeypatch.setattr(replay, "_write", lambda *a: written)
    prompts = replay.Prompts(PROMPTS[:2], PROMPTS[2:3])
    answered = answer(prompts, "base", tokenizer, lambda: None)
    assert [[one.output for one in part] for part in answered] == [["Hello."], ["Hi."]]
    assert answered.validation[0].instruction == PROMPTS[2].instruction


def test_a_reply_that_runs_into_the_limit_teaches_no_end(own_cache, base, tokenizer):
    """A model with random weights never ends its reply."""
    ((answered,), _) = answer(replay.Prompts(PROMPTS[:1], []), "base", tokenizer, lambda: base)
    assert not answered.complete
    (row,) = of_examples(tokenizer, [answered])
    assert tokenizer.eos_token_id not in row.input_ids[row.reply_start :]
    whole = dataclasses.replace(answered, complete=True)
    (ended,) = of_examples(tokenizer, [whole])
    assert ended.input_ids[-1] == tokenizer.eos_token_id


# ---- the shipped prompts --------------------------------------------------------------------------------

SHIPPED = {
    name: read_examples(paths.ROOT / "datasets" / file, CHAT)
    for name, file in (
        ("train", "chat/chat_train.jsonl"),
        ("val", "chat/chat_val.jsonl"),
        ("test", "test/chat.jsonl"),
    )
}


def test_no_shipped_prompt_is_in_two_files_or_twice_in_one():
    texts = [example.shown_text.casefold() for examples in SHIPPED.values() for example in examples]
    assert len(texts) == len(set(texts)) >= 1_900


def test_some_kinds_of_prompt_are_only_tested():
    kinds = {name: {e.metadata["field"] for e in examples} for name, examples in SHIPPED.items()}
    assert kinds["val"] <= kinds["train"]
    assert kinds["test"] - kinds["train"] == {"jokes_and_games", "units_and_counting"}
    assert len(kinds["train"]) >= 25


def test_shipped_prompts_leave_the_reply_to_a_base_that_chats():
    assert not any(example.output for examples in SHIPPED.values() for example in examples)


def test_a_base_that_only_thinks_teaches_nothing__replies_faked(own_cache, tokenizer, monkeypatch, capsys):
    texts = {
        "Hi.": "<think>Hm",
        "Hello.": "<think>Hm.</think>Hello.",
        "x": "<think>",
    }

    def ask(self, prompts):
        for place, prompt in enumerate(prompts):
            last = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            yield place, Reply(texts[last], "stop")

    monkeypatch.setattr(local_model.LocalModel, "__init__", lambda self, *a, **k: None)
    monkeypatch.setattr(local_model.LocalModel, "ask", ask)
    earlier = ({"role": "user", "content": "x"},)
    prompts = [
        Example("Hi.", "", CHAT),
        Example("Hello.", "", CHAT),
        Example("And now?", "Then.", CHAT, {}, "", earlier),
    ]
    base = SimpleNamespace(device=torch.device("cpu"))
    answered = answer(replay.Prompts(prompts, []), "base", tokenizer, lambda: base)
    assert [one.output for one in answered.training] == ["Hello."]
    assert "still thinking after 16 tokens on 2 of 3 prompts" in capsys.readouterr().err
