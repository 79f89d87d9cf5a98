"""Serving a GGUF file with llama.cpp: what a built llama-server is started with."""

import os
import socket
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT

from deepred_common.inference import llama_server


@pytest.fixture
def serve(tmp_path):
    """serve(flags, variables): the finished process, with a fake llama-server that prints its arguments and
    environment."""
    (tmp_path / "m.gguf").touch()
    tool = tmp_path / "llama-server"
    tool.write_text(f"#!{sys.executable}\nimport os, sys\nprint(*sys.argv[1:], *os.environ)\n")
    tool.chmod(0o755)

    def call(*flags, **variables):
        command = [
            sys.executable,
            "-m",
            llama_server.MODULE,
            str(tmp_path / "m.gguf"),
            "--slots",
            "3",
            "--llama_cpp_path",
            str(tmp_path / "none"),
            "--port",
            str(llama_server.free_port()),
            *flags,
        ]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"} | variables,
        )

    return call


@pytest.fixture
def start(serve):
    """start(flags, variables): what the fake llama-server prints."""

    def call(*flags, **variables):
        done = serve(*flags, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.mark.parametrize(("flags", "context"), [([], 2048), (["--reply_tokens", "4096"], 4096 + 1792)])
def test_a_slot_has_room_for_the_longest_reply(flags, context, start):
    """The server cuts a reply where its slot is full, whatever --max_tokens says."""
    assert f"-c {3 * context} -np 3 " in start(*flags)


@pytest.mark.parametrize(("prompt_tokens", "context"), [(1, 2048), (5000, 5256), (10**6, 8192)])
def test_a_slot_has_room_for_the_longest_question_up_to_the_model_s_context(
    prompt_tokens, context, start, tmp_path
):
    write_gguf(tmp_path / "m.gguf", context_length=8192)
    assert f"-c {3 * context} -np 3 " in start("--prompt_tokens", str(prompt_tokens))


def write_gguf(file, context_length):
    """A GGUF file without tensors."""
    from gguf import GGUFWriter

    writer = GGUFWriter(file, "llama")
    writer.add_context_length(context_length)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def test_the_file_s_own_template_is_used_whatever_the_version_and_the_environment(start):
    printed = start(LLAMA_ARG_CHAT_TEMPLATE="chatml", LLAMA_API_KEY="secret", GGML_KEPT="1")
    assert "--jinja" in printed and "GGML_KEPT" in printed
    assert "LLAMA_ARG" not in printed and "LLAMA_API_KEY" not in printed


def test_a_model_is_not_let_think(start):
    assert '--chat-template-kwargs {"enable_thinking": false}' in start()


def test_a_build_needs_no_converter_to_serve(start, tmp_path):
    """An unpacked release of llama.cpp holds the programs alone."""
    for name in ("given", "named"):
        tool = tmp_path / name / "build" / "bin" / "llama-server"
        tool.parent.mkdir(parents=True)
        tool.write_text(f"#!{sys.executable}\nprint('this is the {name} one')\n")
        tool.chmod(0o755)
    named = str(tmp_path / "named")
    assert "this is the named one" in start(LLAMA_CPP_DIR=named)
    given = ("--llama_cpp_path", str(tmp_path / "given"))
    assert "this is the given one" in start(*given, LLAMA_CPP_DIR=named)
    assert "-np 3" in start(LLAMA_CPP_DIR=str(tmp_path / "absent"))  # so the one on PATH


@pytest.fixture
def ipv6():
    """A port of ::1 on which something listens."""
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listening:
        yield listening.getsockname()[1]


def test_an_ipv6_address_is_listened_on_and_printed_as_a_url(serve, ipv6):
    done = serve("--host", "::1")
    assert "--host ::1" in done.stdout and " at http://[::1]:" in done.stderr
    done = serve("--host", "::1", "--port", str(ipv6))
    assert done.returncode == 2
    assert done.stderr == f"error: port {ipv6} of ::1 is taken; choose another --port.\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--host", "nowhere.invalid"), "--host nowhere.invalid is no address and no known name"),
        (("--host", "a..b"), "--host a..b is no address and no known name"),
        (("--port", "70000"), "'70000' is not a port"),
        (("--port", "0"), "'0' is not a port"),
    ],
)
def test_an_address_that_cannot_be_is_told(flags, message, serve):
    done = serve(*flags)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_the_prebuilt_server_cannot_load_is_told_without_a_traceback(serve, tmp_path):
    pytest.importorskip("xllamacpp")
    (tmp_path / "llama-server").unlink()
    done = serve(PATH=str(tmp_path))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: llama.cpp cannot serve {tmp_path / 'm.gguf'} at ")


STARTS_ONE = """
import os, subprocess, sys
child = (
    "import os, sys, time; sys.path.insert(0, sys.argv[1]); "
    "from deepred_common.inference import llama_server; "
    "llama_server._end_with(int(sys.argv[2])); print(os.getpid(), flush=True); time.sleep(60)"
)
subprocess.run([sys.executable, "-c", child, sys.argv[1], str(os.getpid())])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_server_ends_with_the_process_that_started_it_even_by_kill_9():
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE, str(ROOT)], stdout=subprocess.PIPE, text=True
    )
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)
