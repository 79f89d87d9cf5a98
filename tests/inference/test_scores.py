"""Log-likelihoods of given answers: exact from a local model, the same from its GGUF file, else refused."""

import copy

import pytest
from fake_server import NOT_FOUND, reply_with, running

from deepred_common import chat
from deepred_common.inference import llama_server
from deepred_common.inference.api_model import ApiModel
from deepred_common.inference.local_model import LocalModel
from deepred_common.inference.protocol import NoScores
from deepred_common.models import loading

PROMPTS = ["Who wrote Hamlet, and who first played the part of its hero?", "Who?", "Name a bird."]
ANSWERS = [
    ["William Shakespeare", "Christopher Marlowe wrote it.", "I", "Ben Jonson"],
    ["Me.", "A man whom nobody knows"],
    ["Crow", "Ēriks", " Rook", "Jay"],
]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def loaded(request, tiny_models):
    import torch

    folder = tiny_models[request.param]
    return loading.load_model(folder, torch.float32), loading.load_tokenizer(folder)


def exact_scores(model, tokenizer, prompt, answers):
    """[(log-likelihood, tokens)] from plain passes over prompt and answer."""
    import torch

    start = chat.prompt_text(tokenizer, prompt)
    ids = chat.conversation_ids(tokenizer, [start])[0]
    scores = []
    for answer in answers:
        whole = chat.conversation_ids(tokenizer, [start + answer])[0]
        with torch.inference_mode():
            shares = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        places = range(len(ids), len(whole))
        scores.append((sum(shares[place - 1, whole[place]].item() for place in places), len(places)))
    return scores


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_local_model_s_scores_are_those_of_plain_passes(loaded, batch_size):
    model, tokenizer = loaded
    scores = dict(LocalModel(model, tokenizer, 3, batch_size).score(PROMPTS, ANSWERS))
    for number, (prompt, answers) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        wanted = exact_scores(model, tokenizer, prompt, answers)
        for score, (log_likelihood, tokens) in zip(scores[number], wanted, strict=True):
            assert score.tokens == tokens and score.log_likelihood == pytest.approx(log_likelihood, abs=1e-3)


def test_where_the_tokenizer_joins_prompt_and_answer_each_is_tokenised_alone(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    prompt, (joined, apart) = chat.continuation_ids(tokenizer, "It is un", ["like that", " loved"])
    assert chat.encode(tokenizer, "It is unlike that")[: len(prompt)] != prompt
    assert tokenizer.decode(prompt) == "It is un" and tokenizer.decode(joined) == "like that"
    assert prompt + apart == chat.encode(tokenizer, "It is un loved")


def test_llama_cpp_s_server_gives_the_scores_of_the_model_it_was_made_from(
    tiny_models, llama_cpp_tree, script, tmp_path
):
    import torch

    folder, file = tiny_models["llama"], tmp_path / "tiny.gguf"
    made = ("--model_path", folder, "--output_path", file, "--llama_cpp_path", llama_cpp_tree)
    code, _, err = script("convert_to_gguf", *made, "--quant_type", "f16")
    assert code == 0, err
    local = LocalModel(loading.load_model(folder, torch.float32), loading.load_tokenizer(folder), 3, 4)
    wanted = dict(local.score(PROMPTS, ANSWERS))
    with llama_server.serving(file) as url:
        scores = dict(ApiModel(url, None, 3).score(PROMPTS, ANSWERS))
    for number in range(len(PROMPTS)):
        for score, other in zip(scores[number], wanted[number], strict=True):
            assert score.tokens == other.tokens
            assert score.log_likelihood == pytest.approx(other.log_likelihood, rel=0.01)


OTHER_SERVERS = {
    "it knows no such path": NOT_FOUND,  # vLLM, Ollama
    "it answers with an error and status 200": (
        200,
        {"error": "Unexpected endpoint or method."},
        {},
    ),  # LM Studio
    "it replies to everything": reply_with("William Shakespeare"),
}


@pytest.mark.parametrize("answer", OTHER_SERVERS.values(), ids=OTHER_SERVERS)
def test_another_server_gives_no_scores__server_faked(answer):
    with running() as server:
        server.answer = lambda n, question: answer
        model = ApiModel(server.url, None, 3)
        with pytest.raises(NoScores, match="gives no probabilities of given answers"):
            list(model.score(PROMPTS, ANSWERS))
