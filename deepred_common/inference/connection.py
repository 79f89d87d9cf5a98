"""A connection with an OpenAI-compatible server: requests and their retries, and what each failure means."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import re
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any

from deepred_common import server_session
from deepred_common.cli import UserError, progress
from deepred_common.foreign_text import whole_characters

if TYPE_CHECKING:
    import requests

_CONNECT_TIMEOUT = 10  # seconds until a server that does not even accept the connection counts as absent
_ATTEMPTS = 5  # with the pauses between them about 8 s: a server that restarts or is busy is back by then
_FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
_LONGEST_PAUSE = 60.0  # seconds, whatever Retry-After says
_JITTER = 1.25  # a pause is up to so many times as long: requests in flight must not all come back at once
# LM Studio's words for faults of its own, which it sends with status 400: the next request loads the model.
_FAULTS = re.compile(r"model has crashed|model unloaded|model is unloaded|channel error", re.IGNORECASE)
_SHOWN = 200  # characters of a server's answer that an error message shows
_ENDPOINT = re.compile(r"(?:/(?:chat/)?completions|/models)?/*\Z")  # what is pasted after a base URL


class ServerTrouble(UserError):
    """The server's own fault, which may pass: busy, broken, slow."""


class ServerGone(ServerTrouble):
    """No server answers at the address, or it no longer does."""


class NoAccess(UserError):
    """The server refuses the key, or the account is empty."""


class NotTheApi(UserError):
    """Something answers at the address, but not as an OpenAI-compatible API would."""


class _TryAgain(Exception):
    """An attempt failed in a way that may pass.

    trouble: the error to raise after the last attempt. pause: seconds that the server asks to wait.
    """

    def __init__(self, trouble: ServerTrouble, pause: float = 0) -> None:
        super().__init__(str(trouble))
        self.trouble, self.pause = trouble, pause


class _OfThread(threading.local):
    """What each thread has for itself. stopped: set to end the pauses between its attempts."""

    def __init__(self) -> None:
        self.stopped = threading.Event()


class Connection:
    """Requests to the server at `url`.

    flag: how the command line's own flags for it begin, for messages; "" if it has none. The key in the
    environment variable `key_variable`, if it is set, is sent along and never printed. timeout: seconds to
    wait for an answer. in_flight: requests at a time. A thread may give an Event of its own as
    of_thread.stopped, which ends the pauses between its attempts.
    """

    def __init__(self, url: str, flag: str, key_variable: str, timeout: float, in_flight: int) -> None:
        self.url = _ENDPOINT.sub("", url.strip(), count=1)
        self.timeout = timeout
        self.of_thread = _OfThread()
        self._flag, self._key_variable = flag, key_variable
        self._proxy = server_session.proxy_before(self.url)
        self._session = self._new_session(in_flight)

    def _new_session(self, in_flight: int) -> requests.Session:
        import requests

        session = server_session.new(self.url)
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=in_flight))
        if key := os.environ.get(self._key_variable, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise UserError(
                    f"the key in {self._key_variable} contains line breaks or letters that no key has. "
                    "Set it again."
                )
            session.headers["Authorization"] = f"Bearer {key}"
        return session

    def models(self) -> list[str]:
        """The identifiers that the server lists. Where the URL only lacks /v1 at its end, that is added."""
        try:
            return self._models_here()
        except NotTheApi as error:
            given = self.url
            if not given.endswith("/v1"):
                self.url = f"{given}/v1"
                with contextlib.suppress(UserError):
                    names = self._models_here()
                    progress(f"{given} is not the API, but {self.url} is; that one is asked.")
                    return names
            raise UserError(
                f"{error}\nIs {self._flag}_url {given} right? It usually ends in /v1.{self._proxy_line()}"
            ) from None

    def _models_here(self) -> list[str]:
        listed = self.request("GET", "/models")
        try:
            return [str(entry["id"]) for entry in listed["data"]]
        except (TypeError, KeyError):
            raise NotTheApi(
                f"the server at {self.url} answers, but not as an OpenAI-compatible API: {str(listed)[:120]}"
            ) from None

    def loaded_models(self) -> list[str]:
        """The chat models that LM Studio has loaded, by its own API; [] if the server is another one."""
        import requests

        root = self.url.removesuffix("/v1")
        try:
            answer = self._session.get(f"{root}/api/v0/models", timeout=_CONNECT_TIMEOUT).json()
            return [
                str(entry["id"])
                for entry in answer["data"]
                if entry["state"] == "loaded" and entry["type"] != "embeddings"
            ]
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return []

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, beside_v1: bool = False
    ) -> Any:
        """The JSON that the server answers. beside_v1: the path is one of its own, not of OpenAI's API.

        After a dropped connection, 429, 5xx and half a reply it is asked again, later each time. UserError if
        it still fails after the last attempt; ServerGone if no server answers.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._request_once(method, path, body, beside_v1)
            except _TryAgain as failure:
                if attempt == _ATTEMPTS:
                    raise failure.trouble from None
                # Some servers send a Retry-After of 0 to everyone: the pauses must still grow.
                pause = max(_FIRST_PAUSE * 2 ** (attempt - 1), failure.pause)
            if self.of_thread.stopped.wait(pause * random.uniform(1, _JITTER)):
                raise UserError("stopped")
        raise AssertionError("the last attempt always returns or raises")

    def _request_once(self, method: str, path: str, body: dict[str, Any] | None, beside_v1: bool) -> Any:
        """The JSON of one request. _TryAgain if the same request may succeed later, else UserError."""
        import requests

        errors = requests.exceptions
        url = (self.url.removesuffix("/v1") if beside_v1 else self.url) + path
        try:
            response = self._session.request(method, url, json=body, timeout=(_CONNECT_TIMEOUT, self.timeout))
        except (errors.InvalidURL, errors.MissingSchema, errors.InvalidSchema) as error:
            # requests blames the URL for a proxy that it cannot use, too.
            if isinstance(error, errors.InvalidProxyURL) or "SOCKS" in str(error):
                raise self._gone(error) from None
            raise UserError(f"{self.url} is not a URL; it looks like http://localhost:1234/v1") from None
        except errors.ReadTimeout:
            # A server that is this slow does not get faster by being asked again and again.
            raise ServerTrouble(f"no reply within {self.timeout} s (--timeout)") from None
        except errors.RequestException as error:
            if isinstance(error, errors.SSLError) and (problem := self._tls_problem(str(error).upper())):
                raise ServerGone(problem) from None
            # A dropped connection may pass; a port on which nothing listens, an unknown host, or a proxy that
            # does not let us through, does not.
            reasons = ("refused", "resolve")
            if isinstance(error, errors.ProxyError) or any(reason in str(error) for reason in reasons):
                raise self._gone(error) from None
            raise _TryAgain(self._gone(error)) from None
        if not response.ok:
            raise self._status_error(response, response.status_code, path)
        try:
            # JSON is UTF-8, whatever the header says. Some servers cut a reply inside a character.
            answer = whole_characters(json.loads(response.content.decode("utf-8-sig", errors="replace")))
        except ValueError:
            raise NotTheApi(
                f"the server at {self.url} answers, but not with JSON: {response.text[:80]!r}"
            ) from None
        if isinstance(answer, dict) and (fault := answer.get("error")) and not answer.get("choices"):
            raise self._status_error(response, _status_in(fault) or response.status_code, path)
        if problem := _broken_off(answer):
            raise _TryAgain(ServerTrouble(f"the server at {self.url} {problem}"))
        return answer

    def _tls_problem(self, reason: str) -> str | None:
        """Why no encrypted connection can come about, and what to do; None if trying again may help.

        reason: OpenSSL's, in capital letters.
        """
        if any(words in reason for words in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")):
            plain = self.url.replace("https://", "http://", 1)
            return f"the server at {self.url} does not speak https. Try {self._flag}_url {plain}"
        if "CERTIFICATE" not in reason:
            return None
        return (
            f"the certificate of {self.url} is not trusted here (self-signed, or of your own authority).\n"
            "Name the authority's file: export REQUESTS_CA_BUNDLE=/path/to/ca.pem"
            f"{self._proxy_line()}"
        )

    def _gone(self, error: Exception) -> ServerGone:
        """That no server answers, and what to do: with a proxy in between, look there first."""
        what = f"no server answers at {self.url} ({type(error).__name__})."
        if self._proxy:
            return ServerGone(what + self._proxy_line())
        if self._flag == "--lmstudio":
            start = "Start LM Studio's server (lms server start), or set LMSTUDIO_HOST and LMSTUDIO_PORT or"
            return ServerGone(f"{what}\n{start} {self._flag}_url.{self._wsl_line()}")
        return ServerGone(f"{what} Check {self._flag}_url." if self._flag else what)

    def _wsl_line(self) -> str:
        """A line about LM Studio on Windows, where this is a Linux inside it; else ""."""
        if "microsoft" not in platform.release().lower():
            return ""
        port = urllib.parse.urlsplit(self.url).port or 80
        return (
            "\nThis is WSL. If LM Studio runs on Windows, let it serve on the local network (in its server "
            "settings), and add:\n"
            f"  {self._flag}_url http://$(ip route show default | cut -d' ' -f3):{port}/v1"
        )

    def _proxy_line(self) -> str:
        """A line that names the proxy between, and the way around it; "" without one."""
        if self._proxy is None:
            return ""
        return (
            f"\nThe request went to the proxy {self._proxy.url} (set by {self._proxy.source}). "
            "If the server is on your own network, go around it:\n"
            f"  {server_session.way_around_proxies(self.url)}"
        )

    def _status_error(self, response: requests.Response, status: int, path: str) -> Exception:
        """What to raise for a response that means the error status `status`."""
        if status in (401, 402, 403):
            return NoAccess(self._no_access(status, response.text) + self._proxy_line())
        message = f"the server at {self.url} refused {path} with status {status}: {_start_of(response.text)}"
        if status == 429 or status >= 500 or _FAULTS.search(response.text):
            return _TryAgain(ServerTrouble(message + self._proxy_line()), _retry_after(response))
        return NotTheApi(message)

    def _no_access(self, status: int, text: str) -> str:
        """Why a server lets nobody in; with its own words where a key was sent."""
        key = str(self._session.headers.get("Authorization", "")).removeprefix("Bearer ")
        if status != 402 and not key:
            how = f"Set {self._key_variable} to it."
            return f"the server at {self.url} requires a key (status {status}). {how}"
        refusal = "asks for payment" if status == 402 else f"refuses the key in {self._key_variable}"
        words = _start_of(text.replace(key, "…") if key else text)
        return f"the server at {self.url} {refusal} (status {status}): {words}"


def _status_in(error: Any) -> int | None:
    """The HTTP status that an error names which came with status 200, as from OpenRouter; None without."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return int(code) if re.fullmatch("[45][0-9][0-9]", code) else None


def _broken_off(answer: Any) -> str | None:
    """That an answer holds only what came before an error, and why, if that is said; None of a whole one."""
    try:
        choice = answer["choices"][0]
        if choice.get("finish_reason") != "error":  # OpenRouter's word
            return None
        fault = choice.get("error")
    except (TypeError, KeyError, IndexError, AttributeError):
        return None
    return "broke off its reply" + (f": {_start_of(str(fault))}" if fault else "")


def _start_of(text: str) -> str:
    """The start of what a server answered, in one line: of several, only the first would be shown."""
    return " ".join(text.split())[:_SHOWN]


def _retry_after(response: requests.Response) -> float:
    """Seconds that a 429 or 503 asks to wait, at most _LONGEST_PAUSE; 0 if it does not say."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_PAUSE) if text.replace(".", "", 1).isdecimal() else 0
