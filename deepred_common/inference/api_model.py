"""Getting replies: a local Hugging Face model or an OpenAI-compatible server, asked greedily, one user turn each."""

import os
import queue
import random
import threading
import urllib.parse

from deepred_common import chat
from deepred_common.cli import UserError, warn
from deepred_common.inference.reply import Reply

API_KEY_VARIABLE = "LMSTUDIO_API_KEY"
_RETRIES = 5
_GIVE_UP_AFTER = 8  # failed questions in a row: the server is gone, not busy


class ServerTrouble(UserError):
    """The server's own fault, which may pass: busy, broken, slow."""


class ServerGone(ServerTrouble):
    """Nobody answers at the server's address (any more)."""


class ApiModel:
    """A model behind an OpenAI-compatible server (LM Studio, llama.cpp): `<url>/models`, `<url>/chat/completions`.

    model: the identifier to ask for; None takes the only one that the server lists.
    in_flight: requests at a time; a server with one slot simply queues them. timeout: seconds to wait for one reply.
    The key in the environment variable `key_variable`, if there is one, is sent along and never printed.
    flag: how the command line's own flags for this server begin, for messages.
    """

    def __init__(
        self,
        url,
        model,
        max_tokens,
        in_flight=8,
        timeout=300,
        system=None,
        flag="--lmstudio",
        key_variable=API_KEY_VARIABLE,
    ):
        import requests

        self.url = url.rstrip("/")
        self.max_tokens = max_tokens
        self.in_flight = in_flight
        self.timeout = timeout
        self.system = system
        self.answered_by = []
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=in_flight))
        self._session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=in_flight))
        self._flag, self._key_variable = flag, key_variable
        # A proxy for the outside world does not reach this machine's own servers.
        self._session.trust_env = urllib.parse.urlsplit(self.url).hostname not in (
            "localhost",
            "127.0.0.1",
            "::1",
        )
        if key := os.environ.get(key_variable):
            self._session.headers["Authorization"] = f"Bearer {key}"
        self._stopped = threading.Event()
        self.model = self._choose(model)

    def _choose(self, wanted):
        listed = self.request("GET", "/models")
        try:
            names = [entry["id"] for entry in listed["data"]]
        except (TypeError, KeyError):
            raise UserError(
                f"the server at {self.url} answers, but not as an OpenAI-compatible API: {str(listed)[:120]}"
            ) from None
        if wanted in names or (wanted is None and len(names) == 1):
            return wanted or names[0]
        what = f"{self._flag}_model is needed" if wanted is None else f"the server has no model {wanted!r}"
        raise UserError(f"{what}; it lists: {', '.join(names) or 'none (load one first: lms load …)'}")

    def request(self, method, path, body=None):
        """The JSON that the server answers. Dropped connections, 429 and 5xx are tried again, later each time.

        UserError when it stays so; ServerGone when nobody listens (any more).
        """
        import requests

        for attempt in range(_RETRIES):
            last = attempt == _RETRIES - 1
            wait = None
            try:
                response = self._session.request(
                    method, self.url + path, json=body, timeout=(10, self.timeout)
                )
            except (
                requests.exceptions.InvalidURL,
                requests.exceptions.MissingSchema,
                requests.exceptions.InvalidSchema,
            ):
                raise UserError(f"{self.url} is not a URL; it looks like http://localhost:1234/v1") from None
            except requests.exceptions.ReadTimeout:
                # A server that is this slow does not get faster by being asked again and again.
                raise ServerTrouble(f"no reply within {self.timeout} s (--timeout)") from None
            except requests.exceptions.RequestException as error:
                # Nobody listening at all does not get better by waiting; a dropped connection may.
                refused = "refused" in str(error) or "resolve" in str(error)
                if last or refused:
                    ours = self._flag == "--lmstudio"
                    hint = (
                        "Start LM Studio's server (lms server start), or set LMSTUDIO_HOST and LMSTUDIO_PORT or"
                        if ours
                        else "Check"
                    )
                    raise ServerGone(
                        f"no server answers at {self.url}. {hint} {self._flag}_url.\n({type(error).__name__})"
                    ) from None
            else:
                if response.ok:
                    try:
                        return response.json()
                    except ValueError:
                        raise UserError(
                            f"the server at {self.url} answers, but not with JSON: {response.text[:80]!r}\n"
                            "Is the URL right? It usually ends in /v1."
                        ) from None
                if response.status_code in (401, 403):
                    raise UserError(
                        f"the server at {self.url} wants a key (status {response.status_code}): put it into {self._key_variable}."
                    )
                may_pass = response.status_code == 429 or response.status_code >= 500
                if last or not may_pass:
                    kind = ServerTrouble if may_pass else UserError
                    raise kind(
                        f"the server at {self.url} refused {path} with status {response.status_code}: {response.text[:200].strip()}"
                    )
                wait = _retry_after(response)
            # Back off exponentially, with jitter, so that requests in flight do not all come back at once.
            if self._stopped.wait(
                wait if wait is not None else 0.5 * 2**attempt * random.uniform(0.75, 1.25)
            ):
                raise UserError("stopped")
        raise AssertionError("the last attempt always returns or raises")

    def chat(self, messages):
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

    def _work(self, todo, done):
        while (entry := todo.get()) is not None and not self._stopped.is_set():
            index, instruction = entry
            try:
                done.put((index, self.chat(chat.messages(instruction, self.system)), False))
            except UserError as error:
                done.put(
                    (index, Reply(None, error=str(error).splitlines()[0]), isinstance(error, ServerTrouble))
                )

    def ask(self, instructions):
        """Yield (index, Reply) for each instruction, as the replies come in; one that fails has its error as a Reply.

        ServerGone if _GIVE_UP_AFTER in a row fail by the server's fault: what would follow would fail as well.
        """
        # Threads of our own, since a pool's are waited for at the end: Ctrl-C would hang for as long as a reply takes.
        todo, done = queue.Queue(), queue.Queue()
        self._stopped.clear()
        for _ in range(self.in_flight):
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        upcoming = enumerate(instructions)
        outstanding = troubles = 0
        try:
            while True:
                # A few more than are in flight, not all 15 000 at once: memory stays flat.
                while outstanding < 2 * self.in_flight and (entry := next(upcoming, None)):
                    todo.put(entry)
                    outstanding += 1
                if not outstanding:
                    return
                index, reply, trouble = done.get()
                outstanding -= 1
                troubles = troubles + 1 if trouble else 0
                yield index, reply
                if troubles >= _GIVE_UP_AFTER:
                    raise ServerGone(f"the last {troubles} questions all failed: {reply.error}")
        finally:
            self._stopped.set()
            for _ in range(self.in_flight):
                todo.put(None)


def _retry_after(response):
    """Seconds that a 429 or 503 asks to wait, at most a minute; None if it does not say."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.replace(".", "", 1).isdigit() else None
