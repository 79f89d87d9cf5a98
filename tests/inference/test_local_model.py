"""A transformers model as a back end."""

import copy

import pytest

from deepred_common import thought
from deepred_common.cli import UserError
from deepred_common.inference.local_model import LocalModel
from deepred_common.models import loading


def test_a_batch_gives_the_same_replies_as_one_by_one(tiny_models):
    import torch

    model, tokenizer = (
        loading.load_model(tiny_models["llama"], torch.float32),
        loading.load_tokenizer(tiny_models["llama"]),
    )
    questions = [
        "Who?",
        "What is the capital of France, and why was it chosen?",
        "When did World War II end?",
        "Name a bird.",
    ]
    alone = dict(LocalModel(model, tokenizer, 12, 1).ask(questions))
    together = dict(LocalModel(model, tokenizer, 12, 4).ask(questions))
    assert alone == together and all(reply.finish in ("stop", "length") for reply in alone.values())


def test_out_of_memory_halves_the_batch__allocation_failure_faked(tiny_models, monkeypatch):
    import torch

    local = LocalModel(
        loading.load_model(tiny_models["llama"], torch.float32),
        loading.load_tokenizer(tiny_models["llama"]),
        3,
        8,
    )
    real = local._generate

    def short_of_memory(prompts, draws):
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("no")
        return real(prompts, draws)

    monkeypatch.setattr(local, "_generate", short_of_memory)
    assert sorted(index for index, _ in local.ask(["q"] * 5)) == [0, 1, 2, 3, 4] and local.batch_size == 2

    def none_at_all(prompts, draws):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(local, "_generate", none_at_all)
    with pytest.raises(UserError, match="not enough memory for a single question"):
        list(local.ask(["q"]))


def test_a_thought_shows_in_the_reply_whoever_marks_it(tiny_models):
    import torch

    model = loading.load_model(tiny_models["llama"], torch.float32)
    tokenizer = copy.deepcopy(loading.load_tokenizer(tiny_models["llama"]))
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    # The model writes the marks, as special tokens; those of the template are dropped as ever.
    local = LocalModel(model, tokenizer, 3, 1)
    ids = tokenizer("[THINK]Hm.[/THINK]Yes.")["input_ids"]
    whole = local._reply_of([*ids, tokenizer.eos_token_id])
    assert whole.text == "[THINK]Hm.[/THINK]Yes." and whole.finish == "stop"
    assert local._reply_of(tokenizer("<|im_start|>Yes.")["input_ids"]).text == "Yes."
    # The template writes the opening mark.
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    local = LocalModel(model, tokenizer, 3, 1)
    ((_, reply),) = local.ask(["Who?"])
    assert reply.text.startswith("<think>\n") and thought.answer_of(reply.text) is None
    ids = tokenizer("Hm.\n</think>\n\nYes.")["input_ids"]
    assert thought.answer_of(local._reply_of(ids).text) == "Yes."
