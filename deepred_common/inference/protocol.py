"""What the evaluation expects of any back end: the Reply, the Backend protocol, and its settings.

backends.py chooses and opens one; each other module of this room is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from deepred_common.cli import UserError
from deepred_common.examples import Prompt

# The least sum of log-probabilities, instead of minus infinity: JSON has none.
_IMPOSSIBLE = -1e4


class _Score(NamedTuple):
    log_likelihood: float
    tokens: int


class Score(_Score):
    """How likely a given text is: the sum of its tokens' log-probabilities (nats), and how many they are.

    The token that ends the turn is not part of it, as in lm-evaluation-harness. That of an impossible text is
    a finite number below that of any other.
    """

    __slots__ = ()

    def __new__(cls, log_likelihood: float, tokens: int) -> Score:
        return super().__new__(cls, max(log_likelihood, _IMPOSSIBLE), tokens)

    @property
    def is_impossible(self) -> bool:
        """Whether the number says only that the text is less likely than any other."""
        return self.log_likelihood <= _IMPOSSIBLE


@dataclass(frozen=True)
class Reply:
    """A reply's text and why it ended: "stop", "length", None if the server does not say; or the error.

    text: as the model wrote it, its thought included; thought.answer_of reads the answer out of it.
    turns: the model's replies to earlier user turns of the same conversation (conversations.ask).
    thought_field: the field of a server's answer in which the thought came apart, or None.
    refusal_share: the share of the probability of the answer's first token on tokens that begin a refusal
    (refusal_openers), from 0 to 1; None where it is not known. Replies that differ in it alone are equal: it
    is rounded otherwise in another batch.
    scores: {answer: its Score} where given answers were scored, and `text` is the likeliest; else None.
    """

    text: str | None
    finish: str | None = None
    error: str | None = None
    turns: tuple[str, ...] = ()
    thought_field: str | None = None
    refusal_share: float | None = field(default=None, compare=False)
    scores: dict[str, Score] | None = field(default=None, compare=False)


class NoScores(UserError):
    """The back end gives no probabilities of given answers."""


@dataclass(frozen=True)
class Draw:
    """How one reply is sampled: each token from softmax(logits / temperature), all tokens of the vocabulary.

    temperature: above 0. seed: from 0 to below 2**31; the same one gives the same reply.
    """

    temperature: float
    seed: int


Draws = Sequence[Draw | None]  # one for each prompt; None asks for the greedy reply


class Backend(Protocol):
    """A model that answers questions.

    name: the path, the hub name, or the identifier at the server. kind: folder, adapter, gguf or api.
    identity: the SHA-256 of its weights or the hub's revision; None if not known.
    answered_by: the names that the server gave with its replies; empty for a local model.
    """

    name: str
    kind: str
    identity: str | None
    answered_by: list[str]

    def ask(self, prompts: Iterable[Prompt], draws: Draws | None = None) -> Iterator[tuple[int, Reply]]:
        """Yield (index, Reply) for each prompt, in any order. draws: None asks for greedy replies only.

        To a prompt that ends with the assistant's turn the Reply holds what the model adds to that turn.
        A prompt without a reply has its error in the Reply. UserError if no further reply can be expected.
        """
        ...

    def score(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, list[Score]]]:
        """Yield (index, a Score for each of its answers) for each prompt, in any order.

        answers: for each prompt, texts that could go on where it ends: the whole reply, or the rest of one
        that the prompt begins (its last message is the assistant's). A space between belongs to the answer.
        NoScores if the back end gives no probabilities of given answers; UserError as in `ask`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class BackendSettings:
    """How a model is asked. The fields are named like the flags of evaluate_temporal.py.

    max_tokens: most tokens a reply may have. batch_size: questions that a local model answers at once.
    in_flight: requests that a server gets at once. timeout: seconds to wait for a server's reply.
    llama_cpp_path: where a built llama-server is looked for.
    """

    lmstudio_url: str
    lmstudio_model: str | None
    max_tokens: int
    batch_size: int
    in_flight: int
    timeout: int
    llama_cpp_path: Path
    trust_remote_code: bool


@dataclass(frozen=True)
class BackendKind:
    """One kind of model that is given as a path or hub name.

    accepts(path): is it of this kind? check(path, role): UserError for what is found wrong without loading
    it; the message calls it by its role ("model", "base model"). open(path, settings, system_prompt,
    prompts): a context manager that yields the Backend; prompts: what it will be asked, so that there is
    room. identity(path): the Backend's, without loading it.
    """

    name: str
    accepts: Callable[[str], bool]
    check: Callable[[str, str], None]
    open: Callable[[str, BackendSettings, str | None, Sequence[Prompt]], AbstractContextManager[Backend]]
    identity: Callable[[str], str | None]
