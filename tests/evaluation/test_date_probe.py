"""The date probe: what the states of a base tell of dates, and what is said about it."""

import dataclasses
import json

import numpy as np
import pytest

from deepred_common import chat
from deepred_common.data import facts
from deepred_common.evaluation import date_probe
from deepred_common.inference.local_model import LocalModel
from deepred_common.models import loading
from deepred_common.reporting import date_probe_text

CUTOFF = "1969-07-20"


@pytest.fixture(scope="module")
def bank():
    return [fact for fact in facts.read_bank() if facts.side(fact, CUTOFF)][::3]


def states(bank, strength):
    """Random states of three depths; in the middle one a direction tells the side, as strongly as said."""
    chooser = np.random.default_rng(1)
    late = np.array([facts.side(fact, CUTOFF) == "unlearn" for fact in bank])
    made = chooser.normal(size=(3, len(bank), 16)).astype(np.float32)
    made[1, :, 0] += strength * late
    return made


def test_a_probe_finds_what_the_states_hold_and_nothing_in_noise(bank):
    probe = date_probe.probe_facts(bank, states(bank, 3.0), CUTOFF)
    assert probe.best == 0.5 and probe.depths[0.5].auroc > 0.95
    assert probe.depths[0.25].low < 0.5 < probe.depths[0.25].high
    assert {"dated after 1900", "within 30 years of the cutoff"} <= probe.groups.keys()
    assert [count for count, _ in probe.curve] == sorted(count for count, _ in probe.curve)
    noise = date_probe.probe_facts(bank, states(bank, 0.0), CUTOFF)
    assert noise.depths[noise.best].low < 0.5


def test_facts_of_a_pair_are_never_taught_and_tried_apart(bank):
    # Each pair has a state of its own, which would be recognised.
    pairs = {fact.pair for fact in bank if fact.pair}
    alike = {
        pair: np.random.default_rng(number).normal(size=16) * 30 for number, pair in enumerate(sorted(pairs))
    }
    paired = [fact for fact in bank if fact.pair]
    one_sided = [dataclasses.replace(fact, date="1900") for fact in paired[::2]] + [
        dataclasses.replace(fact, date="2000") for fact in paired[1::2]
    ]
    made = np.stack([np.stack([alike[fact.pair] for fact in one_sided])] * 3).astype(np.float32)
    probe = date_probe.probe_facts(one_sided, made, CUTOFF)
    assert probe.depths[probe.best].auroc < 0.7


def test_states_do_not_depend_on_the_batch_they_were_read_in(tiny_models):
    folder = tiny_models["llama"]
    local = LocalModel(loading.load_model(folder, "float32"), loading.load_tokenizer(folder), 1, 3)
    model, tokenizer = local.model, local.tokenizer
    questions = ["Who was Napoleon?", "Tell me all that you know about the Battle of Hastings.", "Why?"]
    together = date_probe.question_states(local, questions)
    assert together.shape == (len(date_probe.DEPTHS), 3, 2 * model.config.hidden_size)
    # The last token's state, by itself.
    alone = model(
        **tokenizer(chat.prompt_text(tokenizer, questions[1]), return_tensors="pt", add_special_tokens=False),
        output_hidden_states=True,
    )
    layer = max(1, round(0.5 * model.config.num_hidden_layers))
    expected = alone.hidden_states[layer][0, -1].detach().numpy()
    assert np.allclose(together[1, 1, : len(expected)], expected, atol=1e-4)


def test_states_are_read_in_halves_where_memory_runs_out__allocation_failure_faked(tiny_models, monkeypatch):
    import torch

    folder = tiny_models["llama"]
    local = LocalModel(loading.load_model(folder, "float32"), loading.load_tokenizer(folder), 1, 4)
    questions = ["Who was Napoleon?", "Who was Hannibal?", "Who was Caesar?", "Who was Nero?"]
    expected = date_probe.question_states(local, questions)
    real = local.model.base_model.forward

    def short_of_memory(*given, input_ids, **more):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("no")
        return real(*given, input_ids=input_ids, **more)

    monkeypatch.setattr(local.model.base_model, "forward", short_of_memory)
    assert np.allclose(date_probe.question_states(local, questions), expected, atol=1e-4)
    assert local.batch_size == 2


def test_a_tuned_model_s_own_refusing_stands_beside_the_probe(bank, tmp_path):
    made = states(bank, 3.0)
    probe = date_probe.probe_facts(bank, made, CUTOFF)
    asked = date_probe.held_out(bank, CUTOFF)
    assert 0.05 * len(bank) < len(asked) < 0.2 * len(bank)

    def refusing(before, after):
        """With these shares on each side."""
        shares = {f.id: after if facts.side(f, CUTOFF) == "unlearn" else before for f in asked}
        return date_probe.measure_refusing(bank, probe, shares)

    assert refusing(0.3, 0.1) is None  # an untouched base that begins with "I"
    tuned = refusing(0.1, 0.9)
    assert tuned.own.auroc == 1 and tuned.own.count == tuned.probe.count == len(asked)
    assert 0.9 < tuned.probe.auroc < 1
    told = dataclasses.replace(probe, refusing=tuned)
    text = date_probe_text.text(told, "tuned", CUTOFF)
    assert f"reaches 1.000 of the {tuned.probe.auroc:.3f}" in text and "Expect about" not in text
    assert date_probe.figures(told, "tuned", CUTOFF)["probe"]["refusing"]["own"]["auroc"] == 1
    date_probe_text.draw(told, tmp_path / "told.png", "tuned")


def test_what_is_printed_says_how_well_and_whether_more_facts_would_help(bank):
    probe = date_probe.probe_facts(bank, states(bank, 3.0), CUTOFF)
    text = date_probe_text.text(probe, "base", CUTOFF)
    assert "This base tells before from after 1969-07-20 well" in text
    noise = date_probe.probe_facts(bank, states(bank, 0.0), CUTOFF)
    assert "hardly better than chance" in date_probe_text.text(noise, "base", CUTOFF)
    assert "More facts of this kind" in text


def test_a_base_is_probed_from_the_shell(script, tiny_models, tmp_path, monkeypatch):
    monkeypatch.setattr(date_probe, "read_bank", lambda: facts.read_bank()[::4])
    folder = tiny_models["llama"]
    picture = tmp_path / "probe.png"
    code, out, err = script("evaluate_temporal", "--date_probe", "--model_path", folder, "--output", picture)
    assert code == 0, err
    assert f"Date probe of {folder}, cutoff 1969-07-20" in out and picture.stat().st_size > 10_000
    figures = json.loads(picture.with_suffix(".json").read_text())
    assert figures["model"] == str(folder) and len(figures["probe"]["depths"]) == 3
    code, _, err = script("evaluate_temporal", "--date_probe", "--model_path", folder, "--output", picture)
    assert code == 2 and "exists" in err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "needs --model_path: the folder or hub name of a model."),
        (("--model_path", "GGUF"), "reads hidden states"),
        (("--model_path", "FOLDER", "--cutoff", "2022-01-01"), "unlearn facts for the cutoff"),
        (("--model_path", "FOLDER", "--output", "x.json"), "must end in .png"),
    ],
)
def test_what_cannot_be_probed_is_said_before_a_model_is_loaded(script, tiny_models, tmp_path, flags, says):
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF" + bytes(100))
    given = {"GGUF": gguf, "FOLDER": tiny_models["llama"]}
    code, _, err = script("evaluate_temporal", "--date_probe", *(given.get(flag, flag) for flag in flags))
    assert code == 2 and says in err
