"""The evaluator as a user runs it: on tiny real models, and on servers that misbehave."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
import types

import peft
import pytest
import torch
from conftest import ROOT
from fake_server import Server, reply_with, running

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.evaluation import journal, output_files, results_file
from deepred_common.inference.protocol import Reply
from deepred_common.models import loading


@pytest.fixture
def server():
    with running() as server:
        yield server


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


# ---- servers that misbehave --------------------------------------------------------------------------


def test_429_500_and_a_dropped_connection_are_asked_again(server, ask, tmp_path):
    bad = {1: (429, "slow down", {"Retry-After": "0.2"}), 2: (500, "oops", {}), 3: None}
    server.answer = lambda n, question: bad[n] if n in bad else reply_with("I don't know.")
    code, out, err = ask()
    assert code == 0, err
    assert len(server.requests) == 15 and "Correctly refused: 6" in out
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


def test_a_single_question_that_fails_is_one_question(server, ask):
    server.answer = lambda n, question: (400, "no such thing", {})
    code, _, err = ask("--limit", 1)
    assert code == 1 and "1 of 1 question got no reply" in err
    assert "It counts as failed above. To ask it again:" in err


def test_failed_questions_count_exit_1_and_are_asked_again_with_resume(server, ask, tmp_path):
    server.answer = lambda n, question: (
        (400, "no such thing", {}) if "Bitcoin" in question else reply_with("I don't know.")
    )
    code, out, err = ask()
    assert code == 1 and "1 of 12 questions got no reply" in err and "status 400" in err
    assert "Failed (no reply): 1 (16.7%)" in out and "Total questions: 6" in out
    server.answer = lambda n, question: reply_with("I don't know.")
    before = len(server.requests)
    code, out, err = ask("--resume")
    assert (
        code == 0
        and len(server.requests) == before + 1
        and "Failed" not in out
        and "11 of 12 replies are in" in err
    )
    assert list(tmp_path.glob("*.replies.jsonl")) == []


def test_a_server_that_dies_keeps_the_replies_so_far(server, ask, tmp_path):
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
        and "3 replies are saved" in err
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
        and "2 replies are saved. Resume with" in err
        and "Traceback" not in err
    )


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
    assert code == 0 and server.requests[0][1] == "Bearer secret-123"
    assert server.requests[0][0]["messages"][0] == {"role": "system", "content": "It is 1969."}
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
    _, err = process.communicate()
    assert f"--output {tmp_path / 'out.json'} --resume" in err.decode()
    with journal.open("ab") as file:
        file.write(b'{"id": 9, "instr')  # what a crash in the middle of a write leaves
    assert subprocess.run(command, capture_output=True).returncode == 2  # not without --resume
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        12 <= len(server.requests) <= 13
        and len(json.loads((tmp_path / "out.json").read_text())["results"]) == 12
    )


def test_a_journal_of_another_evaluation_is_refused(server, ask, tmp_path):
    (tmp_path / "out.replies.jsonl").write_text('{"head": {"model": "another"}}\n')
    assert ask()[0] == 2  # nor is it silently replaced
    code, _, err = ask("--resume")
    assert code == 2 and "belongs to another evaluation" in err and "'another' then" in err


# ---- whole evaluations -------------------------------------------------------------------------------


def test_a_gguf_file_beside_its_base_with_report_and_comparison(
    pipeline, data_file, script, tmp_path, monkeypatch
):
    files = pipeline("llama")
    out = tmp_path / "gguf.json"
    monkeypatch.chdir(files.gguf.parent)  # a path relative to the working directory
    code, text, err = script(
        "evaluate_temporal",
        "--model_path",
        files.gguf.name,
        "--test_file",
        data_file,
        "--max_tokens",
        6,
        "--output",
        out,
        "--base_model",
        files.base,
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
        and "Questions in common: 12. " in text
        and "McNemar p, retain" in text
        and (tmp_path / "c.html").exists()
    )


def test_nothing_is_replaced_without_overwrite(pipeline, data_file, script, tmp_path, server):
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
    assert code == 2 and "is a folder" in err and server.requests == []


def test_results_files_end_in_json_so_that_no_two_share_their_replies(server, ask, tmp_path):
    code, _, err = ask("--output", tmp_path / "qwen2.5-base")
    assert code == 2 and "qwen2.5-base must end in .json" in err
    assert server.requests == [] and list(tmp_path.glob("qwen*")) == []


# ---- a model as judge --------------------------------------------------------------------------------


def test_the_judge_is_checked_first_and_asked_once_for_each_answer(
    server, ask, script, tmp_path, monkeypatch, data_file
):
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
    before = len(server.requests)
    code, out, err = ask("--judge_url", server.url, "--limit", 4, "--overwrite")
    assert code == 0 and len(server.requests) == before + 4  # the questions again, no judgement


def test_the_judge_is_compared_on_answers_that_the_matcher_was_not_built_on(server, ask, monkeypatch):
    from deepred_common.judging import labelled

    rows = [
        {
            "question": "Who?",
            "reference": "Bell.",
            "accepted": [],
            "reply": reply,
            "right": True,
            "half": half,
        }
        for half in (labelled.BUILD, labelled.HELD_OUT)
        for reply in (f"Bell {half}", f"It was Bell {half}")
    ]
    monkeypatch.setattr(
        labelled,
        "read_labelled",
        lambda name, half=None: [row for row in rows if half in (None, row["half"])],
    )
    server.answer = lambda n, question: reply_with("YES")
    code, out, err = ask("--judge_url", server.url, "--limit", 2)
    assert code == 0 and "of 2 labelled answers" in out, err
    asked = [request["messages"][-1]["content"] for request, _ in server.requests]
    assert any(f"Bell {labelled.HELD_OUT}" in text for text in asked)
    assert not any(f"Bell {labelled.BUILD}" in text for text in asked)


@pytest.mark.parametrize(
    "line", [b'{"key": "12", "right": true, "question": "caf\xc3', b'{"right": true}', b"[1]", b"12"]
)
def test_a_judgement_that_cannot_be_read_is_asked_for_again(line, tmp_path):
    from deepred_common.evaluation import llm_judge

    (tmp_path / "judge.jsonl").write_bytes(line + b"\n")
    model = types.SimpleNamespace(model="m", chat=lambda messages: Reply("YES"))
    assert llm_judge.Judge(model, tmp_path / "judge.jsonl").grade("Bell", "Bell.", "Who?")


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("YES. There is no contradiction.", True),
        ("**Yes** – there is no contradiction.", True),
        ("No. The reference says yes.", False),
        ("The reply names Bell: YES. There is no contradiction.", True),
        ("Is it right, yes or no? It names Edison, so no.", False),
        ("Yes or no? It names Edison, so no.", False),
        ("No contradiction is found. So yes.", True),
        ("It is right in part, but no.", False),
        ("Yes, it names a year, but the reference names another. NO", False),
        ("No, wait. YES", True),
    ],
)
def test_a_judgement_may_be_explained_before_or_after(reply, right, tmp_path):
    from deepred_common.evaluation import llm_judge

    model = types.SimpleNamespace(model="m", chat=lambda messages: Reply(reply))
    assert llm_judge.Judge(model, tmp_path / "judge.jsonl").grade("Bell", "Bell.", "Who?") is right


def test_a_judge_that_answers_neither_yes_nor_no_counts_as_disagreeing(server, ask, tmp_path, monkeypatch):
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
        and "It answered neither YES nor NO for 1" in out
        and "agrees less" in err
    )


def test_no_judge_is_checked_if_no_server_answers(server, script, data_file, tmp_path):
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
    assert code == 2 and "127.0.0.1:9" in err and server.requests == []


def test_an_unfinished_evaluation_without_output_is_named(server, script, data_file):
    (paths.OUTPUT / "eval-server-20260101_000000.replies.jsonl").write_text('{"head": {}}\n')
    code, _, err = script(
        "evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, "--test_file", data_file
    )
    assert (
        code == 0
        and "holds the replies of an evaluation that was cut short" in err
        and "eval-server-20260101_000000.json --resume" in err
    )


@pytest.mark.parametrize(
    ("journal_of", "results"),
    [
        ("eval-merged-20260101_000000", "eval-merged-20260101_000000.json"),
        ("eval-merged-20260101_000000.base", "eval-merged-20260101_000000.json"),
        ("eval-merged-20260101_000000.base-prompt", "eval-merged-20260101_000000.json"),
        ("eval-merged-q8-20260101_000000", None),
    ],
)
def test_the_results_to_resume_are_those_of_this_model(journal_of, results, capsys):
    (paths.OUTPUT / f"{journal_of}.replies.jsonl").touch()
    output_files.new_results("output/merged")
    err = capsys.readouterr().err
    assert f"{results} --resume" in err if results else not err


@pytest.mark.parametrize("name", ["final", "checkpoint-50"])
def test_what_two_runs_both_have_a_folder_of_is_named_after_the_run(name, capsys):
    one, other = f"output/runA/{name}", f"output/runB/{name}"
    (paths.OUTPUT / f"eval-runA-{name}-20260101_000000.replies.jsonl").touch()
    assert output_files.new_results(other).name.startswith(f"eval-runB-{name}-")
    assert not capsys.readouterr().err  # what runA left is none of runB's
    output_files.new_results(one)
    assert f"eval-runA-{name}-20260101_000000.json --resume" in capsys.readouterr().err
    attack = output_files.relearning_results(None, one, "1969-07-20")
    assert attack.name == f"relearn-runA-{name}-1969-07-20.json"
    picture = output_files.date_probe_picture(None, one, "1969-07-20", False)
    assert picture.name == f"date-probe-runA-{name}-1969-07-20.png"


def test_a_date_probe_named_by_itself_replaces_no_earlier_one():
    picture = output_files.date_probe_picture(None, "base", "1969-07-20", False)
    picture.with_suffix(".json").touch()
    with pytest.raises(UserError, match="exists"):
        output_files.date_probe_picture(None, "base", "1969-07-20", False)
    assert output_files.date_probe_picture(None, "base", "1969-07-20", True) == picture


def test_the_help_of_output_names_the_default_of_every_mode(script):
    _, out, _ = script("evaluate_temporal", "--help")
    text = "".join(out.split())
    for name in ("eval-<model>-<time>.json", "relearn-<model>-<cutoff>.json"):
        assert f"output/{name}" in text
    assert "output/date-probe-<model>-<cutoff>.png" in text


# ---- flags that do not count ---


@pytest.mark.parametrize(
    ("flags", "unused"),
    [
        (
            ("--attack", "relearn", "--model_path", "MODEL", "--test_file", "mine.jsonl"),
            "--test_file. Leave it",
        ),
        (
            ("--date_probe", "--model_path", "MODEL", "--report", "--limit", 5),
            "--limit, --report. Leave them",
        ),
        (("--compare", "a.json", "b.json", "--limit", 5), "--limit. Leave it"),
    ],
)
def test_a_mode_refuses_the_flags_that_it_would_ignore(flags, unused, script, tiny_models):
    given = [tiny_models["llama"] if flag == "MODEL" else flag for flag in flags]
    code, out, err = script("evaluate_temporal", *given)
    assert code == 2 and f"does not use {unused} out." in err and not out


@pytest.mark.parametrize("variable", ["LMSTUDIO_HOST", "LMSTUDIO_PORT"])
def test_the_settings_say_which_variable_the_url_is_from(variable, script, data_file, monkeypatch):
    monkeypatch.setenv(variable, {"LMSTUDIO_HOST": "127.0.0.1", "LMSTUDIO_PORT": "9"}[variable])
    _, out, _ = script("evaluate_temporal", "--use_lmstudio", "--test_file", data_file)
    (line,) = [line for line in out.splitlines() if line.strip().startswith("lmstudio_url")]
    assert line.endswith(f"[environment {variable}]")


# ---- files of an earlier evaluation ------------------------------------------------------------------


def test_a_finished_evaluation_of_another_model_or_cutoff_is_not_called_complete(
    server, ask, script, tmp_path
):
    assert ask()[0] == 0
    for changed in (
        ("--max_tokens", 7),
        ("--cutoff", "1950-01-01"),
        ("--limit", 4),
        ("--lmstudio_model", "b"),
    ):
        code, out, err = ask("--resume", *changed)
        assert code == 2 and "finished evaluation of another" in err and "--overwrite" in err, changed
    code, out, err = ask("--resume")
    assert code == 0 and "is complete" in out and len(server.requests) == 12


def test_replies_are_not_put_under_the_questions_of_files_in_another_order(server, ask, data_file, tmp_path):
    lines = data_file.read_text().splitlines()
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, part in zip(files, (lines[:6], lines[6:]), strict=True):
        file.write_text("\n".join(part))
    server.answer = lambda n, question: (400, "no", {}) if n == 3 else reply_with("I don't know.")
    assert ask("--test_file", *files)[0] == 1
    code, _, err = ask("--test_file", *reversed(files), "--resume")
    assert code == 2 and "belongs to another evaluation" in err and "questions: " in err
    assert ask("--test_file", *files, "--resume")[0] == 0 and len(server.requests) == 13
    code, _, err = ask("--test_file", *reversed(files), "--resume")
    assert code == 2 and "finished evaluation of another" in err


def test_resume_counts_although_the_command_says_overwrite(server, ask, tmp_path):
    """The hint after Ctrl-C says "the same command and --resume", and that may hold --overwrite."""
    both = ("--resume", "--overwrite")
    assert ask()[0] == 0 and len(server.requests) == 12
    code, out, _ = ask(*both)
    assert code == 0 and "is complete" in out and len(server.requests) == 12
    code, out, _ = ask(*both, "--max_tokens", 7)  # these are other settings
    assert code == 0 and "is complete" not in out and len(server.requests) == 24
    (tmp_path / "out.json").write_text("mine")
    assert ask(*both)[0] == 0 and len(server.requests) == 36


def test_a_finished_evaluation_of_weights_that_changed_is_not_called_complete(
    tiny_models, script, data_file, tmp_path
):
    model = shutil.copytree(tiny_models["llama"], tmp_path / "merged")
    flags = ["--model_path", model, "--test_file", data_file, "--limit", 2, "--max_tokens", 2]
    flags += ["--output", tmp_path / "m.json"]
    assert script("evaluate_temporal", *flags)[0] in (0, 1)
    assert "is complete" in script("evaluate_temporal", *flags, "--resume")[1]
    (weights,) = model.glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # merged again
    code, out, err = script("evaluate_temporal", *flags, "--resume")
    assert code == 2 and "is a finished evaluation of another model" in err and "complete" not in out


def test_a_finished_evaluation_is_found_however_its_model_is_named(
    tiny_models, script, data_file, tmp_path, monkeypatch
):
    for name in ("merged", "base"):
        shutil.copytree(tiny_models["llama"], tmp_path / name)
    shutil.copytree(tiny_models["llama"], tmp_path / "other")
    (weights,) = (tmp_path / "other").glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.chdir(tmp_path)
    flags = ["--test_file", data_file, "--limit", 2, "--max_tokens", 2, "--output", tmp_path / "m.json"]
    named = ["--model_path", "merged", "--base_model", "base"]
    assert script("evaluate_temporal", *flags, *named)[0] in (0, 1)
    absolute = ["--model_path", tmp_path / "merged", "--base_model", tmp_path / "base"]
    code, out, err = script("evaluate_temporal", *flags, *absolute, "--resume")
    assert code in (0, 1) and "is complete" in out, err
    for model, base in (("other", "base"), ("merged", "other")):
        wrong = ["--model_path", model, "--base_model", base]
        code, out, err = script("evaluate_temporal", *flags, *wrong, "--resume")
        name = "base" if model == "merged" else "merged"
        assert code == 2 and f"(model: '{name}' then, 'other' now)" in err, err


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize("changed", ["folder", "adapter's base"])
def test_replies_with_another_chat_template_are_those_of_another_model(
    is_finished, changed, tiny_models, script, data_file, tmp_path, monkeypatch
):
    base = model = shutil.copytree(tiny_models["llama"], tmp_path / "merged")
    if changed != "folder":
        model = tmp_path / "adapter"
        loaded = loading.load_model(base, torch.float32)
        peft.get_peft_model(loaded, peft.LoraConfig(target_modules="all-linear")).save_pretrained(model)
    flags = ["--model_path", model, "--test_file", data_file, "--limit", 2, "--max_tokens", 2]
    flags += ["--output", tmp_path / "m.json"]

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if not is_finished:
            patch.setattr(results_file, "write", full)
        assert script("evaluate_temporal", *flags)[0] in (0, 1, 2)
    before = {file: file.read_bytes() for file in tmp_path.glob("m.*")}
    assert len(before) == 1
    template = base / "chat_template.jinja"
    template.write_text("{# reworded #}" + template.read_text())
    (base / "results.json").write_text("{}")  # nothing that a model is read from
    code, out, err = script("evaluate_temporal", *flags, "--resume")
    assert code == 2 and "complete" not in out, err
    assert ("is a finished evaluation of another" if is_finished else "belongs to another evaluation") in err
    name = "chat_template.jinja" if changed == "folder" else "base: chat_template.jinja"
    assert f"(of the model: {name})" in err
    assert {file: file.read_bytes() for file in tmp_path.glob("m.*")} == before
    template.write_text(template.read_text().removeprefix("{# reworded #}"))
    assert script("evaluate_temporal", *flags, "--resume")[0] in (0, 1)


def test_results_that_do_not_say_the_chat_template_are_complete(tiny_models, script, data_file, tmp_path):
    """Earlier versions did not record it."""
    flags = ["--model_path", tiny_models["llama"], "--test_file", data_file, "--limit", 2, "--max_tokens", 2]
    flags += ["--output", tmp_path / "m.json"]
    assert script("evaluate_temporal", *flags)[0] in (0, 1)
    results = json.loads((tmp_path / "m.json").read_text())
    assert "chat_template.jinja" in results["asked"].pop("model_files")
    (tmp_path / "m.json").write_text(json.dumps(results))
    assert "is complete" in script("evaluate_temporal", *flags, "--resume")[1]


def test_results_from_before_the_last_repair_of_one_family_s_prompts_are_complete(server, ask, tmp_path):
    """They count as of version 5. Raise it here together with chat.VERSION."""
    assert ask()[0] == 0
    results = json.loads((tmp_path / "out.json").read_text())
    results["asked"]["chat"] = 5
    (tmp_path / "out.json").write_text(json.dumps(results))
    (tmp_path / "before.json").write_text(json.dumps(results))
    code, out, err = ask("--resume", "--baseline", tmp_path / "before.json")
    assert code == 0 and "is complete" in out and "version of the prompts" not in err, err


def test_a_report_of_a_finished_evaluation_can_still_be_written(server, ask, tmp_path):
    assert ask()[0] == 0
    code, out, err = ask("--resume", "--report")
    assert code == 0 and "is complete" in out and len(server.requests) == 12, err
    assert "<html" in (tmp_path / "out.html").read_text()


def test_a_finished_evaluation_is_compared_with_a_new_baseline(server, ask, tmp_path):
    assert ask("--output", tmp_path / "other.json")[0] == 0 and ask()[0] == 0
    code, out, err = ask("--resume", "--baseline", tmp_path / "other.json")
    assert code == 0 and "is complete" in out and "BESIDE OTHERS" in out and len(server.requests) == 24, err
    (compared,) = results_file.read(tmp_path / "out.json")["baselines"]
    assert compared["against"]["retain"]["better"] == 0
    assert "BESIDE OTHERS" not in ask("--resume")[1]
    third = json.loads((tmp_path / "other.json").read_text())
    third["model"]["name"] = "third"
    (tmp_path / "third.json").write_text(json.dumps(third))
    out = ask("--resume", "--baseline", tmp_path / "third.json")[1]
    assert out.count("third") == 1 and len(results_file.read(tmp_path / "out.json")["baselines"]) == 2


def test_figures_of_another_judge_cutoff_or_length_are_not_compared_silently(server, ask, script, tmp_path):
    first, other = tmp_path / "out.json", tmp_path / "other.json"
    assert ask("--output", other)[0] == 0 and "in another way" not in ask("--baseline", other)[2]
    results = json.loads(other.read_text())
    results["judge"] = {"model": "a-judge", "url": "http://x", "kappa": 1.0, "agreement": 1.0}
    results["cutoff"], results["asked"]["max_tokens"] = "1950-01-01", 7
    other.write_text(json.dumps(results))
    differing = ["judge a-judge there, none here", "cutoff 1950-01-01 there, 1969-07-20 here"]
    differing.append("max_tokens 7 there")
    compared = script("evaluate_temporal", "--compare", first, other)
    beside = ask("--resume", "--baseline", other)
    for code, _, err in (compared, beside):
        (line,) = [line for line in err.splitlines() if line.startswith("warning:")]
        assert code == 0 and "other.json was asked or graded in another way. The comparison" in line
        assert all(words in line for words in differing) and "prompts" not in line
    del results["asked"]  # as of the first days of this schema
    other.write_text(json.dumps(results | {"judge": None, "cutoff": "1969-07-20"}))
    assert "in another way" not in script("evaluate_temporal", "--compare", first, other)[2]


def test_a_report_into_a_folder_is_refused_before_anything_is_asked(server, ask, tmp_path):
    (tmp_path / "pages").mkdir()
    code, _, err = ask("--report", tmp_path / "pages", "--overwrite")
    assert code == 2 and "--report" in err and "is a folder" in err and server.requests == []


def test_a_base_that_was_not_asked_all_is_asked_when_the_evaluation_is_resumed(
    server, ask, tiny_models, tmp_path
):
    flags = ("--limit", 2, "--max_tokens", 2)
    with_base = (*flags, "--base_model", tiny_models["llama"], "--resume")
    assert ask(*flags)[0] == 0
    code, out, err = ask(*with_base)  # the base is new in the command
    assert code == 0 and "BESIDE OTHERS" in out and "complete" not in out, err
    assert len(json.loads((tmp_path / "out.json").read_text())["baselines"]) == 2
    assert "is complete" in ask(*with_base)[1]
    base = json.loads((tmp_path / "out.base.json").read_text())
    base["results"][0] |= {"reply": None, "verdict": "failed", "error": "no reply"}
    (tmp_path / "out.base.json").write_text(json.dumps(base))
    code, out, err = ask(*with_base)
    assert code == 0 and "complete" not in out and "asking the base, untouched" in err
    assert not any(row["error"] for row in results_file.read(tmp_path / "out.base.json")["results"])
    assert "is complete" in ask(*with_base)[1] and len(server.requests) == 2


def test_results_of_the_base_for_another_cutoff_are_not_reused(server, ask, tiny_models, tmp_path):
    base = ("--base_model", tiny_models["llama"], "--max_tokens", 2, "--limit", 2)
    assert ask(*base, "--system_prompt", "Hello.")[0] == 0
    (tmp_path / "out.json").unlink()
    # Its prompt states the cutoff, so only the untouched base could be reused wrongly.
    code, _, err = ask(*base, "--system_prompt", "Hello.", "--resume", "--cutoff", "1950-01-01")
    assert code == 2 and "out.base.json is a finished evaluation of another model, other data or" in err


# ---- a disk that fills up ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["journal", "results"])
def test_a_full_disk_keeps_the_replies_and_says_how_to_resume__disk_faked(
    where, server, ask, tmp_path, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "results":
            patch.setattr(results_file, "write", full)
        else:
            true_write, writes = journal.Journal._write, []

            def write(self, row):
                writes.append(row)
                if len(writes) > 4:  # the head and three replies
                    full()
                true_write(self, row)

            patch.setattr(journal.Journal, "_write", write)
        code, _, err = ask("--in_flight", 1)
    assert code == 2 and "Traceback" not in err and "the disk is full" in err
    assert ("3 replies are saved" if where == "journal" else "All replies are saved") in err
    assert err.strip().endswith("--resume") and not (tmp_path / "out.json").exists()
    before = len(server.requests)
    assert ask("--resume")[0] == 0
    asked = {request["messages"][-1]["content"] for request, _ in server.requests[before:]}
    assert len(asked) == (9 if where == "journal" else 0)
