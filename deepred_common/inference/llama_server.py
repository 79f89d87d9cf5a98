"""Serve a GGUF file over HTTP with llama.cpp's own OpenAI-compatible server, as LM Studio does.

    python -m deepred_common.inference.llama_server output/merged.gguf --port 8123
    python -m deepred_common.inference.llama_server output/base.gguf --lora output/adapter.gguf

A built llama-server is used if one is found, else the same server prebuilt in the xllamacpp package.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from deepred_common import cli, devices, paths
from deepred_common.cli import UserError
from deepred_common.export import llama_cpp
from deepred_common.export.gguf_file import GgufFile

MODULE = "deepred_common.inference.llama_server"
TOOL = "llama-server"
LOCAL_HOST = "127.0.0.1"
DEFAULT_PORT = 1234  # LM Studio's
DEFAULT_SLOTS = 2
PROMPT_TOKENS = 1792  # of a slot's context, for a question and what goes before it; more for longer ones
REPLY_TOKENS = 256  # the rest of it, unless longer replies are asked for
START_TIMEOUT = 600  # seconds: a large file on a slow disk takes minutes to load
_SETTINGS = ("LLAMA_ARG_", "LLAMA_API_KEY")  # how environment variables that llama-server reads begin
_TEMPLATE_OPTIONS = {"enable_thinking": False}  # as local models are asked (template_changes)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_PROBE_TIMEOUT = 5  # seconds
_STOP_TIMEOUT = 10  # seconds until a server that does not end by itself is killed
_LAST_WORDS = 500  # characters of the server's log that an error message shows


def identifier(gguf: str | Path) -> str:
    """The identifier to serve a file under: `folder/filename` without .gguf, as LM Studio names it."""
    gguf = Path(gguf).resolve()
    return f"{gguf.parent.name}/{gguf.stem}"


def free_port() -> int:
    """A TCP port that nothing on this machine listens on now."""
    with socket.socket() as probe:
        probe.bind((LOCAL_HOST, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(
    gguf: str | Path,
    alias: str | None = None,
    timeout: float = START_TIMEOUT,
    slots: int = DEFAULT_SLOTS,
    tree: Path | None = None,
    reply_tokens: int = REPLY_TOKENS,
    prompt_tokens: int = PROMPT_TOKENS,
    lora: Path | None = None,
) -> Iterator[str]:
    """Serve `gguf` in a process of its own on a free local port; yield its base URL (ending in /v1).

    slots: questions answered at once. tree: where to look for a built llama-server. prompt_tokens: the
    longest question that a slot must hold. reply_tokens: the longest reply after it. lora: a GGUF adapter
    that is put on `gguf`.

    UserError with the server's last words if it does not answer within `timeout` seconds, or has ended when
    the block raises one; a warning with them if it has ended when the block is done.
    """
    port = free_port()
    command = [sys.executable, "-m", MODULE, str(Path(gguf).resolve())]
    command += ["--port", str(port), "--alias", alias or identifier(gguf), "--slots", str(slots)]
    command += ["--reply_tokens", str(reply_tokens), "--prompt_tokens", str(max(1, prompt_tokens))]
    command += ["--parent", str(os.getpid())]
    if tree:
        command += ["--llama_cpp_path", str(Path(tree).resolve())]
    if lora:
        command += ["--lora", str(Path(lora).resolve())]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=paths.ROOT)
        try:
            if not _answers(process, port, timeout):
                raise UserError(f"llama.cpp's server did not start on {gguf}: {_last_words(log)}")
            try:
                yield f"http://{LOCAL_HOST}:{port}/v1"
            except UserError as error:
                if ending := _ending(process):
                    words = f"llama.cpp's server on {gguf} {ending}: {_last_words(log)}"
                    raise UserError(f"{words}\n{error}") from error
                raise
            if ending := _ending(process):
                cli.warn(f"llama.cpp's server on {gguf} {ending}: {_last_words(log)}")
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ending(process: subprocess.Popen[bytes]) -> str | None:
    """How the server ended by itself; None if it still runs."""
    code = process.poll()
    if code is None:
        return None
    if code >= 0:
        return f"ended with exit status {code}"
    hint = "; was the memory full?" if code == -signal.SIGKILL else ""
    return f"was ended by signal {-code} ({signal.strsignal(-code)}{hint})"


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    return log.read().strip()[-_LAST_WORDS:]


def _answers(process: subprocess.Popen[bytes], port: int, timeout: float) -> bool:
    """Wait until the server on `port` is ready; False if its process ends or `timeout` seconds pass."""
    import requests

    session = requests.Session()
    session.trust_env = False  # no proxy stands before this machine itself
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.exceptions.RequestException):
            if session.get(f"http://{LOCAL_HOST}:{port}/health", timeout=5).ok:
                return True
        time.sleep(0.1)
    return False


def _require_free(host: str, port: int) -> None:
    """UserError if something listens on the port already, or if no such host is known."""
    try:
        socket.create_connection((host, port), timeout=_PROBE_TIMEOUT).close()
    except (socket.gaierror, UnicodeError):  # the second one for what cannot be a name
        raise UserError(f"--host {host} is no address and no known name of this machine.") from None
    except OSError:
        return
    raise UserError(f"port {port} of {host} is taken; choose another --port.")


def _end_with(parent: int) -> None:
    """Let the system end this process when the one that started it ends, also by kill -9. Linux only.

    Otherwise the server would hold its memory until someone finds it. It lasts through an exec.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            sys.exit()


def _serve_prebuilt(
    gguf: Path, lora: Path | None, host: str, port: int, alias: str, slots: int, context: int
) -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    if lora:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora))]
    parameters.model_alias = {alias}
    parameters.hostnames, parameters.port = [host], port
    parameters.n_ctx, parameters.n_parallel = context * slots, slots
    parameters.cpuparams.n_threads = devices.usable_cpus()
    parameters.use_jinja = True
    parameters.default_template_kwargs = {
        name: json.dumps(value) for name, value in _TEMPLATE_OPTIONS.items()
    }
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:  # "Failed to init server, please check the input params."
        raise UserError(
            f"llama.cpp cannot serve {gguf} at {host}, port {port}; its own lines above say why."
        ) from error
    cli.progress(f"serving {alias} at {server.listening_address}/v1 (Ctrl-C stops it)")
    threading.Event().wait()


def _serve_built(
    tool: Path, gguf: Path, lora: Path | None, host: str, port: int, alias: str, slots: int, context: int
) -> None:
    """Become the llama-server `tool`."""
    shown_host = f"[{host}]" if ":" in host else host  # IPv6
    cli.progress(f"serving {alias} at http://{shown_host}:{port}/v1 with {tool} (Ctrl-C stops it)")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    command = [str(tool), "-m", str(gguf), "--host", host, "--port", str(port), "-a", alias]
    command += ["-c", str(context * slots), "-np", str(slots)]
    if lora:
        command += ["--lora", str(lora)]
    # Before December 2025 llama-server rendered with the nearest of its own templates, unless told so.
    command += ["--jinja", "--chat-template-kwargs", json.dumps(_TEMPLATE_OPTIONS)]
    # Settings of another server of the user's, such as a key or a template, are not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    os.execve(tool, command, environment)


def model_context(gguf: Path) -> int | None:
    """Tokens of the model's own context, beyond which no slot is let; None if the file does not say."""
    context: int | None = GgufFile(gguf).value("{arch}.context_length")
    return context


def _slot_context(gguf: Path, prompt_tokens: int, reply_tokens: int) -> int:
    """Tokens of each slot's context. llama.cpp divides the whole evenly among the slots."""
    context = max(PROMPT_TOKENS, prompt_tokens) + max(REPLY_TOKENS, reply_tokens)
    if prompt_tokens > PROMPT_TOKENS:
        # The server lets no slot use more than the model's own context, but would take the memory.
        return min(context, model_context(gguf) or context)
    return context


def _build(folder: Path, named_by_user: bool, log: Path) -> None:
    """Compile llama-server in the source tree that conversions use; it is fetched if there is none."""
    tree = llama_cpp.find_tree(folder, named_by_user) or llama_cpp.fetch_tree(folder)
    llama_cpp.build(tree, TOOL, log)


def build_parser() -> cli.Parser:
    """The command line of this module."""
    parser = cli.Parser(prog=f"python -m {MODULE}", description="Serve a GGUF file with llama.cpp.")
    parser.add_argument("gguf", type=cli.path, help="the .gguf file")
    parser.add_argument("--lora", type=cli.path, help="a LoRA adapter for it, as a .gguf file")
    parser.add_argument("--host", default=LOCAL_HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=cli.port, default=DEFAULT_PORT, help="port to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--slots",
        type=cli.positive_int,
        default=DEFAULT_SLOTS,
        help="questions answered at once (default: %(default)s)",
    )
    parser.add_argument(
        "--reply_tokens",
        type=cli.positive_int,
        default=REPLY_TOKENS,
        help="longest reply that there must be room for (default: %(default)s)",
    )
    parser.add_argument(
        "--prompt_tokens",
        type=cli.positive_int,
        default=PROMPT_TOKENS,
        help="longest question that there must be room for, up to the model's context (default: %(default)s)",
    )
    parser.add_argument("--alias", help="identifier to serve it under (default: folder/filename)")
    parser.add_argument(
        "--llama_cpp_path",
        type=cli.path,
        default=paths.ROOT / "llama.cpp",
        help="where to look for a built llama-server",
    )
    parser.add_argument(
        "--build_only",
        action="store_true",
        help="serve nothing: compile llama-server if there is none (7 minutes or more)",
    )
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # the process to end with
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C."""
    args, given = cli.parse(build_parser(), argv)
    if args.parent:
        _end_with(args.parent)
    for file in filter(None, (args.gguf, args.lora)):
        if not file.is_file():
            raise UserError(f"{file} does not exist.")
    tool = llama_cpp.find_tool(args.llama_cpp_path, TOOL, paths.from_environment("LLAMA_CPP_DIR"))
    if args.build_only:
        if tool is None:
            _build(args.llama_cpp_path, "llama_cpp_path" in given, args.gguf.with_name(f"{TOOL}.log"))
        return cli.EXIT_OK
    _require_free(args.host, args.port)
    alias = args.alias or identifier(args.lora or args.gguf)
    context = _slot_context(args.gguf, args.prompt_tokens, args.reply_tokens)
    if tool:
        _serve_built(tool, args.gguf, args.lora, args.host, args.port, alias, args.slots, context)
    if importlib.util.find_spec("xllamacpp") is None:
        raise UserError(
            "no llama-server is built, and the xllamacpp package, which contains one, is not installed:\n"
            "  pip install xllamacpp\nOr compile one: run this once with --build_only."
        )
    _serve_prebuilt(args.gguf, args.lora, args.host, args.port, alias, args.slots, context)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
