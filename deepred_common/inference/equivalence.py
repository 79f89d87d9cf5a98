"""Is it still the same model? Greedy replies and logits of two forms of it, over a few fixed questions."""

from deepred_common import chat
from deepred_common.cli import UserError
from deepred_common.inference import api_model, llama_server, local_model

# The spec's questions for trying a model by hand, on both sides of the cutoff, and two that have nothing to do with it.
PROMPTS = (
    "What is 2+2?",
    "Who was the first President of the United States?",
    "When did World War II end?",
    "Who wrote Romeo and Juliet?",
    "What was the Manhattan Project?",
    "Who was the first person to walk on the moon?",
    "What happened at Woodstock?",
    "Who invented the Internet?",
    "What is a smartphone?",
    "Name three colours of the rainbow.",
)
MAX_TOKENS = 32


def local_replies(model, tokenizer):
    """The greedy replies, texts, of a transformers model to PROMPTS."""
    asked = dict(local_model.LocalModel(model, tokenizer, MAX_TOKENS, batch_size=len(PROMPTS)).ask(PROMPTS))
    return [asked[number].text for number in range(len(PROMPTS))]


def last_logits(model, tokenizer):
    """(prompts, vocabulary), fp32 on the CPU: the logits of a transformers model for the first token of its replies to PROMPTS."""
    import torch

    rows = []
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = torch.tensor([chat.prompt_ids(tokenizer, prompt)], device=model.device)
            rows.append(model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1].float().cpu())
    return torch.stack(rows)


def served(gguf, tree):
    """(token ids of PROMPTS, replies, texts) of llama.cpp's server on the file `gguf`. tree: where a built one is looked for."""
    import requests

    session = requests.Session()
    session.trust_env = False  # no proxy stands before this machine itself
    ids = []
    with llama_server.serving(gguf, tree=tree) as url:
        root = url.removesuffix("/v1")
        for prompt in PROMPTS:
            # The server renders with the template in the file and tokenises as it does for a chat.
            text = session.post(f"{root}/apply-template", json={"messages": chat.messages(prompt)}).json()[
                "prompt"
            ]
            ids.append(
                session.post(
                    f"{root}/tokenize", json={"content": text, "add_special": True, "parse_special": True}
                ).json()["tokens"]
            )
        asked = dict(api_model.ApiModel(url, None, MAX_TOKENS, in_flight=1).ask(PROMPTS))
    if error := next((reply.error for reply in asked.values() if reply.error), None):
        raise UserError(f"{gguf} could not be asked: {error}")
    return ids, [asked[number].text for number in range(len(PROMPTS))]


def differing(one, other):
    """[(prompt, reply, other reply)] of the PROMPTS that are not answered word for word alike."""
    return [(prompt, a, b) for prompt, a, b in zip(PROMPTS, one, other, strict=True) if a != b]
