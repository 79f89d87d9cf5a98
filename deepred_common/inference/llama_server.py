"""Serve a GGUF file over HTTP with llama.cpp's own OpenAI-compatible server, as LM Studio does.

    python -m deepred_common.inference.llama_server output/merged.gguf --port 8123

A built llama-server is used if one is found, else the same server prebuilt in the xllamacpp package.
"""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.export import llama_cpp

CONTEXT_TOKENS = 2048  # a slot: a question and a reply of --max_tokens, with room


def identifier(gguf):
    """The identifier to serve a file under: `folder/filename` without .gguf, as LM Studio names it."""
    gguf = Path(gguf).resolve()
    return f"{gguf.parent.name}/{gguf.stem}"


def free_port():
    """A TCP port that nothing on this machine listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(gguf, alias=None, timeout=600, slots=2, tree=None):
    """Serve `gguf` in a process of its own on a free local port; yield the base URL (ending in /v1), then shut it down.

    slots: questions answered at once. tree: where to look for a built llama-server.

    UserError with the server's last words if it does not come up within `timeout` seconds.
    """
    import requests

    port = free_port()
    session = requests.Session()
    session.trust_env = False  # no proxy stands before this machine itself
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "deepred_common.inference.llama_server",
                str(Path(gguf).resolve()),
                "--port",
                str(port),
                "--alias",
                alias or identifier(gguf),
                "--slots",
                str(slots),
                *(["--llama_cpp_path", str(Path(tree).resolve())] if tree else []),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=paths.ROOT,
        )
        try:
            deadline = time.monotonic() + timeout
            while True:
                with contextlib.suppress(requests.exceptions.RequestException):
                    if session.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise UserError(
                        f"llama.cpp's server did not start on {gguf}: {log.read().strip()[-500:]}"
                    )
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _serve_prebuilt(gguf, host, port, alias, slots):
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.model_alias = {alias}
    parameters.hostnames, parameters.port = [host], port
    parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS * slots, slots
    parameters.cpuparams.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(parameters)
    cli.progress(f"serving {alias} at {server.listening_address}/v1 (Ctrl-C stops it)")
    threading.Event().wait()


def build_parser():
    parser = cli.Parser(
        prog="python -m deepred_common.inference.llama_server",
        description="Serve a GGUF file with llama.cpp.",
    )
    parser.add_argument("gguf", type=Path, help="the .gguf file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=cli.positive_int, default=1234, help="port to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--slots", type=cli.positive_int, default=2, help="questions answered at once (default: %(default)s)"
    )
    parser.add_argument("--alias", help="identifier to serve it under (default: folder/filename)")
    parser.add_argument(
        "--llama_cpp_path",
        type=Path,
        default=paths.ROOT / "llama.cpp",
        help="where to look for a built llama-server",
    )
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    if not args.gguf.is_file():
        raise UserError(f"{args.gguf} does not exist.")
    with socket.socket() as probe:
        if probe.connect_ex((args.host, args.port)) == 0:
            raise UserError(f"port {args.port} of {args.host} is taken; choose another --port.")
    alias = args.alias or identifier(args.gguf)
    tool = llama_cpp.find_tool(llama_cpp.find_tree(args.llama_cpp_path, False), "llama-server")
    if tool:
        cli.progress(f"serving {alias} at http://{args.host}:{args.port}/v1 with {tool} (Ctrl-C stops it)")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execv(
            tool,
            [
                str(tool),
                "-m",
                str(args.gguf),
                "--host",
                args.host,
                "--port",
                str(args.port),
                "-a",
                alias,
                "-c",
                str(CONTEXT_TOKENS * args.slots),
                "-np",
                str(args.slots),
            ],
        )
    if importlib.util.find_spec("xllamacpp") is None:
        raise UserError(
            "no llama-server is built, and the xllamacpp package, which carries one, is not installed:\n"
            "  pip install xllamacpp"
        )
    _serve_prebuilt(args.gguf, args.host, args.port, alias, args.slots)


if __name__ == "__main__":
    sys.exit(cli.run(main))
