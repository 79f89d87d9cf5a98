"""The evaluator's back ends, its journal, and its comparisons, on tiny real models and on servers that misbehave."""

import argparse
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
from conftest import ROOT

from deepred_common import cli
from deepred_common.cli import UserError
from deepred_common.evaluation import journal, runner
from deepred_common.examples import example_of
from deepred_common.inference import local_model, reply


class Server:
    """An OpenAI-compatible server of our own whose behaviour a test sets: `answer(n, question)` -> (status, body, headers)."""

    def __init__(self):
        self.asked = []
        self.answer = lambda n, question: reply_with("I don't know.")
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self._send(200, {"data": [{"id": "m"}]}, {})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((body, self.headers.get("Authorization")))
                found = outer.answer(len(outer.asked), body["messages"][-1]["content"])
                if found is None:  # hang up without a word
                    self.connection.close()
                else:
                    self._send(*found)

            def _send(self, status, body, headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def reply_with(text, model="m", **choice):
    return (
        200,
        {"model": model, "choices": [{"message": {"content": text}, "finish_reason": "stop"} | choice]},
        {},
    )


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()


@pytest.fixture
def ask(server, script, data_file, tmp_path):
    def call(*arguments):
        return script(
            "evaluate_temporal",
            "--use_lmstudio",
            "--lmstudio_url",
            server.url,
            "--test_file",
            data_file,
            "--output",
            tmp_path / "out.json",
            *arguments,
        )

    return call


# ---- servers that misbehave --------------------------------------------------------------------------------------------


def test_429_500_and_a_dropped_connection_are_asked_again(server, ask, tmp_path):
    bad = {1: (429, "slow down", {"Retry-After": "0.2"}), 2: (500, "oops", {}), 3: None}
    server.answer = lambda n, question: bad[n] if n in bad else reply_with("I don't know.")
    code, out, err = ask()
    assert code == 0, err
    assert len(server.asked) == 15 and "Correctly refused: 6" in out
    assert all(
        row["verdict"] == "refused" for row in json.loads((tmp_path / "out.json").read_text())["results"]
    )


def test_several_test_files_are_asked_as_one(server, ask, script, data_file, tmp_path):
    lines = data_file.read_text().splitlines()
    (tmp_path / "retain.jsonl").write_text("\n".join(lines[:6]))
    (tmp_path / "unlearn.jsonl").write_text("\n".join(lines[6:]))
    server.answer = lambda n, question: reply_with("I don't know.")
    assert ask()[0] == 0
    code, out, err = script(
        "evaluate_temporal",
        "--use_lmstudio",
        "--lmstudio_url",
        server.url,
        "--output",
        tmp_path / "two.json",
        "--test_file",
        tmp_path / "retain.jsonl",
        tmp_path / "unlearn.jsonl",
    )
    assert code == 0 and "Questions: 6 retain + 6 unlearn" in out, err
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("out.json", "two.json"))
    assert one["summary"] == two["summary"] and len(two["data"]) == 2


def test_failed_questions_count_exit_1_and_are_asked_again_with_resume(server, ask, tmp_path):
    server.answer = lambda n, question: (
        (400, "no such thing", {}) if "Bitcoin" in question else reply_with("I don't know.")
    )
    code, out, err = ask()
    assert code == 1 and "1 of 12 questions got no reply" in err and "status 400" in err
    assert "Failed (no reply): 1 (16.7%)" in out and "Total questions: 6" in out
    server.answer = lambda n, question: reply_with("I don't know.")
    before = len(server.asked)
    code, out, err = ask("--resume")
    assert (
        code == 0
        and len(server.asked) == before + 1
        and "Failed" not in out
        and "11 of 12 replies are in" in err
    )
    assert list(tmp_path.glob("*.replies.jsonl")) == []


def test_a_server_that_dies_keeps_what_was_said(server, ask, tmp_path):
    def answer(n, question):
        if n <= 3:
            return reply_with("I don't know.")
        server.http.socket.close()
        return None

    server.answer = answer
    code, _, err = ask("--in_flight", 1)
    assert (
        code == 2
        and "questions all failed" in err
        and "3 replies are kept" in err
        and "--resume" in err
        and "Traceback" not in err
    )
    assert not (tmp_path / "out.json").exists()
    server.http, server.url = (other := Server()).http, other.url
    code, _, err = ask("--resume")
    assert code == 0 and "3 of 12 replies" in err
    code, out, _ = ask("--resume")
    assert code == 0 and "is complete; nothing is left to ask" in out
    code, _, err = ask()
    assert code == 2 and "already exists" in err


def test_ctrl_c_does_not_wait_for_a_slow_reply_and_keeps_the_others(server, data_file, tmp_path):
    server.answer = lambda n, question: (n > 2 and time.sleep(20)) or reply_with("I don't know.")
    command = [
        sys.executable,
        str(ROOT / "scripts/evaluate_temporal.py"),
        "--use_lmstudio",
        "--lmstudio_url",
        server.url,
        "--test_file",
        str(data_file),
        "--output",
        str(tmp_path / "out.json"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while (
        not (tmp_path / "out.replies.jsonl").exists()
        or (tmp_path / "out.replies.jsonl").read_bytes().count(b"\n") < 3
    ):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and time.monotonic() - started < 8
        and "2 replies are kept. Go on with" in err
        and "Traceback" not in err
    )


def test_ctrl_c_between_a_reply_and_its_verdict_counts_the_reply_as_kept(tmp_path):
    def ctrl_c(*_):
        raise KeyboardInterrupt

    args = argparse.Namespace(
        output=tmp_path / "out.json", overwrite=False, resume=False, verbose=False, cutoff="1969-07-20"
    )
    line = example_of(
        {"instruction": "What is the capital of France?", "output": "Paris.", "metadata": {}}, "", "retain"
    )
    model = types.SimpleNamespace(ask=lambda questions: iter([(0, reply.Reply("Paris."))]))
    with pytest.raises(cli.Interrupted, match="1 replies are kept"):
        runner.ask(runner.Task(args, {}, [line], {}, None, ctrl_c), model, {}, args.output)
    with journal.Journal(tmp_path / "out.replies.jsonl", {}) as log:
        assert log.replies == {0: reply.Reply("Paris.")}


def test_slow_server(server, ask):
    server.answer = lambda n, question: time.sleep(3) or reply_with("late")
    code, _, err = ask("--timeout", 1, "--limit", 2)
    assert code == 1 and "no reply within 1 s (--timeout)" in err


def test_garbage_from_the_server(server, ask):
    server.answer = lambda n, question: (200, "<html>", {}) if n == 1 else reply_with(None)
    code, out, err = ask("--limit", 4)
    assert code == 1 and "not with JSON" in err and "Empty or broken" in out + err


def test_the_key_is_sent_and_never_printed_and_the_system_prompt_goes_first(
    server, ask, monkeypatch, tmp_path
):
    monkeypatch.setenv("LMSTUDIO_API_KEY", "secret-123")
    code, out, err = ask("--limit", 2, "--system_prompt", "It is 1969.")
    assert code == 0 and server.asked[0][1] == "Bearer secret-123"
    assert server.asked[0][0]["messages"][0] == {"role": "system", "content": "It is 1969."}
    assert "secret-123" not in out + err + (tmp_path / "out.json").read_text()


def test_killed_and_resumed(server, data_file, tmp_path):
    server.answer = lambda n, question: time.sleep(0.3) or reply_with("I don't know.")
    command = [
        sys.executable,
        str(ROOT / "scripts/evaluate_temporal.py"),
        "--use_lmstudio",
        "--lmstudio_url",
        server.url,
        "--test_file",
        str(data_file),
        "--output",
        str(tmp_path / "out.json"),
        "--in_flight",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    journal = tmp_path / "out.replies.jsonl"
    deadline = time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    with journal.open("ab") as file:
        file.write(b'{"id": 9, "instr')  # what a crash in the middle of a write leaves
    assert subprocess.run(command, capture_output=True).returncode == 2  # not without --resume
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        12 <= len(server.asked) <= 13
        and len(json.loads((tmp_path / "out.json").read_text())["results"]) == 12
    )


def test_a_journal_of_another_evaluation_is_refused(server, ask, tmp_path):
    (tmp_path / "out.replies.jsonl").write_text('{"head": {"model": "another"}}\n')
    assert ask()[0] == 2  # nor is it silently replaced
    code, _, err = ask("--resume")
    assert code == 2 and "belongs to another evaluation" in err and "'another' then" in err


# ---- local back ends ----------------------------------------------------------------------------------------------------


def test_a_batch_gives_the_same_replies_as_one_by_one(tiny_models):
    import torch

    from deepred_common.models import loading

    model, tokenizer = (
        loading.load_model(tiny_models["llama"], torch.float32),
        loading.load_tokenizer(tiny_models["llama"]),
    )
    questions = [
        "Who?",
        "What is the capital of France, and why was it chosen?",
        "When did World War II end?",
        "Name a bird.",
    ]
    alone = dict(local_model.LocalModel(model, tokenizer, 12, 1).ask(questions))
    together = dict(local_model.LocalModel(model, tokenizer, 12, 4).ask(questions))
    assert alone == together and all(reply.finish in ("stop", "length") for reply in alone.values())


def test_out_of_memory_halves_the_batch__allocation_failure_faked(tiny_models, monkeypatch):
    import torch

    from deepred_common.models import loading

    local = local_model.LocalModel(
        loading.load_model(tiny_models["llama"], torch.float32),
        loading.load_tokenizer(tiny_models["llama"]),
        3,
        8,
    )
    real = local._generate

    def short_of_memory(prompts):
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("no")
        return real(prompts)

    monkeypatch.setattr(local, "_generate", short_of_memory)
    assert sorted(index for index, _ in local.ask(["q"] * 5)) == [0, 1, 2, 3, 4] and local.batch_size == 2

    def none_at_all(prompts):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(local, "_generate", none_at_all)
    with pytest.raises(UserError, match="not enough memory for a single question"):
        list(local.ask(["q"]))


def test_a_gguf_file_beside_its_base_with_report_and_comparison(
    pipeline, data_file, script, tmp_path, monkeypatch
):
    made = pipeline("llama")
    out = tmp_path / "gguf.json"
    monkeypatch.chdir(made.gguf.parent)  # a path relative to where the user stands
    code, text, err = script(
        "evaluate_temporal",
        "--model_path",
        made.gguf.name,
        "--test_file",
        data_file,
        "--max_tokens",
        6,
        "--output",
        out,
        "--base_model",
        made.base,
        "--report",
    )
    assert code == 0, err
    results = json.loads(out.read_text())
    assert (
        results["schema"] == 2
        and results["model"]["kind"] == "gguf"
        and len(results["model"]["identity"]) == 64
    )
    assert len(results["results"]) == 12 and len(results["baselines"]) == 2
    assert "BESIDE OTHERS" in text and "+ prompt" in text and "IN DETAIL" in text and "Retention: of" in text
    assert "<svg" in (tmp_path / "gguf.html").read_text() or "Curve" in (tmp_path / "gguf.html").read_text()
    code, text, err = script(
        "evaluate_temporal", "--compare", out, tmp_path / "gguf.base.json", "--report", tmp_path / "c.html"
    )
    assert (
        code == 0
        and "12 lines in common" in text
        and "McNemar p, retain" in text
        and (tmp_path / "c.html").exists()
    )


def test_nothing_is_overwritten_unasked(pipeline, data_file, script, tmp_path, server):
    ask = (
        "evaluate_temporal",
        "--use_lmstudio",
        "--lmstudio_url",
        server.url,
        "--test_file",
        data_file,
        "--output",
        tmp_path / "a.json",
    )
    for name, more in (
        ("a.base.json", ("--base_model", pipeline("llama").base)),
        ("page.html", ("--report", tmp_path / "page.html")),
    ):
        (tmp_path / name).write_text("mine")
        code, _, err = script(*ask, *more)
        assert code == 2 and f"{name} already exists" in err and (tmp_path / name).read_text() == "mine"
    code, _, err = script(*ask, "--report", tmp_path / "a.json")
    assert code == 2 and "would replace the results" in err
    (tmp_path / "folder.json").mkdir()
    code, _, err = script(*ask[:-1], tmp_path / "folder.json", "--overwrite")
    assert code == 2 and "is a folder" in err and server.asked == []


# ---- a model as judge -----------------------------------------------------------------------------------------------------


def test_the_judge_is_checked_before_it_is_believed_and_asked_once(
    server, ask, script, tmp_path, monkeypatch, data_file
):
    from deepred_common import paths
    from deepred_common.judging import labelled

    monkeypatch.setattr(paths, "OUTPUT", tmp_path)
    rows = [
        {"question": "Who?", "reference": "Bell.", "accepted": [], "reply": text, "right": text == "Bell"}
        for text in ("Bell", "Edison")
    ]
    monkeypatch.setattr(labelled, "read_labelled", lambda name, half=None: rows)

    def answer(n, question):
        if "You mark answers" not in question:
            return reply_with("Because of Bell and his telephone.")
        return reply_with("YES" if "Reply: Be" in question else "NO")

    server.answer = answer
    code, out, err = ask("--judge_url", server.url, "--limit", 4)
    assert code == 0, err
    assert (
        "Judge m: agrees with the labels on 100.0% of 2 labelled answers, kappa 1.00" in out
        and "Answered correctly: 2" in out
    )
    asked = len(server.asked)
    code, out, err = ask("--judge_url", server.url, "--limit", 4, "--overwrite")
    assert code == 0 and len(server.asked) == asked + 4  # the questions again, no judgement


def test_a_judge_that_says_neither_yes_nor_no_counts_as_disagreeing(server, ask, tmp_path, monkeypatch):
    from deepred_common import paths
    from deepred_common.judging import labelled

    monkeypatch.setattr(paths, "OUTPUT", tmp_path)
    rows = [
        {"question": "Who?", "reference": "Bell.", "accepted": [], "reply": text, "right": text == "Bell"}
        for text in ("Bell", "Edison")
    ]
    monkeypatch.setattr(labelled, "read_labelled", lambda name, half=None: rows)
    server.answer = lambda n, question: reply_with(
        "Well, the answer is Bell." if "Reply: Bell" in question else "NO"
    )
    code, out, err = ask("--judge_url", server.url, "--limit", 4)
    assert code == 0, err
    assert (
        "agrees with the labels on 50.0% of 2" in out
        and "It said neither YES nor NO to 1" in out
        and "agrees less" in err
    )


def test_no_judge_is_checked_for_a_model_that_is_not_there(server, script, data_file, tmp_path):
    code, _, err = script(
        "evaluate_temporal",
        "--use_lmstudio",
        "--lmstudio_url",
        "http://127.0.0.1:9/v1",
        "--test_file",
        data_file,
        "--judge_url",
        server.url,
        "--output",
        tmp_path / "r.json",
    )
    assert code == 2 and "127.0.0.1:9" in err and server.asked == []


def test_an_evaluation_that_died_without_output_is_named(server, script, data_file):
    from deepred_common import paths

    (paths.OUTPUT / "eval-server-20260101_000000.replies.jsonl").write_text('{"head": {}}\n')
    code, _, err = script(
        "evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, "--test_file", data_file
    )
    assert (
        code == 0
        and "holds the replies of an evaluation that was cut short" in err
        and "eval-server-20260101_000000.json --resume" in err
    )
