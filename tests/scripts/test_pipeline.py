"""The four scripts in sequence on tiny models of two kinds, with the real converter, quantiser and server."""

import json

import pytest
from conftest import KINDS

pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_the_run_folder_holds_what_the_spec_lists(kind, pipeline):
    run = pipeline(kind).run
    for name in (
        "checkpoint-2",
        "checkpoint-4",
        "final/adapter_config.json",
        "final/adapter_model.safetensors",
        "final/tokenizer.json",
        "train_results.json",
        "eval_results.json",
        "run.json",
    ):
        assert (run / name).exists(), name
    assert "train_loss" in json.loads((run / "train_results.json").read_text())
    losses = json.loads((run / "eval_results.json").read_text())
    assert {"eval_retain_loss", "eval_unlearn_loss"} <= set(losses)
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["finished"] and manifest["settings"]["epochs"] == {"value": 2, "source": "flag"}
    state = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())
    rates = [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry]
    assert rates[0] < 2e-4  # warm-up


def test_the_merged_model_is_base_plus_adapter(kind, pipeline):
    import torch
    from transformers import AutoModelForCausalLM

    from deepred_common.models import loading, trained_weights

    models = pipeline(kind)
    with_adapter, tokenizer = loading.load_with_adapter(
        trained_weights.require_adapter(models.final), torch.float32
    )
    merged = AutoModelForCausalLM.from_pretrained(models.merged, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(models.base, dtype=torch.float32)
    ids = torch.tensor([tokenizer("Who was the first person to walk on the Moon?")["input_ids"]])
    with torch.inference_mode():
        expected, got, untouched = (m(ids).logits for m in (with_adapter, merged, base))
    assert (
        (got - expected).abs().max() < 0.02 < (untouched - expected).abs().max() * 10
    )  # bfloat16 rounding only
    for name in (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "chat_template.jinja",
    ):
        assert (models.merged / name).exists(), name


def test_the_gguf_is_quantised_and_carries_the_models_settings(kind, pipeline):
    from gguf import GGUFReader, LlamaFileType
    from transformers import AutoTokenizer

    models = pipeline(kind)
    reader = GGUFReader(models.gguf)
    assert reader.get_field("general.architecture").contents() == kind
    assert reader.get_field("general.file_type").contents() == LlamaFileType.MOSTLY_Q4_K_M
    assert any(tensor.tensor_type.name == "Q4_K" for tensor in reader.tensors)
    tokenizer = AutoTokenizer.from_pretrained(models.base)
    assert reader.get_field("tokenizer.ggml.eos_token_id").contents() == tokenizer.eos_token_id
    assert [p.name for p in models.gguf.parent.iterdir() if "partial" in p.name or "f16" in p.name] == []


def test_evaluated_as_adapter_as_merged_model_and_over_http(kind, pipeline, data_file, script, tmp_path):
    from deepred_common.inference import llama_server

    models = pipeline(kind)
    for name, path in (("adapter", models.final), ("merged", models.merged)):
        code, out, err = script(
            "evaluate_temporal",
            "--model_path",
            path,
            "--test_file",
            data_file,
            "--max_tokens",
            8,
            "--output",
            tmp_path / f"{name}.json",
            "--verbose",
        )
        assert code == 0, err
        assert "EVALUATION RESULTS" in out and "Total questions: 6" in out and "Who wrote Hamlet?" in out
    with llama_server.serving(models.gguf) as url:
        code, out, err = script(
            "evaluate_temporal",
            "--use_lmstudio",
            "--lmstudio_url",
            url,
            "--lmstudio_model",
            "made/tiny",
            "--test_file",
            data_file,
            "--max_tokens",
            8,
            "--limit",
            4,
            "--output",
            tmp_path / "api.json",
            "--baseline",
            tmp_path / "merged.json",
        )
        assert code == 0, err
        assert "Total questions: 2" in out and "answers correctly, still correct: 0 of 0" in out
        code, _, err = script(
            "evaluate_temporal",
            "--use_lmstudio",
            "--lmstudio_url",
            url,
            "--lmstudio_model",
            "other/model",
            "--test_file",
            data_file,
        )
        assert code == 2 and "no model 'other/model'; it lists: made/tiny" in err
    results = json.loads((tmp_path / "api.json").read_text())
    assert results["model"]["name"] == "made/tiny" and len(results["results"]) == 4
    assert all(
        row["verdict"] in ("correct", "wrong", "refused", "leaked", "confabulated", "broken")
        for row in results["results"]
    )
