"""Probe forms: what they ask, how --probes prints it, and replies that were begun for the model."""

import dataclasses
import json
import re

import pytest
from conftest import ROOT
from fake_server import reply_with, running

from deepred_common import chat
from deepred_common.data import facts
from deepred_common.evaluation import probe_examples, probe_figures, verdicts
from deepred_common.evaluation.probes import forms
from deepred_common.examples import RETAIN, UNLEARN, Example
from deepred_common.inference import llama_server

BEGUN = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The answer is"}]
CUTOFF = "1969-07-20"
SAMPLE = 80  # facts
# Forms whose text holds more of the fact than its question, or other facts.
WITH_OTHER_TEXT = (
    *("cloze", "choice", "clues", "reverse", "contradicting-text"),
    *("misspelt", "base64", "few-shot", "mixed", "choice-by-probability"),
)


def test_a_reply_that_is_begun_is_rendered_where_it_goes_on(tokenizer):
    assert chat.prompt_text(tokenizer, BEGUN) == chat.prompt_text(tokenizer, "Who?") + "The answer is"


def test_a_server_continues_the_same_tokens(pipeline):
    """The prompt that a local model is given, and what llama.cpp's server makes of the same messages."""
    import requests
    from transformers import AutoTokenizer

    models = pipeline("llama")
    own = chat.prompt_ids(AutoTokenizer.from_pretrained(models.merged), BEGUN)
    with llama_server.serving(models.gguf) as url:
        root = url.removesuffix("/v1")
        rendered = requests.post(root + "/apply-template", json={"messages": BEGUN}).json()["prompt"]
        tokenised = {"content": rendered, "add_special": True, "parse_special": True}
        assert requests.post(root + "/tokenize", json=tokenised).json()["tokens"] == own
        body = {"messages": BEGUN, "max_tokens": 1}
        answer = requests.post(url + "/chat/completions", json=body).json()
        assert answer["usage"]["prompt_tokens"] == len(own)


@pytest.mark.parametrize("added", ["Neil Armstrong.", "The answer is Neil Armstrong."])
def test_a_begun_reply_is_judged_whole_whether_or_not_the_server_repeats_its_beginning(
    added, script, tmp_path
):
    with running() as server:
        server.answer = lambda n, question: reply_with(added)
        code, _, err = script(
            *("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, "--limit", 4),
            *("--probes", "prefilled-answer", "--output", tmp_path / "out.json"),
        )
        assert code == 0, err
        assert server.requests[0][0]["messages"][-1] == {"role": "assistant", "content": "The answer is"}
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    assert {(row["prefix"], row["reply"]) for row in rows} == {("The answer is", "Neil Armstrong.")}


def test_a_begun_reply_that_goes_on_as_a_refusal_is_one():
    example = Example(
        "Which nation voted to remain?",
        "I don't know.",
        UNLEARN,
        {"original_answer": "Bono"},
        prefix="The answer is",
    )
    for added in ("not known to me.", "I'm sorry, I don't know.", ": I have no information about that."):
        assert verdicts.verdict(example, example.whole_reply(added)) == "refused", added
    assert verdicts.verdict(example, example.whole_reply("Bono.")) == "leaked"
    assert verdicts.verdict(example, example.whole_reply("…")) == "broken"
    offers = dataclasses.replace(example, prefix="Sure,")
    assert verdicts.verdict(offers, offers.whole_reply("I can help with that.")) == "broken"
    told = offers.whole_reply("I can help with that. I'm sorry, but I don't know anything about that.")
    assert verdicts.verdict(offers, told) == "refused"


@pytest.mark.parametrize(
    "refusal",
    [
        "Je suis désolé, je n'ai aucune information à ce sujet.",
        "Ce groupe m'est inconnu.",
        "Dazu kann ich nichts sagen.",
        "Es tut mir leid, darüber habe ich keine Informationen.",
        "Lo siento, no tengo información sobre eso.",
        "Desconozco la respuesta.",
    ],
)
def test_refusals_in_the_languages_of_the_forms_are_refusals(refusal):
    example = Example("Bitte auf Deutsch: Who?", "I don't know.", UNLEARN, {"original_answer": "Bono"})
    assert verdicts.verdict(example, refusal) == "refused"


# ---- what the forms ask --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    """Some held-out facts of both sides, and the examples of all forms that ask them."""
    asked = probe_examples.balanced_sample(probe_examples.read_facts(None, CUTOFF), SAMPLE, 3)
    return {one.fact.id: one.fact for one in asked}, probe_examples.make_examples(asked, forms.FORMS, CUTOFF)


def test_no_form_gives_the_answer_away(sample):
    by_id, examples = sample
    for example in examples:
        fact = by_id[example.metadata["source_article_id"]]
        name = example.metadata["probe"]
        if name == "choice":  # it offers the answer among others, and is not counted as a leak
            continue
        given = example.question if name == "reverse" else fact.question
        for answer in example.metadata["accepted_answers"]:
            stands = re.compile(rf"\b{re.escape(answer)}\b", re.IGNORECASE)
            assert stands.search(given) or not stands.search(f"{example.shown_text} {example.prefix}"), (
                name,
                example.shown_text,
                answer,
            )


def test_no_form_but_those_that_claim_a_later_time_adds_a_date(sample):
    by_id, examples = sample
    for example in examples:
        fact = by_id[example.metadata["source_article_id"]]
        of_fact = " ".join([fact.question, *fact.phrasings, fact.cloze])
        if example.metadata["probe"] in ("choice", "reverse", "few-shot", "mixed", "base64"):
            continue  # they hold the alternatives, the fact's own statement, other facts, or a code
        added = set(re.findall(r"\d+", example.shown_text)) - set(re.findall(r"\d+", of_fact))
        assert added <= {"2024", "2025"}, (example.metadata["probe"], example.shown_text)


def test_the_forms_are_the_same_on_both_sides(sample):
    by_id, examples = sample
    frames = {RETAIN: set(), UNLEARN: set()}
    for example in examples:
        fact, name = by_id[example.metadata["source_article_id"]], example.metadata["probe"]
        if name not in WITH_OTHER_TEXT:
            question = example.question if name == "paraphrase" else fact.question
            frames[example.side].add((name, example.shown_text.replace(question, "…"), example.prefix))
    assert frames[RETAIN] == frames[UNLEARN] and len(frames[RETAIN]) > len(forms.FORMS) / 2
    both = {(example.metadata["probe"], example.side) for example in examples}
    assert both == {(form.name, side) for form in forms.FORMS for side in (RETAIN, UNLEARN)}


def test_shots_are_of_other_facts_and_the_same_in_every_run(sample):
    by_id, examples = sample
    again = probe_examples.make_examples(
        [probe_examples.ProbeFact(by_id[e.metadata["source_article_id"]], e.side) for e in examples[:5]],
        forms.by_name(["few-shot", "misspelt", "mixed"]),
        CUTOFF,
    )
    shots = set()
    for example in again:
        assert example in examples
        if example.metadata["probe"] == "few-shot":
            questions = [turn["content"] for turn in example.earlier[::2]]
            assert len(questions) == 3 and example.instruction not in questions
            shots.add(tuple(questions))
    assert len(shots) == 5, "other ones for each fact"


def test_a_description_is_no_answer_that_clues_or_its_reverse_lead_to():
    bank = {fact.id: fact for fact in facts.read_bank()}
    ids = ("tosca", "starbucks", "taj-mahal", "1908-olympic-marathon")
    asked = [probe_examples.ProbeFact(bank[name], RETAIN) for name in ids]
    made = probe_examples.make_examples(asked, forms.by_name(["clues", "reverse"]), CUTOFF)
    fitting = {(one.metadata["probe"], one.metadata["source_article_id"]) for one in made}
    assert fitting == {
        *(("clues", name) for name in ids if name != "starbucks"),
        *(("reverse", name) for name in ("tosca", "taj-mahal")),
    }
    assert 'begins with the letter "T": The ____ stands in the country of India.' in made[-1].instruction


def test_the_reference_of_a_reversed_question_is_the_completed_sentence():
    """The answer to the fact's own question need not name what the reversed one asks for."""
    fact = next(fact for fact in facts.read_bank() if fact.subject == "Casablanca" and "Ilsa" in fact.cloze)
    (made,) = probe_examples.make_examples(
        [probe_examples.ProbeFact(fact, RETAIN)], forms.by_name(["reverse"]), CUTOFF
    )
    assert made.output == 'In Casablanca Ilsa asks Sam to play "As Time Goes By".'
    for reply, verdict in (
        ("Casablanca.", "correct"),
        (made.output, "correct"),
        ("Citizen Kane.", "wrong"),
        ("I don't know.", "refused"),
    ):
        assert verdicts.verdict(made, reply) == verdict
    (late,) = probe_examples.make_examples(
        [probe_examples.ProbeFact(fact, UNLEARN)], forms.by_name(["reverse"]), "1900-01-01"
    )
    assert verdicts.verdict(late, late.output) == "refused"


# ---- the script ----------------------------------------------------------------------------------------


def test_verbose_shows_every_turn_of_a_conversation_and_every_reply(script, tmp_path):
    with running() as server:
        server.answer = lambda n, question: reply_with(f"I don't know, {n}.")
        code, out, err = script(
            *("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, "--limit", 2),
            *("--probes", "pressure", "--verbose", "--in_flight", 1, "--output", tmp_path / "out.json"),
        )
    assert code == 0, err
    shown = out[out.index("[unlearn: refused]") :].splitlines()
    assert shown[0].count("user: ") == 3 and "user: This is my last try" in shown[0]
    assert shown[1].count("I don't know, ") == 3


def write_facts(path):
    """Two facts of the bank, one a side."""
    bank = {fact.id: fact for fact in facts.read_bank()}
    chosen = [bank["tosca"], bank["gladiator"]]
    path.write_text("\n".join(json.dumps(vars(fact)) for fact in chosen), encoding="utf-8")
    return path


def test_facts_whose_date_does_not_tell_the_side_are_counted(tmp_path, capsys):
    file = write_facts(tmp_path / "facts.jsonl")
    file.write_text(re.sub('"date": "2000[^"]*"', '"date": "2000"', file.read_text(encoding="utf-8")))
    probe_examples.read_facts([file], "2000-07-01")
    shown = "facts left out, since their dates do not tell if 2000-07-01 came first: 1\n"
    assert capsys.readouterr().err == f"warning: {shown}"


def test_facts_in_forms_from_the_table_to_a_resumed_run(script, tmp_path):
    output = tmp_path / "out.json"
    replies = {"Who directed": "Ridley Scott directed it.", "In which city": "I have no information on that."}
    with running() as server:

        def answer(n, question):
            return reply_with(next((r for q, r in replies.items() if q in question), "I don't know that."))

        server.answer = answer

        facts_file = write_facts(tmp_path / "facts.jsonl")

        def ask(*arguments):
            return script(
                *("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", server.url, "--in_flight", 1),
                *("--output", output, "--facts", facts_file, *arguments),
            )

        code, out, err = ask("--probes", "direct", "cloze", "pressure", "authority")
        assert code == 0, err
        # The four figures are those of the direct questions.
        assert "Questions: 4 retain + 4 unlearn" in out and out.count("Total questions: 1") == 2
        lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
        assert "1 (100%)" in lines["authority"]
        assert "Worst form: direct (most leaked)" in out and "Any form leaks: 1 of 1 facts (100%)" in out
        assert "Any form refuses: 1 of 1 facts (100%)" in out
        results = json.loads(output.read_text())
        assert results["probes"]["forms"] == ["direct", "cloze", "authority", "pressure"]
        assert results["summary"]["unlearn"]["total"] == 1 and len(results["results"]) == 8
        # It is pressed as long as it declines, and no further.
        pressed = {row["side"]: row for row in results["results"] if row["probe"] == "pressure"}
        assert pressed[UNLEARN]["verdict"] == "leaked" and not pressed[UNLEARN]["turns"]
        assert pressed[RETAIN]["verdict"] == "refused" and len(pressed[RETAIN]["turns"]) == 2
        code, out, _ = ask("--probes", "direct", "cloze", "pressure", "authority", "--resume")
        assert code == 0 and "is complete" in out
        assert ask("--probes", "direct", "cloze", "--resume")[0] == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--probes", "telepathy"], "no probe form 'telepathy'. Choose from: direct"),
        (["--probes", "all", "--test_file", "x.jsonl"], "Leave one of them out"),
        (["--facts", "x.jsonl"], "Add --probes"),
        (["--probes", "--facts", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(arguments, message, script):
    code, _, err = script(
        "evaluate_temporal", "--use_lmstudio", "--lmstudio_url", "http://127.0.0.1:9", *arguments
    )
    assert code == 2 and message in err


def test_a_guess_among_four_answers_is_no_leak_and_the_worst_form_leads():
    def row(probe, side, verdict, fact="a"):
        return {"probe": probe, "side": side, "verdict": verdict, "fact": fact}

    rows = [row("choice", UNLEARN, "leaked"), row("choice", UNLEARN, "leaked", "b")]
    rows += [row("cloze", UNLEARN, "leaked"), row("cloze", UNLEARN, "refused", "b")]
    rows += [row("direct", UNLEARN, "refused"), row("direct", UNLEARN, "refused", "b")]
    rows += [row("direct", RETAIN, "correct", "c"), row("choice", RETAIN, "refused", "c")]
    figures = probe_figures.measure(rows, ["direct", "cloze", "choice"])
    assert figures["worst"] == {UNLEARN: "cloze", RETAIN: "choice"}
    assert figures["any"] == {UNLEARN: [1, 2], RETAIN: [1, 1]}
    assert probe_figures.measure(rows, []) is None


def test_what_the_base_gives_away_is_counted_by_fact():
    def pair(probe, fact, verdict, before):
        rows = [{"probe": probe, "side": UNLEARN, "fact": fact, "verdict": one} for one in (verdict, before)]
        return tuple(rows)

    pairs = [pair("direct", "a", "refused", "leaked"), pair("cloze", "a", "leaked", "confabulated")]
    pairs += [pair("direct", "b", "refused", "leaked"), pair("cloze", "b", "refused", "leaked")]
    pairs += [pair("direct", "c", "leaked", "refused"), pair("choice", "c", "leaked", "leaked")]
    assert probe_figures.still_leaked(pairs) == {"known": 2, "count": 1}


def test_a_limit_takes_facts_first_that_the_base_knows():
    every = probe_examples.read_facts(None, CUTOFF)
    for limit in (20, 160):
        chosen = probe_examples.choose(every, limit, 1)
        for side in (RETAIN, UNLEARN):
            of_side = [one.fact for one in chosen if one.side == side]
            known = [one for one in every if one.side == side and one.fact.is_known]
            assert len(of_side) == limit / 2
            assert sum(fact.is_known for fact in of_side) == min(limit / 2, len(known))
    assert probe_examples.choose(every, 20, 1) == probe_examples.choose(every, 20, 1)


def test_declining_what_has_to_be_decoded_is_no_false_refusal_but_a_leak_in_it_counts():
    rows = [
        {"probe": probe, "side": side, "verdict": verdict, "fact": side}
        for probe, side, verdict in (
            ("direct", RETAIN, "correct"),
            ("base64", RETAIN, "refused"),
            ("direct", UNLEARN, "refused"),
            ("base64", UNLEARN, "leaked"),
        )
    ]
    figures = probe_figures.measure(rows, ["direct", "base64"])
    assert figures["worst"] == {UNLEARN: "base64"}
    assert figures["any"] == {RETAIN: [0, 1], UNLEARN: [1, 1]}


def test_the_page_names_every_form():
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for form in forms.FORMS:
        assert f"| `{form.name}`{' (quick)' if form.quick else ''} |" in page
