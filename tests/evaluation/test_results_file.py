"""Results files: what one holds, and which are read."""

import json
import typing

import pytest

from deepred_common.cli import UserError
from deepred_common.evaluation import results_file, results_schema
from deepred_common.evaluation.results_schema import Results


def row(number: int, side: str, verdict: str) -> results_schema.ResultRow:
    return {
        "id": number,
        "instruction": f"Question {number}?",
        "side": side,
        "reference": "Yes.",
        "true_answer": None,
        "date": "1912",
        "field": None,
        "form": "what",
        "probe": None,
        "reply": "Yes.",
        "finish": "stop",
        "verdict": verdict,
        "error": None,
    }


def results_of(rows: list[results_schema.ResultRow], name: str = "output/merged", **options) -> Results:
    return results_file.build(
        rows,
        model={"name": name, "kind": "folder", "identity": None, "answered_by": [], "system_prompt": None},
        cutoff="1969-07-20",
        started="2026-11-24T06:00:00+00:00",
        settings={},
        data={},
        conditions={
            "model": name,
            "max_tokens": 64,
            "system_prompt": None,
            "data": [],
            "limit": None,
            "seed": None,
        },
        judge=None,
        **options,
    )


def keys_of(shape: type) -> set[str]:
    return set(typing.get_type_hints(shape))


def test_a_results_file_holds_what_its_schema_says_and_is_read_back_unchanged(tmp_path):
    base = results_of([row(0, "retain", "correct"), row(1, "unlearn", "leaked")], "base")
    results = results_of([row(0, "retain", "correct"), row(1, "unlearn", "refused")], baselines=[base])
    assert set(results) == keys_of(Results)
    assert set(results["summary"]) == keys_of(results_schema.Summary)
    assert set(results["baselines"][0]["against"]) == keys_of(results_schema.Comparison)
    assert results["quality"] == "EXCELLENT"
    assert results["baselines"][0]["against"]["known_fact_leakage"] == {"known": 1, "count": 0}
    results_file.write(tmp_path / "a.json", results)
    assert results_file.read(tmp_path / "a.json") == results


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1, "results": []}', "older version .*\nEvaluate that model again"),
        ('{"schema": 3, "results": []}', "newer version .*\nUpdate this project"),
        ('{"results": []}', "is not a results file of evaluate_temporal.py"),
        ("[1, 2]", "is not a results file of evaluate_temporal.py"),
        ('{"schema": 2, "results": [], "model": {}}', "is damaged: it has no summary"),
        ('{"schema": 2', "cannot be read as JSON"),
    ],
)
def test_files_of_another_version_or_kind_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "theirs.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        results_file.read(path)
    assert str(raised.value).startswith(str(path))


def test_of_an_older_file_the_base_s_refusals_in_chat_are_those_of_its_summary(tmp_path):
    chat = [row(0, "chat", "refused"), row(1, "chat", "replied")]
    results = json.loads(json.dumps(results_of(chat, baselines=[results_of(chat, "base")])))
    del results["baselines"][0]["against"]["chat_refusal_rate"]
    (tmp_path / "old.json").write_text(json.dumps(results))
    assert results_file.refused_by_base(results_file.read(tmp_path / "old.json")) == 50


def test_a_file_of_the_first_days_of_schema_2_is_read(tmp_path):
    """The first version wrote neither the conditions ("asked") nor the probes."""
    results = json.loads(json.dumps(results_of([row(0, "retain", "correct")])))
    del results["asked"], results["breakdown"]["probe"], results["results"][0]["probe"]
    (tmp_path / "old.json").write_text(json.dumps(results))
    assert results_file.label(results_file.read(tmp_path / "old.json")) == "output/merged"
