"""A GGUF file as a back end: what is no such file is named before the settings; its server may die."""

import json
import os
import sys

import pytest
from conftest import ROOT, line
from test_llama_server import write_gguf

from deepred_common.inference import conversations, gguf_model
from deepred_common.inference.protocol import BackendSettings

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(LFS, "is a Git LFS pointer"), (b"", "is damaged"), (b"<!doctype html>", "no GGUF file")],
)
def test_what_is_no_gguf_file_is_named(content, message, script, data_file, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    code, out, err = script("evaluate_temporal", "--model_path", file, "--test_file", data_file)
    assert code == 2 and out == "" and f"{file} is" in err and message in err


def test_a_split_file_is_given_by_its_first_part_and_must_be_whole(script, data_file, tmp_path):
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(b"GGUF")
    code, _, err = script("evaluate_temporal", "--model_path", first, "--test_file", data_file)
    assert code == 2 and f"{second} does not exist" in err
    second.write_bytes(b"GGUF")
    code, _, err = script("evaluate_temporal", "--model_path", second, "--test_file", data_file)
    assert code == 2 and f"Give the first part: {first}" in err


# Answers so many questions in the chat, then dies.
DYING_SERVER = """#!{python}
import os, signal, sys
sys.path.insert(0, "{tests}")
import fake_server

def answer(n, question):
    if n <= {answered}:
        return fake_server.reply_with("I don't know.")
    print("ggml: failed to allocate 12345 bytes", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

server = fake_server.Server(int(sys.argv[sys.argv.index("--port") + 1]))
server.list = lambda path: (200, {{"data": [{{"id": "m"}}]}}, {{}})
server.answer = answer
signal.pause()
"""


@pytest.fixture
def evaluate(script, data_file, tmp_path, monkeypatch):
    """evaluate(answered, flags): of a GGUF file whose server dies after so many replies."""
    monkeypatch.setattr("deepred_common.inference.connection._FIRST_PAUSE", 0.1)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    tool = tmp_path / "build/bin/llama-server"
    tool.parent.mkdir(parents=True)

    def call(answered, *flags):
        tool.write_text(
            DYING_SERVER.format(python=sys.executable, tests=os.path.join(ROOT, "tests"), answered=answered)
        )
        tool.chmod(0o755)
        arguments = ("--model_path", tmp_path / "m.gguf", "--llama_cpp_path", tmp_path, "--in_flight", "1")
        output = ("--test_file", data_file, "--output", tmp_path / "out.json")
        return script("evaluate_temporal", *arguments, *output, *flags)

    return call


REASON = "m.gguf was ended by signal 9 (Killed; was the memory full?): "


def test_a_server_that_dies_says_why_and_the_replies_before_are_kept(evaluate):
    code, _, err = evaluate(3)
    assert code == 2 and "error: llama.cpp's server on " in err and REASON in err
    assert "ggml: failed to allocate 12345 bytes\n" in err and "3 replies are saved. Resume with" in err
    assert "LM Studio" not in err


def test_a_server_that_dies_at_the_last_questions_says_why_as_well(evaluate):
    code, _, err = evaluate(10)
    assert code == 1 and "warning: llama.cpp's server on " in err and REASON in err
    assert "failed to allocate" in err


# Refuses a chat that does not fit into its slot, as llama.cpp's server does. Each word is a token.
NARROW_SERVER = """#!{python}
import signal, sys
sys.path.insert(0, "{tests}")
import fake_server

def flag(name):
    return int(sys.argv[sys.argv.index(name) + 1])

def answer(n, question):
    body, _ = server.requests[-1]
    words = sum(len(turn["content"].split()) for turn in body["messages"])
    if words >= flag("-c") // flag("-np"):
        return 400, "the request exceeds the available context size", {{}}
    return fake_server.reply_with({reply!r})

server = fake_server.Server(flag("--port"))
server.list = lambda path: (200, {{"data": [{{"id": "m"}}]}}, {{}})
server.answer = answer
signal.pause()
"""


def write_narrow_server(folder, context_length, reply="I don't know."):
    write_gguf(folder / "m.gguf", context_length)
    tool = folder / "build/bin/llama-server"
    tool.parent.mkdir(parents=True)
    tests = os.path.join(ROOT, "tests")
    tool.write_text(NARROW_SERVER.format(python=sys.executable, tests=tests, reply=reply))
    tool.chmod(0o755)


def test_a_question_longer_than_most_is_answered(script, tmp_path):
    write_narrow_server(tmp_path, 32768)
    long = "Sum up this text: " + "word " * 4000
    rows = [line("retain", "Who?", "He."), line("retain", long, "Words."), line("unlearn", long, "No.")]
    (tmp_path / "long.jsonl").write_text("\n".join(rows))
    code, _, err = script(
        "evaluate_temporal",
        *("--model_path", tmp_path / "m.gguf", "--llama_cpp_path", tmp_path, "--in_flight", "2"),
        *("--test_file", tmp_path / "long.jsonl", "--output", tmp_path / "out.json"),
        *("--system_prompt", "Read. " * 1000),
    )
    assert code == 0, err
    replies = [row["reply"] for row in json.loads((tmp_path / "out.json").read_text())["results"]]
    assert replies == ["I don't know."] * 3 and "A smaller --in_flight takes less memory" in err


def replies_of(folder, prompts, max_tokens):
    """The replies that the narrow server in the folder gives to prompts, in their order."""
    settings = BackendSettings(
        lmstudio_url="",
        lmstudio_model=None,
        max_tokens=max_tokens,
        batch_size=1,
        in_flight=1,
        timeout=30,
        llama_cpp_path=folder,
        trust_remote_code=False,
    )
    with gguf_model.KIND.open(str(folder / "m.gguf"), settings, None, prompts) as model:
        return [reply for _, reply in sorted(conversations.ask(model, prompts), key=lambda pair: pair[0])]


def test_a_conversation_has_room_for_earlier_replies_as_long_as_they_may_get(tmp_path):
    write_narrow_server(tmp_path, 32768, reply="word " * 1500)
    turns = [{"role": "user", "content": text} for text in ("Who?", "When?", "Where?", "Why?")]
    (reply,) = replies_of(tmp_path, [turns], max_tokens=2000)
    assert reply.error is None and len(reply.turns) == 3


def test_no_more_room_is_announced_than_the_model_has(tmp_path, capsys):
    write_narrow_server(tmp_path, 4096)
    (reply,) = replies_of(tmp_path, ["word " * 2500], max_tokens=8)
    assert reply.text == "I don't know."
    assert "4096 tokens" in capsys.readouterr().err
