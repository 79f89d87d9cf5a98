"""Log-likelihoods of given answers from llama.cpp's server, which gives none of a prompt's tokens.

It reports the probability that a token it writes had before sampling. So each token of an answer is asked for
by itself, after those before it, with a bias that leaves no other choice; the server keeps what went before.

A grammar of the answer's text would need one request, but under it the model writes the likeliest *piece* at
each place, so "J", "a", "m", "e", "s" (lm-evaluation-harness does that, in pull request 4012). Its scores
correlate by 0.2 to 0.4 with those of the same weights in transformers, these by 0.999. A grammar of token ids
refuses those that end inside a letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepred_common.examples import Message
from deepred_common.inference.connection import Connection, NotTheApi
from deepred_common.inference.protocol import NoScores, Score

_FORCED = 1e4  # added to a token's logit: beyond any difference of two logits


def of_answers(connection: Connection, turns: list[Message], answers: Sequence[str]) -> list[Score]:
    """The Score of each answer as what follows the turns. NoScores if the server is not llama.cpp's."""
    start = _asked(connection, "/apply-template", {"messages": turns}, "prompt")
    prompt = _tokens(connection, start)
    return [_score(connection, prompt, _answer_tokens(connection, start, prompt, text)) for text in answers]


def _answer_tokens(connection: Connection, start: str, prompt: list[int], answer: str) -> list[int]:
    """The answer's token ids after the prompt, as chat.continuation_ids has them."""
    whole = _tokens(connection, start + answer)
    if whole[: len(prompt)] == prompt:
        return whole[len(prompt) :]
    return _tokens(connection, answer, add_special=False)


def _tokens(connection: Connection, text: str, add_special: bool = True) -> list[int]:
    body = {"content": text, "add_special": add_special, "parse_special": True}
    tokens: list[int] = _asked(connection, "/tokenize", body, "tokens")
    return tokens


def _score(connection: Connection, prompt: list[int], answer: list[int]) -> Score:
    total = 0.0
    for place, token in enumerate(answer):
        body = {
            "prompt": prompt + answer[:place],
            "logit_bias": [[token, _FORCED]],
            "n_predict": 1,
            "n_probs": 1,  # how many others it lists; with 0 it gives no probabilities
            "temperature": 0,
        }
        written = _asked(connection, "/completion", body, "completion_probabilities")
        if not written or written[0].get("id") != token:
            raise _no_scores(connection)
        total += written[0]["logprob"]
    return Score(total, len(answer))


def _asked(connection: Connection, path: str, body: dict[str, Any], key: str) -> Any:
    """What stands under `key` in the server's answer. NoScores if it knows no such request."""
    try:
        answer = connection.request("POST", path, body, beside_v1=True)
    except NotTheApi as error:
        raise _no_scores(connection) from error
    if not isinstance(answer, dict) or key not in answer:
        raise _no_scores(connection)
    return answer[key]


def _no_scores(connection: Connection) -> NoScores:
    return NoScores(
        f"the server at {connection.url} gives no probabilities of given answers, as llama.cpp's does"
    )
