"""evaluate_temporal.py --samples: what a server is asked for, what is kept of it, and what is shown."""

import json

import pytest
from fake_server import reply_with, running


@pytest.fixture
def server():
    with running() as server:
        yield server


@pytest.fixture
def ask(server, script, data_file, tmp_path):
    def call(*arguments, output="out.json"):
        address = ("--use_lmstudio", "--lmstudio_url", server.url, "--in_flight", 1)
        data = ("--test_file", data_file, "--output", tmp_path / output)
        return script("evaluate_temporal", *address, *data, *arguments)

    return call


def seeded(server):
    """Let the server refuse, but answer where the seed is odd: a stand-in for a model that is sampled."""

    def answer(n, question):
        seed = server.requests[-1][0].get("seed", 0)
        return reply_with("It came later." if seed % 2 else "I don't know.")

    server.answer = answer


def test_each_question_is_asked_greedily_and_n_times_more(server, ask, tmp_path):
    seeded(server)
    code, out, err = ask("--samples", 3, "--temperature", 0.5, "--report")
    assert code == 0, err
    bodies = [body for body, _ in server.requests]
    assert len(bodies) == 12 * 4 and [body["temperature"] for body in bodies[:4]] == [0, 0.5, 0.5, 0.5]
    assert len({body["messages"][-1]["content"] for body in bodies[:4]}) == 1, (
        "samples of a question together"
    )
    assert len({body["seed"] for body in bodies if "seed" in body}) == 36
    assert all((one["top_p"], one["top_k"], one["min_p"]) == (1, 0, 0) for one in bodies[1:4])
    assert not {"seed", "top_k", "min_p"} & bodies[0].keys(), "the greedy request is what it always was"
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["summary"]["unlearn"]["refused"] == 6 and "Correctly refused: 6 (100.0%)" in out
    assert "Sampled 3 times at temperature 0.5" in out
    for row, body in zip(results["results"], range(0, 48, 4), strict=True):
        odd = [bodies[body + sample]["seed"] % 2 for sample in (1, 2, 3)]
        assert [one["reply"] for one in row["samples"]] == [
            ("I don't know.", "It came later.")[n] for n in odd
        ]
    leaked = [one["verdict"] == "leaked" for row in results["results"][6:] for one in row["samples"]]
    assert results["sampling"]["unlearn"]["leak_at"][0]["percent"] == pytest.approx(100 * sum(leaked) / 18)
    page = (tmp_path / "out.html").read_text()
    assert 'id="sampling"' in page and "answered 3 times at temperature 0.5" in page


def test_interrupted_and_resumed_the_samples_are_the_same(server, ask, tmp_path):
    seeded(server)
    assert ask("--samples", 2, output="whole.json")[0] == 0
    steady = server.answer
    server.answer = lambda n, question: (400, "no", {}) if n % 5 == 0 else steady(n, question)
    code, _, err = ask("--samples", 2)
    assert code == 1 and "of 36 replies did not come, the first: " in err and "--resume" in err
    code, _, err = ask("--samples", 3, "--resume")
    assert code == 2 and "samples: 2 then, 3 now" in err
    server.answer = steady
    code, _, err = ask("--samples", 2, "--resume")
    assert code == 0, err
    whole, resumed = (json.loads((tmp_path / name).read_text()) for name in ("whole.json", "out.json"))
    assert resumed["results"] == whole["results"] and resumed["sampling"] == whole["sampling"]


def test_a_temperature_alone_takes_one_sample(server, ask, tmp_path):
    assert ask("--temperature", 0.7)[0] == 0
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["asked"]["samples"] == 1 and len(results["results"][0]["samples"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--samples", 0), "not a whole number of at least 1"),
        (("--samples", 8, "--temperature", 0), "at 0 all samples are the greedy reply"),
        (("--temperature", "-1"), "'-1' is not a number above 0"),
        (("--temperature", "nan"), "'nan' is not a number above 0"),
    ],
)
def test_what_cannot_be_sampled(ask, server, arguments, message):
    code, _, err = ask(*arguments)
    assert code == 2 and message in err and not server.requests


def test_of_probe_forms_the_direct_questions_are_sampled(server, script, tmp_path):
    seeded(server)
    flags = ("--probes", "direct", "cloze", "--limit", 4, "--samples", 2, "--output", tmp_path / "out.json")
    code, out, err = script("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, *flags)
    assert code == 0, err
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [(row["probe"], len(row["samples"])) for row in rows] == [("direct", 2)] * 4 + [("cloze", 0)] * 4
    assert "Sampled 2 times" in out and len(server.requests) == 8 + 4 * 2
