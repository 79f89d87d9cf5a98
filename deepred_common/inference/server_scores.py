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
_ALL = 1 << 20  # more tokens than a vocabulary has


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
    places = range(len(answer))
    return Score(sum(_logprob(connection, prompt + answer[:n], answer[n]) for n in places), len(answer))


def _logprob(connection: Connection, before: list[int], token: int) -> float:
    """The log-probability of a token after others."""
    written = _written(connection, before, token, 1)
    if not written:
        # Of a token that ends inside a letter nothing is sent, so it is looked up among all others.
        likeliest = _written(connection, before, before[-1], _ALL)
        written = [one for one in likeliest[0]["top_logprobs"] if one["id"] == token] if likeliest else []
    if not written or written[0].get("id") != token:
        raise _no_scores(connection)
    return float(written[0]["logprob"])


def _written(connection: Connection, before: list[int], token: int, others: int) -> list[dict[str, Any]]:
    """What the server says of `token`, which it is made to write, and of so many others (at least one)."""
    body = {
        "prompt": before,
        "logit_bias": [[token, _FORCED]],
        "n_predict": 1,
        "n_probs": others,
        "temperature": 0,
    }
    return _request(connection, "/completion", body).get("completion_probabilities") or []


def _asked(connection: Connection, path: str, body: dict[str, Any], key: str) -> Any:
    """What stands under `key` in the server's answer. NoScores if it knows no such request."""
    answer = _request(connection, path, body)
    if key not in answer:
        raise _no_scores(connection)
    return answer[key]


def _request(connection: Connection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = connection.request("POST", path, body, beside_v1=True)
    except NotTheApi as error:
        raise _no_scores(connection) from error
    return answer if isinstance(answer, dict) else {}


def _no_scores(connection: Connection) -> NoScores:
    return NoScores(
        f"the server at {connection.url} gives no probabilities of given answers, as llama.cpp's does"
    )
