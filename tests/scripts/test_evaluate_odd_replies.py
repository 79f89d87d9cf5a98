"""The evaluator and what is no plain text: thoughts, broken characters, pipes that are not UTF-8."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, line
from fake_server import reply_with, running

REFUSAL = "I'm not sure about that topic."


@pytest.fixture
def server():
    with running() as server:
        yield server


@pytest.fixture
def arguments(server, data_file, tmp_path):
    output = tmp_path / "out.json"
    return ["--use_lmstudio", "--lmstudio_url", server.url, "--test_file", data_file, "--output", output]


def rows_of(tmp_path):
    return json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["results"]


# ---- thoughts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize(("finish", "cut"), [("length", True), ("stop", False)])
def test_a_thought_in_a_field_of_its_own_is_no_silent_nothing(
    server, arguments, script, tmp_path, field, finish, cut
):
    message = {"content": "" if cut else None, field: "Okay, the user asks something."}
    server.answer = lambda n, question: reply_with(None, message=message, finish_reason=finish)
    code, out, err = script("evaluate_temporal", *arguments)
    assert code == 1 and "Empty or broken: 6 (100.0%)" in out
    assert err.count("is a thought without an answer") == 1 and f"in the server's field {field}" in err
    assert "Raise --max_tokens (now 256), or turn thinking off" in err and ("cut after 256" in err) == cut
    assert "answered nothing" in err
    assert {row["reply"] for row in rows_of(tmp_path)} == {"<think>\nOkay, the user asks something."}
    code, _, err = script("evaluate_temporal", *arguments, "--resume")
    assert code == 1 and "answered nothing" in err


@pytest.mark.parametrize(
    "message",
    [
        {"content": f"<think>\nIt was in 1945.\n</think>\n\n{REFUSAL}"},
        {"content": REFUSAL, "reasoning_content": "It was in 1945."},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "It was in 1945."}]},
                {"type": "text", "text": REFUSAL},
            ]
        },
    ],
)
def test_the_answer_counts_and_the_thought_is_kept(server, arguments, script, tmp_path, message):
    server.answer = lambda n, question: reply_with(None, message=message)
    code, out, err = script("evaluate_temporal", *arguments, "--report", "--verbose")
    assert code == 0 and "Correctly refused: 6 (100.0%)" in out and "False refusals: 6" in out, err
    assert "without an answer" not in err
    for row in rows_of(tmp_path):
        assert "It was in 1945." in row["reply"] and REFUSAL in row["reply"]
    assert "It was in 1945." in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_one_answer_among_thoughts_is_enough(server, arguments, script):
    server.answer = lambda n, question: reply_with(REFUSAL if n == 1 else "<think>\nHm")
    assert script("evaluate_temporal", *arguments)[0] == 0


def test_empty_replies_alone_do_not_end_with_0(server, arguments, script):
    server.answer = lambda n, question: reply_with("")
    code, _, err = script("evaluate_temporal", *arguments)
    assert code == 1 and "answered nothing" in err


def test_earlier_turns_go_on_without_their_thoughts(server, arguments, script, tmp_path):
    asked = [{"role": "user", "content": text} for text in ("Hello.", "Who wrote Hamlet?")]
    row = {"messages": [*asked], "metadata": {"dataset_type": "chat"}}
    file = tmp_path / "chat.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"messages": [asked[1]]}) + "\n")
    server.answer = lambda n, question: reply_with("<think>\nHm.\n</think>\n\nShakespeare.")
    assert script("evaluate_temporal", *arguments, "--test_file", file)[0] == 0
    (last,) = [body["messages"] for body, _ in server.requests if len(body["messages"]) == 3]
    assert last[1] == {"role": "assistant", "content": "Shakespeare."}
    assert "<think>" in rows_of(tmp_path)[0]["turns"][0]


# ---- characters --------------------------------------------------------------------------------------

HALF = '{"model": "m", "choices": [{"message": {"content": "I am not sure \\ud83d about that."}}]}'


def test_half_an_emoji_from_the_server_costs_nothing(server, arguments, script, tmp_path):
    server.answer = lambda n, question: (200, HALF, {})
    code, out, err = script("evaluate_temporal", *arguments, "--report", "--verbose")
    assert code == 0 and "Correctly refused: 6" in out, err
    assert {row["reply"] for row in rows_of(tmp_path)} == {"I am not sure \ufffd about that."}


def test_half_an_emoji_in_data_journal_and_results_is_mended_on_the_way_in(
    server, arguments, script, tmp_path
):
    file = tmp_path / "data.jsonl"
    text = line("retain", "Who is it? HALF", "It is he. HALF", accepted_answers=["he HALF"], field="HALF")
    file.write_text(text.replace("HALF", "\\ud83d") + "\n")
    arguments += ["--test_file", file]
    code, _, err = script("evaluate_temporal", *arguments, "--report")
    assert code == 0 and "data.jsonl line 1 has half of a character" in err
    assert rows_of(tmp_path)[0]["instruction"] == "Who is it? \ufffd"
    # What older versions left: a journal, and results.
    results = (tmp_path / "out.json").read_text(encoding="utf-8").replace("I don't know.", "\\ud83d?")
    (tmp_path / "out.json").write_text(results, encoding="utf-8")
    compare = ("--compare", tmp_path / "out.json", tmp_path / "out.json", "--verbose")
    code, _, err = script("evaluate_temporal", *compare, "--report", tmp_path / "c.html")
    assert code == 0 and (tmp_path / "c.html").exists(), err


def test_a_reply_cannot_command_the_terminal(server, arguments, script, tmp_path):
    server.answer = lambda n, question: reply_with("\x1b[2JI don't\r\nknow.\x07")
    code, out, _ = script("evaluate_temporal", *arguments, "--verbose")
    assert code == 0 and "\x1b" not in out and "\\x1b[2JI don't\nknow.\\x07" in out
    server.answer = lambda n, question: (400, "no\x1b[2J", {})
    code, out, err = script("evaluate_temporal", *arguments, "--overwrite")
    assert code == 1 and "\x1b" not in out + err


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_pipe_that_is_not_utf_8_gets_escapes_and_every_file_is_written(
    server, arguments, tmp_path, environment
):
    server.answer = lambda n, question: reply_with("I don\u2019t know \u2013 \U0001f600 \u0416.")
    command = [sys.executable, ROOT / "scripts/evaluate_temporal.py", *arguments, "--report", "--verbose"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **environment})
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert b"\\U0001f4da RETAIN" in done.stdout and b"\\u0416" in done.stdout
    assert rows_of(tmp_path)[0]["reply"].endswith("\U0001f600 \u0416.") and (tmp_path / "out.html").exists()


def test_a_name_of_undecodable_bytes_reaches_every_file(server, arguments, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.json"
    command = [sys.executable, ROOT / "scripts/evaluate_temporal.py", *arguments[:-1], name, "--report"]
    done = subprocess.run([*command, "--system_prompt", b"It is caf\xe9."], capture_output=True)
    assert done.returncode == 0, done.stderr
    with open(name, encoding="utf-8") as file:
        assert json.load(file)["model"]["system_prompt"] == "It is caf\ufffd."
