"""Replies saved as they come."""

import math
import types
from pathlib import Path

import pytest

from deepred_common import cli
from deepred_common.cli import UserError
from deepred_common.evaluation import choices, journal, runner
from deepred_common.evaluation.question_files import Questions
from deepred_common.evaluation.settings import EvalSettings
from deepred_common.examples import RETAIN, Example
from deepred_common.inference.protocol import Reply, Score


def settings_for(output: Path) -> EvalSettings:
    return EvalSettings(
        lmstudio_url="",
        lmstudio_model=None,
        max_tokens=8,
        batch_size=1,
        in_flight=1,
        timeout=1,
        llama_cpp_path=output.parent,
        trust_remote_code=False,
        limit=None,
        seed=0,
        cutoff="1969-07-20",
        output=output,
        overwrite=False,
        resume=False,
        judge_url=None,
        judge_model=None,
        verbose=False,
    )


def test_ctrl_c_between_a_reply_and_its_verdict_counts_the_reply_as_saved(tmp_path):
    def ctrl_c(*arguments):
        raise KeyboardInterrupt

    output = tmp_path / "out.json"
    example = Example("What is the capital of France?", "Paris.", RETAIN)
    model = types.SimpleNamespace(ask=lambda questions: iter([(0, Reply("Paris."))]))
    task = runner.Task(settings_for(output), {}, Questions([example], {}), None, ctrl_c)
    with pytest.raises(cli.Interrupted, match="1 reply is saved"):
        runner.ask(task, model, {}, output)
    with journal.Journal(journal.path_for(output), {}) as log:
        assert log.replies == {0: Reply("Paris.")}


def test_a_reply_cut_off_by_a_crash_is_asked_for_again(tmp_path):
    path = tmp_path / "out.replies.jsonl"
    with journal.Journal(path, {"model": "m"}) as log:
        log.add(0, "Who?", Reply("He.", "stop"))
        log.add(1, "When?", Reply(None, error="no reply"))  # failed: not saved
    with path.open("ab") as file:
        file.write(b'{"id": 2, "instr')
    with journal.Journal(path, {"model": "m"}) as log:
        assert log.replies == {0: Reply("He.", "stop")}
        log.add(2, "Where?", Reply("Here.", "stop"))
    with journal.Journal(path, {"model": "m"}) as log:
        assert log.replies == {0: Reply("He.", "stop"), 2: Reply("Here.", "stop")}


def test_an_impossible_answer_is_as_impossible_when_the_evaluation_is_resumed(tmp_path):
    scores = {"Paris": Score(-2.5, 2), "Rome": Score(-math.inf, 3)}
    with journal.Journal(tmp_path / "out.replies.jsonl", {}) as log:
        log.add(0, "Where?", Reply("Paris", "stop", scores=scores))
    with journal.Journal(tmp_path / "out.replies.jsonl", {}) as log:
        assert log.replies[0].scores == scores
        assert choices.likeliest(log.replies[0].scores) == "Paris"


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": 1, "instruction": "Who?", "reply": "\xff\x00"}',  # what a broken disk or an editor leaves
        b'{"id": 1}',
        b'{"reply": "He 1.", "finish": "stop"}',
        b"[1]",
        b'{"id": 1, "reply": "He 1.", "finish": "stop", "scores": {"He": [null, 2]}}',  # of older versions
    ],
)
def test_an_unreadable_line_costs_one_reply_and_not_all(line, tmp_path, capsys):
    path = tmp_path / "out.replies.jsonl"
    with journal.Journal(path, {"model": "m"}) as log:
        for number in range(3):
            log.add(number, "Who?", Reply(f"He {number}.", "stop"))
    lines = path.read_bytes().split(b"\n")
    lines[2] = line
    path.write_bytes(b"\n".join(lines))
    with journal.Journal(path, {"model": "m"}) as log:
        assert set(log.replies) == {0, 2}
    assert "line 3 of" in (err := capsys.readouterr().err) and "asked again" in err


def test_a_journal_of_the_version_before_is_resumed(tmp_path):
    path = tmp_path / "out.replies.jsonl"
    path.write_text(
        '{"head": {"model": "ab12", "max_tokens": 64, "system_prompt": null, "data": ["1f"], "limit": 10, '
        '"seed": 0}}\n{"id": 3, "instruction": "Who?", "reply": "He.", "finish": "stop"}\n'
    )
    head = {"model": "ab12", "max_tokens": 64, "system_prompt": None, "data": ["1f"], "limit": 10, "seed": 0}
    for head_now in (head, head | {"model_files": {"chat_template.jinja": "2e"}}):
        with journal.Journal(path, head_now) as log:
            assert log.replies == {3: Reply("He.", "stop")}


def test_an_adapter_s_base_counts_only_where_both_know_it(tmp_path):
    """Of a base in a folder they know its files, too; here that folder is missing for one of the two."""
    own = {"adapter_config.json": "1f"}
    known = own | {"base": "ab", "base: chat_template.jinja": "2e"}
    for then, now in ((own, known), (known, own), (known, known)):
        assert journal.changes({"model_files": then}, {"model_files": now}) == ""
    other_base = own | {"base": "cd"}
    for then, now, names in (
        (known, other_base, "base, base: chat_template.jinja"),
        (known, own | {"base": "ab"}, "base: chat_template.jinja"),
        (own | {"chat_template.jinja": "3d"}, own, "chat_template.jinja"),
    ):
        for one, other in ((then, now), (now, then)):
            text = journal.changes({"model_files": one}, {"model_files": other})
            assert text == f"of the model: {names}"


@pytest.mark.parametrize(
    "content", ["{}\n", "[1]\n", '{"head": 5}\n', "hello\n"]
)
def test_what_is_no_journal_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "out.replies.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="not a journal of replies, or it is damaged"):
        journal.Journal(path, {"model": "m"})
    assert path.read_text() == content


def test_two_evaluations_never_write_one_journal(tmp_path):
    path = tmp_path / "out.replies.jsonl"
    with journal.opened(path, {"model": "m"}, resume=False, overwrite=False) as log:
        log.add(0, "a", Reply("b", "stop"))
        for resume, overwrite in ((True, False), (True, True), (False, True)):
            with pytest.raises(UserError, match=r"another evaluation is writing .* right now. Wait for it"):
                journal.opened(path, {"model": "m"}, resume=resume, overwrite=overwrite)
        log.add(1, "c", Reply("d", "stop"))
    with journal.opened(path, {"model": "m"}, resume=True, overwrite=False) as log:
        assert set(log.replies) == {0, 1}
