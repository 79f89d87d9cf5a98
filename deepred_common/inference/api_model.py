"""A model behind an OpenAI-compatible server (LM Studio, llama.cpp) as a back end."""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from deepred_common import chat, refusal_openers, thought
from deepred_common.cli import UserError, progress, warn
from deepred_common.examples import SYSTEM, Message, Prompt
from deepred_common.inference import server_scores
from deepred_common.inference.connection import Connection, NoAccess, NotTheApi, ServerGone, ServerTrouble
from deepred_common.inference.protocol import BackendSettings, Draw, Draws, Reply, Score

API_KEY_VARIABLE = "LMSTUDIO_API_KEY"
_EMBEDDING = "text-embedding-"  # how LM Studio's identifiers of models that cannot chat begin
# "System role not supported", "Only user and assistant roles are supported!"
_ROLE = re.compile(r"\broles?\b")
GIVE_UP_AFTER = 8  # failed questions in a row: the server is gone, not busy, or the key is good no longer
Item = TypeVar("Item")
Result = TypeVar("Result")
# Fields of a message in which servers send the model's thought apart: llama.cpp, LM Studio, DeepSeek; vLLM,
# Ollama, OpenRouter.
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
_PROBABILITIES = {"logprobs": True, "top_logprobs": 20}  # the most that OpenAI, vLLM and Ollama give
# Samples are drawn from all tokens: llama.cpp and LM Studio would draw from the 40 likeliest, and of these
# from those with a twentieth of the first one's probability. SGLang refuses a top_k of 0; its own is none.
_ALL_TOKENS = {"top_p": 1, "top_k": 0, "min_p": 0}
_OF_SAMPLES = ("temperature", "seed", *_ALL_TOKENS)
# Otherwise words that stand in the question are penalised, in greedy replies too. LM Studio's own penalty is
# 1.1; vLLM and SGLang, which have the other name, take the one in the model's generation_config.json.
# mlx_lm wants a float.
_NO_PENALTY = {"repeat_penalty": 1.0, "repetition_penalty": 1.0}


class ApiModel:
    """A Backend: the model `model` of an OpenAI-compatible server (`<url>/models`, `<url>/chat/completions`).

    model: its identifier at the server; None takes the only one that the server lists.
    in_flight: requests at a time; a server with one slot queues them. timeout: seconds to wait for one reply.
    The key in the environment variable `key_variable`, if it is set, is sent along and never printed.
    flag: how the command line's own flags for this server begin, for messages; "" if it has none.
    probabilities: ask for those of the tokens, for Reply.refusal_share.
    """

    kind = "api"
    identity: str | None = None  # a server does not say which weights it runs

    def __init__(
        self,
        url: str,
        model: str | None,
        max_tokens: int,
        in_flight: int = 8,
        timeout: float = 300,
        system: str | None = None,
        flag: str = "--lmstudio",
        key_variable: str = API_KEY_VARIABLE,
        probabilities: bool = False,
    ) -> None:
        self._options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": 0, **_NO_PENALTY}
        if probabilities:
            self._options |= _PROBABILITIES
        self._gives_probabilities = False
        self._refused: set[str] = set()  # what the server does not take of a request for a sample
        self._takes_system = True
        self.in_flight = in_flight
        self.system = system
        self.answered_by: list[str] = []
        self._connection = Connection(url, flag, key_variable, timeout, in_flight)
        self.model = self._choose(model, flag)
        self.name = self.model

    def _choose(self, wanted: str | None, flag: str) -> str:
        """The identifier to ask for. UserError with those that the server lists if it has no such one."""
        names = self._connection.models()
        if wanted in names:
            return wanted
        if wanted is None:
            # LM Studio lists its own model for embeddings too, and by default all that are on the disk.
            chats = [name for name in names if not name.startswith(_EMBEDDING)]
            if len(chats) > 1:
                chats = self._connection.loaded_models() or chats
            if len(chats) == 1:
                if len(names) > 1:
                    progress(f"{chats[0]} is asked: the server has no other chat model loaded.")
                return chats[0]
            names = chats
        problem = f"{flag}_model is needed" if wanted is None else f"the server has no model {wanted!r}"
        raise UserError(f"{problem}; it lists: {', '.join(names) or 'none (load one first: lms load …)'}")

    def chat(self, messages: list[Message], draw: Draw | None = None) -> Reply:
        """The server's Reply to a list of messages; greedy without a draw. UserError if it sends none."""
        answer = self._answer(messages, draw)
        try:
            choice = answer["choices"][0]
            text, thought_field = _text_of(choice["message"])
        except (TypeError, KeyError, IndexError, AttributeError):
            raise UserError(
                f"the server at {self._connection.url} sent no reply in its answer: {str(answer)[:200]}"
            ) from None
        answered_by = answer.get("model")
        if answered_by and answered_by not in self.answered_by:
            self.answered_by.append(answered_by)
            if answered_by != self.model:
                warn(f"{self.model} was asked for, but the server says that {answered_by} replied.")
        share = _refusal_share(text, choice)
        self._gives_probabilities |= share is not None
        if chat.begins_reply(messages):
            # llama.cpp's server repeats the beginning that it was given; the first token decides nothing.
            text, share = text.removeprefix(messages[-1]["content"].strip()).strip(), None
        return Reply(text, choice.get("finish_reason"), thought_field=thought_field, refusal_share=share)

    def _options_of(self, draw: Draw) -> dict[str, Any]:
        """What a request for a sample holds besides model and messages, as far as the server takes it."""
        greedy = {name: value for name, value in self._options.items() if name not in _PROBABILITIES}
        options = greedy | {"temperature": draw.temperature, "seed": draw.seed} | _ALL_TOKENS
        return {name: value for name, value in options.items() if name not in self._refused}

    def _answer(self, messages: list[Message], draw: Draw | None) -> Any:
        """The JSON that the server answers. It is asked again without what it says that it does not take."""
        while True:
            options = self._options_of(draw) if draw else self._options
            joins = not self._takes_system and messages[0]["role"] == SYSTEM
            sent = chat.without_system_role(messages) if joins else messages
            body = {"model": self.model, "messages": sent, **options}
            try:
                return self._connection.request("POST", "/chat/completions", body)
            except (NotTheApi, ServerGone) as error:
                refusal = str(error)
                # mlx_lm.server hangs up if it is asked for more than 10 probabilities.
                named = isinstance(error, ServerGone) or "logprobs" in refusal.lower()
                if "logprobs" in options and named and not self._gives_probabilities:
                    self._options = {k: value for k, value in options.items() if k not in _PROBABILITIES}
                elif isinstance(error, ServerGone):
                    raise
                elif sent[0]["role"] == SYSTEM and _ROLE.search(refusal):
                    if self._takes_system:
                        progress(f"{self.model} knows no system role: the system prompt begins the question.")
                    self._takes_system = False
                elif "max_completion_tokens" in refusal and "max_tokens" in options:
                    # OpenAI's newer models count the thought, too.
                    rest = {name: value for name, value in self._options.items() if name != "max_tokens"}
                    self._options = {"max_completion_tokens": options["max_tokens"], **rest}
                elif penalties := [name for name in _NO_PENALTY if name in options and name in refusal]:
                    # A server that does not know the field, such as OpenAI's, has no such penalty.
                    self._options = {k: v for k, v in self._options.items() if k not in penalties}
                elif draw and (untaken := [one for one in _OF_SAMPLES if one in options and one in refusal]):
                    if not self._refused.issuperset(untaken):  # no other thread has said so
                        warn(f"{self.model} takes no {', '.join(untaken)}: samples are drawn without it.")
                    self._refused.update(untaken)
                elif "temperature" in refusal and "temperature" in options:
                    if "temperature" in self._options:  # no other thread has said so
                        warn(f"{self.model} takes no temperature of 0: its replies differ from run to run.")
                    self._options = {name: value for name, value in options.items() if name != "temperature"}
                else:
                    raise

    def ask(self, prompts: Iterable[Prompt], draws: Draws | None = None) -> Iterator[tuple[int, Reply]]:
        """Yield (index, Reply) for each prompt, as the replies come in; a failed one has its error.

        UserError if GIVE_UP_AFTER in a row fail by the server's fault or for want of access: the rest would
        fail as well. Fewer do not end it: some gateways refuse a single question with status 403.
        """

        def answer(pair: tuple[Prompt, Draw | None]) -> Reply:
            prompt, draw = pair
            return self.chat(chat.messages(prompt, self.system), draw)

        troubles = 0
        for index, outcome in self._each(zip(prompts, draws or itertools.repeat(None), strict=False), answer):
            if isinstance(outcome, Reply):
                troubles = 0
                yield index, outcome
                continue
            error = str(outcome).splitlines()[0]
            yield index, Reply(None, error=error)
            troubles = troubles + 1 if isinstance(outcome, (ServerTrouble, NoAccess)) else 0
            if troubles >= GIVE_UP_AFTER:
                raise UserError(f"the last {troubles} questions all failed: {error}")

    def score(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, list[Score]]]:
        """Yield (index, a Score for each of its answers) for each prompt, as they come in.

        NoScores if the server is not llama.cpp's. The first failure ends it.
        """

        def score_one(pair: tuple[Prompt, Sequence[str]]) -> list[Score]:
            prompt, texts = pair
            return server_scores.of_answers(self._connection, chat.messages(prompt, self.system), texts)

        for index, outcome in self._each(zip(prompts, answers, strict=True), score_one):
            if isinstance(outcome, UserError):
                raise outcome
            yield index, outcome

    def _each(
        self, items: Iterable[Item], work: Callable[[Item], Result]
    ) -> Iterator[tuple[int, Result | UserError]]:
        """(index, what `work` makes of it or the UserError it raises) for each item, as they get done.

        So many at a time as the server gets requests at once.
        """
        # Threads of our own: Ctrl-C would wait for a pool's threads, so for as long as a reply takes.
        todo: queue.Queue[tuple[int, Item] | None] = queue.Queue()  # None: no more
        done: queue.Queue[tuple[int, Result | Exception]] = queue.Queue()

        stopped = threading.Event()  # of this call: an earlier one's threads must not go on with a later one

        def work_on() -> None:
            self._connection.of_thread.stopped = stopped
            while (entry := todo.get()) is not None and not stopped.is_set():
                index, item = entry
                try:
                    done.put((index, work(item)))
                except Exception as error:  # whatever it is: the loop below waits for it and deals with it
                    done.put((index, error))

        for _ in range(self.in_flight):
            threading.Thread(target=work_on, daemon=True).start()
        upcoming = enumerate(items)
        outstanding = 0
        try:
            while True:
                # A few more than are in flight, not all 15 000 at once: memory stays flat.
                while outstanding < 2 * self.in_flight and (entry := next(upcoming, None)):
                    todo.put(entry)
                    outstanding += 1
                if not outstanding:
                    return
                index, outcome = done.get()
                outstanding -= 1
                if isinstance(outcome, UserError) or not isinstance(outcome, Exception):
                    yield index, outcome
                else:
                    raise outcome
        finally:
            stopped.set()
            for _ in range(self.in_flight):
                todo.put(None)


@contextlib.contextmanager
def opened(settings: BackendSettings, system_prompt: str | None) -> Iterator[ApiModel]:
    """The model behind settings.lmstudio_url. UserError if no server answers, or it has no such model."""
    yield ApiModel(
        settings.lmstudio_url,
        settings.lmstudio_model,
        settings.max_tokens,
        settings.in_flight,
        settings.timeout,
        system_prompt,
        probabilities=True,
    )


def _refusal_share(text: str, choice: dict[str, Any]) -> float | None:
    """Reply.refusal_share of a reply's text and the server's choice; None if the server gives none.

    The probability beyond the listed tokens counts as no refusal.
    """
    answer = thought.answer_of(text)
    try:
        tokens = choice["logprobs"]["content"]
        written = [token["token"] for token in tokens]
        # Before the answer may stand a thought, or what the template writes into every reply.
        start = "".join(written).rfind(answer) if answer else -1
        if start < 0 and thought.is_marked(text):
            return None
        ends = itertools.accumulate(map(len, written))
        places = (place for place, end in enumerate(ends) if end > start and written[place].strip())
        likeliest = tokens[next(places)]["top_logprobs"]
        shares = [
            math.exp(one["logprob"]) for one in likeliest if refusal_openers.begins_refusal(one["token"])
        ]
    except (TypeError, KeyError, AttributeError, StopIteration):
        return None
    return min(sum(shares), 1.0) if likeliest else None


def _text_of(message: dict[str, Any]) -> tuple[str, str | None]:
    """(the reply in a message, the field in which its thought came apart, or None)."""
    field = next((name for name in _THOUGHT_FIELDS if str(message.get(name) or "").strip()), None)
    text = _joined(message.get("content") if field else message["content"]).strip()
    if field and (own := str(message[field]).strip()) not in text:
        text = thought.joined(own, text)
    return text, field


def _joined(content: Any) -> str:
    """The text of a message's content: itself, or its parts (Mistral's server sends a thought as one)."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        is_thought = part["type"] == "thinking"
        texts.append(f"<think>{_joined(part['thinking'])}</think>" if is_thought else part["text"])
    return "".join(texts)
