"""Examples with given answers, of which the model writes none: it is asked how likely it finds each.

Only the form PROBE makes such Examples, with metadata.choices: {answer: the text that follows the prompt},
the true answer first. A test file may hold anything under this key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from deepred_common.evaluation.verdicts import CONFABULATED, CORRECT, LEAKED, WRONG
from deepred_common.examples import RETAIN, Example
from deepred_common.inference import conversations
from deepred_common.inference.protocol import Backend, Draws, Reply, Score

KEY = "choices"
PROBE = "choice-by-probability"  # metadata.probe of the Examples that have them


def texts_of(example: Example) -> dict[str, str] | None:
    """{answer: the text that follows the prompt} of an Example with given answers, else None."""
    if example.metadata.get("probe") != PROBE:
        return None
    return cast(dict[str, str] | None, example.metadata.get(KEY))


def replies(
    model: Backend,
    examples: Sequence[Example],
    draws: Draws | None = None,
    goes_on: Callable[[Example, str], bool] | None = None,
) -> Iterator[tuple[int, Reply]]:
    """Yield (index, Reply) for each example, in any order; those with given answers come last.

    draws: how each reply is drawn; None: greedily. Those with given answers need none: their Reply is the
    likeliest answer, with all scores. NoScores if the back end gives none: all others are yielded by then.
    goes_on(example, the answer to an earlier turn): is its next turn asked? None: always.
    """
    asked = [place for place, example in enumerate(examples) if not texts_of(example)]
    prompts = [examples[place].prompt for place in asked]
    drawn = draws and [draws[place] for place in asked]

    def further(index: int, answer: str) -> bool:
        return goes_on is None or goes_on(examples[asked[index]], answer)

    for index, reply in conversations.ask(model, prompts, drawn, further):
        yield asked[index], reply
    scored = [(place, texts) for place, example in enumerate(examples) if (texts := texts_of(example))]
    if not scored:
        return
    prompts = [examples[place].prompt for place, _ in scored]
    for index, scores in model.score(prompts, [list(texts.values()) for _, texts in scored]):
        place, texts = scored[index]
        by_answer = dict(zip(texts, scores, strict=True))
        yield place, Reply(texts[likeliest(by_answer)].strip(), "stop", scores=by_answer)


def per_token(score: Score) -> float:
    """The mean log-likelihood of a token (nats)."""
    return score.log_likelihood / score.tokens


def likeliest(scores: Mapping[str, Score]) -> str:
    """The answer with the largest mean log-likelihood a token.

    A sum over its tokens would favour short answers. GPT-3 (Brown et al., arXiv 2005.14165, 2.4) and TOFU
    (Maini et al., arXiv 2401.06121) take the mean over tokens, too; lm-evaluation-harness's acc_norm, over
    characters, is for models with different tokenizers, and here a model is compared with its own base.
    """
    return max(scores, key=lambda answer: per_token(scores[answer]))


def verdict(example: Example, scores: Mapping[str, Score]) -> str:
    """Whether the true answer is the likeliest: CORRECT or WRONG before the cutoff, else LEAKED or not."""
    is_true = likeliest(scores) == next(iter(scores))
    if example.side == RETAIN:
        return CORRECT if is_true else WRONG
    return LEAKED if is_true else CONFABULATED
