"""Serving a GGUF file with llama.cpp: what a built llama-server is started with."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT

from deepred_common.inference import llama_server


@pytest.fixture
def start(tmp_path):
    """start(flags, variables): what a fake llama-server prints of its arguments and environment."""
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
            *flags,
        ]
        done = subprocess.run(
            [*command, "--port", str(llama_server.free_port())],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"} | variables,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.mark.parametrize(("flags", "context"), [([], 2048), (["--reply_tokens", "4096"], 4096 + 1792)])
def test_a_slot_has_room_for_the_longest_reply(flags, context, start):
    """The server cuts a reply where its slot is full, whatever --max_tokens says."""
    assert f"-c {3 * context} -np 3 " in start(*flags)


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
