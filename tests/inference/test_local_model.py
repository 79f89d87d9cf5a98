"""A transformers model as a back end."""

import copy
import itertools

import pytest

from deepred_common import chat, thought
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


def test_the_output_layer_gets_its_input_as_one_block(tiny_models):
    """Of a view with gaps, torch makes a product 260 times slower in bf16 on a CPU: the tests count on it."""
    import torch

    model = loading.load_model(tiny_models["llama"], torch.bfloat16)
    layer, blocks = model.get_output_embeddings(), []
    layer.register_forward_hook(lambda _, inputs, output: blocks.append(inputs[0].is_contiguous()))
    local = LocalModel(model, loading.load_tokenizer(tiny_models["llama"]), 2, 2)
    assert len(dict(local.ask(["What is blue?", "Who painted the Mona Lisa?"]))) == 2
    assert len(blocks) == 3 and all(blocks)  # of the prompts' common start, and of two steps
    assert not layer._forward_pre_hooks  # the model is left as it was


# What a layer keeps of a prompt decides how much of its start can be read for all at once.
_SIZE = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
_LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
SHAPES = {
    "every token": ("llama", {}, None),
    "those of a sliding window, shorter than the start": ("mistral", {"sliding_window": 8}, 7),
    "those of a window in every other layer": ("gemma3_text", _MIXED, 7),
    "a state": (
        "qwen3_5_text",
        {"layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 2, **_LINEAR},
        0,
    ),
}


@pytest.mark.parametrize(("architecture", "options", "most"), SHAPES.values(), ids=SHAPES)
def test_the_common_start_of_a_batch_is_read_once_and_the_replies_stay_the_same(
    tokenizer, architecture, options, most
):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), initializer_range=0.2, **_SIZE, **_HEADS, **options
    )
    model = AutoModelForCausalLM.from_config(config).float()
    prompts = [
        "Who?",
        "What is the capital of France, and why was it chosen?",
        "Who?",
        [{"role": "user", "content": "Who is he?"}, {"role": "assistant", "content": "He is"}],
        "When did World War II end, and when had it begun? Name the day, the month and the year of both.",
    ]
    alone = dict(LocalModel(model, copy.deepcopy(tokenizer), 8, 1).ask(prompts))
    read = []
    model.register_forward_pre_hook(lambda _, args, given: read.append(given["input_ids"]), with_kwargs=True)
    local = LocalModel(model, copy.deepcopy(tokenizer), 8, len(prompts))
    assert dict(local.ask(prompts)) == alone
    assert len({reply.text for reply in alone.values()}) > 2
    ids = [chat.prompt_ids(tokenizer, prompt) for prompt in prompts]
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*ids, strict=False))
    start = [column[0] for column in columns]
    shared = len(start) if most is None else most
    if shared:
        assert read.pop(0).tolist() == [start[:shared]]
    assert read[0].shape == (4, max(map(len, ids)) - shared), "each prompt once"


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


# ---- models that have so many positions and no more ------------------------------------------------------

_TABLES = {
    "gpt2": {"n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 64},
    "opt": {"hidden_size": 64, "ffn_dim": 64, "word_embed_proj_dim": 64, "num_hidden_layers": 2},
    "gptj": {"n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "n_inner": 64},
}
_TABLES["opt"] |= {"num_attention_heads": 4, "max_position_embeddings": 64}
_LONG = "When did World War II end, and when had it begun? " * 8


def short_model(architecture, tokenizer, max_tokens):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **_TABLES[architecture])
    model = AutoModelForCausalLM.from_config(config).float()
    return LocalModel(model, copy.deepcopy(tokenizer), max_tokens, 4)


@pytest.mark.parametrize("architecture", _TABLES)
def test_a_prompt_beyond_the_positions_of_a_model_is_an_error_and_the_others_are_answered(
    architecture, tokenizer
):
    local = short_model(architecture, tokenizer, 100)
    prompts = ["Who?", _LONG, "Name a bird."]
    replies = dict(local.ask(prompts))
    assert replies[1].text is None and "only 64 positions" in replies[1].error
    for number in (0, 2):  # cut where the model ends, as llama.cpp does
        room = 65 - len(chat.prompt_ids(tokenizer, prompts[number]))  # the last token is not read
        assert replies[number].finish == "length" and 0 < room < 60
        assert dict(LocalModel(local.model, tokenizer, room, 1).ask([prompts[number]]))[0] == replies[number]
    with pytest.raises(UserError, match="only 64 positions"):
        list(local.score(["Who?", _LONG], [["He."], ["In 1945."]]))
    with pytest.raises(UserError, match="only 64 positions"):
        list(local.score(["Who?"], [["He.", _LONG]]))
    assert len(dict(local.score(["Who?"], [["He."]]))) == 1


@pytest.mark.parametrize("architecture", ["gpt2", "opt"])
def test_a_prompt_near_the_last_position_of_a_model_does_not_end_a_large_batch(architecture, tokenizer):
    """Its reply ends long before the others', and so few ended ones stay in the batch."""
    model = short_model(architecture, tokenizer, 30).model
    long = "Who? " * 60
    while len(chat.prompt_ids(tokenizer, long)) > 60:
        long = long.removesuffix("Who? ")
    prompts = [long] + [f"Who is {name}?" for name in "ABCDEFGHIJKLMNOP"]
    replies = dict(LocalModel(model, copy.deepcopy(tokenizer), 30, len(prompts)).ask(prompts))
    assert replies[0].finish == "length"
    assert replies == dict(LocalModel(model, copy.deepcopy(tokenizer), 30, 1).ask(prompts))


def test_a_model_that_computes_its_positions_is_asked_whatever_its_config_says(tokenizer):
    """Some configs state less than the model can read, such as before a scaling."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), max_position_embeddings=64, **_SIZE, **_HEADS
    )
    local = LocalModel(AutoModelForCausalLM.from_config(config).float(), copy.deepcopy(tokenizer), 4, 4)
    ((_, reply),) = local.ask([_LONG])
    assert reply.error is None and reply.text is not None


def test_a_layer_whose_name_only_looks_like_a_table_of_positions_limits_no_prompt(tokenizer):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), max_position_embeddings=64, **_SIZE, **_HEADS
    )
    model = AutoModelForCausalLM.from_config(config).float()
    for name in ("post_projection", "compose", "decomposition"):
        model.add_module(name, torch.nn.Linear(64, 64))
    ((_, reply),) = LocalModel(model, copy.deepcopy(tokenizer), 4, 4).ask([_LONG])
    assert reply.error is None and reply.text is not None
