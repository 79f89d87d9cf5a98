"""A model behind an OpenAI-compatible server (LM Studio, llama.cpp) as a back end, and its failures."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from deepred_common import chat
from deepred_common.cli import UserError, warn
from deepred_common.examples import Message, Prompt
from deepred_common.foreign_text import whole_characters
from deepred_common.inference.protocol import BackendSettings, Reply

if TYPE_CHECKING:
    import requests

API_KEY_VARIABLE = "LMSTUDIO_API_KEY"
_CONNECT_TIMEOUT = 10  # seconds until a server that does not even accept the connection counts as absent
_ATTEMPTS = 5  # with the pauses between them about 7 s: a server that restarts or is busy is back by then
_FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
_LONGEST_PAUSE = 60.0  # seconds, whatever Retry-After says
_GIVE_UP_AFTER = 8  # failed questions in a row: the server is gone, not busy
_Questions = queue.Queue[tuple[int, Prompt] | None]  # (index, prompt); None: no more
_Outcomes = queue.Queue[tuple[int, Reply | Exception]]
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class ServerTrouble(UserError):
    """The server's own fault, which may pass: busy, broken, slow."""


class ServerGone(ServerTrouble):
    """No server answers at the address, or it no longer does."""


class _TryAgain(Exception):
    """An attempt failed in a way that may pass.

    trouble: the error to raise after the last attempt. pause: seconds that the server asks to wait, or None.
    """

    def __init__(self, trouble: ServerTrouble, pause: float | None = None) -> None:
        super().__init__(str(trouble))
        self.trouble, self.pause = trouble, pause


class ApiModel:
    """A Backend: the model `model` of an OpenAI-compatible server (`<url>/models`, `<url>/chat/completions`).

    model: its identifier at the server; None takes the only one that the server lists.
    in_flight: requests at a time; a server with one slot queues them. timeout: seconds to wait for one reply.
    The key in the environment variable `key_variable`, if it is set, is sent along and never printed.
    flag: how the command line's own flags for this server begin, for messages.
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
    ) -> None:
        self.url = url.rstrip("/")
        self.max_tokens = max_tokens
        self.in_flight = in_flight
        self.timeout = timeout
        self.system = system
        self.answered_by: list[str] = []
        self._flag, self._key_variable = flag, key_variable
        self._session = self._new_session()
        self._stopped = threading.Event()
        self.model = self._choose(model)
        self.name = self.model

    def _new_session(self) -> requests.Session:
        import requests

        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=self.in_flight))
        # A proxy for the outside world does not reach this machine's own servers.
        session.trust_env = urllib.parse.urlsplit(self.url).hostname not in _LOCAL_HOSTS
        if key := os.environ.get(self._key_variable, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise UserError(
                    f"the key in {self._key_variable} contains line breaks or letters that no key has. "
                    "Set it again."
                )
            session.headers["Authorization"] = f"Bearer {key}"
        return session

    def _choose(self, wanted: str | None) -> str:
        """The identifier to ask for. UserError with those that the server lists if it has no such one."""
        listed = self.request("GET", "/models")
        try:
            names: list[str] = [entry["id"] for entry in listed["data"]]
        except (TypeError, KeyError):
            raise UserError(
                f"the server at {self.url} answers, but not as an OpenAI-compatible API: {str(listed)[:120]}"
            ) from None
        if wanted is None and len(names) == 1:
            return names[0]
        if wanted in names:
            return wanted
        problem = f"{self._flag}_model is needed" if wanted is None else f"the server has no model {wanted!r}"
        raise UserError(f"{problem}; it lists: {', '.join(names) or 'none (load one first: lms load …)'}")

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that the server answers.

        After a dropped connection, 429 and 5xx it is asked again, later each time. UserError if it still
        fails after the last attempt; ServerGone if no server answers.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._request_once(method, path, body)
            except _TryAgain as failure:
                if attempt == _ATTEMPTS:
                    raise failure.trouble from None
                pause = failure.pause
            if pause is None:
                # With jitter, so that the requests in flight do not all come back at once.
                pause = _FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
            if self._stopped.wait(pause):
                raise UserError("stopped")
        raise AssertionError("the last attempt always returns or raises")

    def _request_once(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """The JSON of one request. _TryAgain if the same request may succeed later, else UserError."""
        import requests

        errors = requests.exceptions
        try:
            response = self._session.request(
                method, self.url + path, json=body, timeout=(_CONNECT_TIMEOUT, self.timeout)
            )
        except (errors.InvalidURL, errors.MissingSchema, errors.InvalidSchema):
            raise UserError(f"{self.url} is not a URL; it looks like http://localhost:1234/v1") from None
        except errors.ReadTimeout:
            # A server that is this slow does not get faster by being asked again and again.
            raise ServerTrouble(f"no reply within {self.timeout} s (--timeout)") from None
        except errors.RequestException as error:
            gone = ServerGone(
                f"no server answers at {self.url}. {self._start_hint()} {self._flag}_url.\n"
                f"({type(error).__name__})"
            )
            # A dropped connection may pass; a port on which nothing listens, or an unknown host, does not.
            if "refused" in str(error) or "resolve" in str(error):
                raise gone from None
            raise _TryAgain(gone) from None
        if not response.ok:
            raise self._status_error(response, path)
        try:
            # JSON is UTF-8, whatever the header says. Some servers cut a reply inside a character.
            return whole_characters(json.loads(response.content.decode("utf-8-sig", errors="replace")))
        except ValueError:
            raise UserError(
                f"the server at {self.url} answers, but not with JSON: {response.text[:80]!r}\n"
                "Is the URL right? It usually ends in /v1."
            ) from None

    def _start_hint(self) -> str:
        if self._flag == "--lmstudio":
            return "Start LM Studio's server (lms server start), or set LMSTUDIO_HOST and LMSTUDIO_PORT or"
        return "Check"

    def _status_error(self, response: requests.Response, path: str) -> Exception:
        """What to raise for a response with an error status."""
        status = response.status_code
        if status in (401, 403):
            return UserError(
                f"the server at {self.url} requires a key (status {status}). Set {self._key_variable} to it."
            )
        message = (
            f"the server at {self.url} refused {path} with status {status}: {response.text[:200].strip()}"
        )
        if status == 429 or status >= 500:
            return _TryAgain(ServerTrouble(message), _retry_after(response))
        return UserError(message)

    def chat(self, messages: list[Message]) -> Reply:
        """The server's Reply to a list of messages. UserError if it sends none."""
        body = {"model": self.model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0}
        answer = self.request("POST", "/chat/completions", body)
        try:
            choice = answer["choices"][0]
            text = (choice["message"]["content"] or "").strip()
        except (TypeError, KeyError, IndexError, AttributeError):
            raise UserError(
                f"the server at {self.url} sent no reply in its answer: {str(answer)[:200]}"
            ) from None
        answered_by = answer.get("model")
        if answered_by and answered_by not in self.answered_by:
            self.answered_by.append(answered_by)
            if answered_by != self.model:
                warn(f"{self.model} was asked for, but the server says that {answered_by} replied.")
        return Reply(text, choice.get("finish_reason"))

    def _work(self, todo: _Questions, done: _Outcomes) -> None:
        """Answer the questions of `todo` into `done`, in a thread of its own."""
        while (entry := todo.get()) is not None and not self._stopped.is_set():
            index, prompt = entry
            try:
                done.put((index, self.chat(chat.messages(prompt, self.system))))
            except Exception as error:  # whatever it is: `ask` waits for an answer and deals with it
                done.put((index, error))

    def ask(self, prompts: Iterable[Prompt]) -> Iterator[tuple[int, Reply]]:
        """Yield (index, Reply) for each prompt, as the replies come in; a failed one has its error.

        ServerGone if _GIVE_UP_AFTER in a row fail by the server's fault: the rest would fail as well.
        """
        # Threads of our own: Ctrl-C would wait for a pool's threads, so for as long as a reply takes.
        todo: _Questions = queue.Queue()
        done: _Outcomes = queue.Queue()
        self._stopped.clear()
        for _ in range(self.in_flight):
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        upcoming = enumerate(prompts)
        outstanding = troubles = 0
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
                if isinstance(outcome, Reply):
                    troubles = 0
                    yield index, outcome
                    continue
                if not isinstance(outcome, UserError):
                    raise outcome
                error = str(outcome).splitlines()[0]
                yield index, Reply(None, error=error)
                troubles = troubles + 1 if isinstance(outcome, ServerTrouble) else 0
                if troubles >= _GIVE_UP_AFTER:
                    raise ServerGone(f"the last {troubles} questions all failed: {error}")
        finally:
            self._stopped.set()
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
    )


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that a 429 or 503 asks to wait, at most _LONGEST_PAUSE; None if it does not say."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_PAUSE) if text.replace(".", "", 1).isdigit() else None
