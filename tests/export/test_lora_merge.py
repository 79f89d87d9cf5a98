"""Merging a tensor at a time is bit for bit peft's merge in fp32, for every kind of adapter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from conftest import load_script

from deepred_common.export import adapter_changes, hf_folder, lora_merge
from deepred_common.models import loading, safetensors_files, trained_weights

KINDS = {
    # name: (LoraConfig's options, tied embeddings)
    "LoRA": ({}, True),
    "rsLoRA": ({"use_rslora": True}, True),
    "DoRA": ({"use_dora": True}, True),
    "patterns": (
        {"rank_pattern": {"q_proj": 3, "layers.1.mlp.up_proj": 5}, "alpha_pattern": {"down_proj": 7}},
        True,
    ),
    "modules_to_save": ({"modules_to_save": ["lm_head", "embed_tokens"]}, False),
    "embedding": ({"target_modules": ["q_proj", "embed_tokens"]}, False),
    "output layer": ({"target_modules": ["v_proj", "lm_head"]}, False),
    "one layer": ({"target_modules": ["o_proj"], "layers_to_transform": [1]}, True),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory, tokenizer):
    """make(kind) -> (base folder, adapter folder): a tiny Llama in bf16, an adapter with random weights."""
    from transformers import AutoModelForCausalLM

    def build(kind="LoRA", shards=False, tied=None, **options):
        chosen, ties = KINDS[kind]
        folder = tmp_path_factory.mktemp("merging")
        torch.manual_seed(1)
        tiny.save_base(
            folder / "base",
            tokenizer,
            dtype=torch.bfloat16,
            max_shard_size="2MB" if shards else "1GB",
            intermediate_size=9000,  # rows: more than are summed at a time
            tie_word_embeddings=ties if tied is None else tied,
        )
        model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
        settings = {"lora_alpha": 11, "target_modules": "all-linear"} | chosen | options
        tiny.add_lora(model, **settings).save_pretrained(folder / "adapter")
        return folder / "base", folder / "adapter"

    return build


def by_peft(base, adapter, dtype, strength=1.0):
    """peft's merge in fp32, cast once: {tensor name: tensor}."""
    from peft import PeftModel
    from peft.helpers import rescale_adapter_scale
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter
    )
    with rescale_adapter_scale(model, strength):
        merged = model.merge_and_unload(safe_merge=True)
    return {name: value.to(dtype) for name, value in merged.state_dict().items()}


def merged_weights(folder):
    return {
        name: entry.read()
        for _, entries in safetensors_files.read_folder(folder)
        for name, entry in entries.items()
    }


def merge(script, base, adapter, out, *flags):
    return script("merge_lora", "--base_model", base, "--lora_path", adapter, "--output_path", out, *flags)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_are_bit_for_bit_those_of_peft(kind, dtype, make, script, tmp_path):
    base, adapter = make(kind)
    code, _, err = merge(script, base, adapter, tmp_path / "m", "--dtype", dtype)
    assert code == 0, err
    assert "merged with peft" not in err
    expected, got = by_peft(base, adapter, getattr(torch, dtype)), merged_weights(tmp_path / "m")
    if KINDS[kind][1]:
        del expected["lm_head.weight"]
    assert got.keys() == expected.keys()
    assert [
        name
        for name in got
        if not (got[name].dtype == expected[name].dtype and torch.equal(got[name], expected[name]))
    ] == []


@pytest.mark.parametrize("kind", ["rsLoRA", "DoRA"])
def test_a_scaled_adapter_is_merged_bit_for_bit_as_peft_rescales_it(kind, make, tmp_path):
    base, folder = make(kind)
    adapter, files = trained_weights.require_adapter(folder), safetensors_files.read_folder(base)
    changes = adapter_changes.read_changes(adapter)
    (tmp_path / "m").mkdir()
    lora_merge.write_merged(files, changes, tmp_path / "m", torch.float32, strength=0.7)
    got = merged_weights(tmp_path / "m")
    scaled, whole = (by_peft(base, folder, torch.float32, strength) for strength in (0.7, 1.0))
    assert all(torch.equal(got[name], scaled[name]) for name in got)
    assert any(not torch.equal(got[name], whole[name]) for name in got)


@pytest.mark.parametrize("dora", [False, True])
def test_weights_stored_transposed_as_in_gpt2(dora, tmp_path, tokenizer, script):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2)).save_pretrained(
        tmp_path / "base"
    )
    tokenizer.save_pretrained(tmp_path / "base")
    model = tiny.add_lora(
        GPT2LMHeadModel.from_pretrained(tmp_path / "base"),
        lora_alpha=8,
        target_modules=["c_attn", "c_fc"],
        fan_in_fan_out=True,
        use_dora=dora,
    )
    model.save_pretrained(tmp_path / "adapter")
    code, _, err = merge(
        script, tmp_path / "base", tmp_path / "adapter", tmp_path / "m", "--dtype", "float32"
    )
    assert code == 0, err
    expected, got = (
        by_peft(tmp_path / "base", tmp_path / "adapter", torch.float32),
        merged_weights(tmp_path / "m"),
    )
    assert [
        name for name in got if not torch.equal(got[name], expected[name])
    ] == [] and "transformer.h.1.mlp.c_fc.weight" in got


def test_a_base_in_shards_stays_in_shards_and_loads(make, script, tmp_path):
    from transformers import AutoModelForCausalLM

    base, adapter = make(shards=True)
    code, _, err = merge(script, base, adapter, tmp_path / "m")
    assert code == 0, err
    assert (
        len(list((tmp_path / "m").glob("model-0*.safetensors")))
        == len(list(base.glob("model-0*.safetensors")))
        > 1
    )
    expected = by_peft(base, adapter, torch.bfloat16)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "m").state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("way", "options"),
    [
        ("tensors", {"target_modules": ["q_proj", "embed_tokens"]}),
        ("tensors", {"target_modules": ["q_proj", "lm_head"]}),
        ("peft", {"bias": "lora_only", "target_modules": ["q_proj", "embed_tokens"]}),
        ("peft", {"bias": "lora_only", "target_modules": ["q_proj", "lm_head"]}),
        ("peft", {"init_lora_weights": "pissa", "target_modules": ["q_proj", "lm_head"]}),
        ("peft", {"bias": "lora_only", "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    ],
)
def test_tied_embeddings_are_saved_separately_if_the_adapter_changes_one_of_them(
    way, options, make, script, tmp_path
):
    """The merged model gives the logits of base + adapter, not of a model in which both were changed."""
    from transformers import AutoModelForCausalLM

    base, adapter = make(tied=True, **options)
    with_adapter, _ = loading.load_with_adapter(trained_weights.require_adapter(adapter), torch.float32, base)
    ids = torch.tensor([[5, 700, 3, 42]])
    with torch.inference_mode():
        wanted = with_adapter(ids).logits
        code, _, err = merge(script, base, adapter, tmp_path / "m", "--dtype", "float32")
        assert code == 0 and ("merged with peft" in err) == (way == "peft"), err
        got = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)(ids).logits
    assert torch.allclose(got, wanted, atol=1e-4)
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert config["tie_word_embeddings"] is False and "lm_head.weight" in merged_weights(tmp_path / "m")


@pytest.mark.parametrize(("target", "ties"), [("embed_tokens", False), ("lm_head", False), ("q_proj", True)])
def test_a_tied_base_that_stores_its_output_layer_is_untied_if_the_adapter_changes_one_of_them(
    target, ties, make, script, tmp_path
):
    """A program that goes by the config would read the embedding only."""
    base, adapter = make(tied=True, target_modules=["v_proj", target])
    tensors = merged_weights(base)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    safetensors_files.write(base / "model.safetensors", shapes, tensors.values())
    with_adapter, _ = loading.load_with_adapter(trained_weights.require_adapter(adapter), torch.float32, base)
    ids = torch.tensor([[5, 700, 3, 42]])
    with torch.inference_mode():
        wanted = with_adapter(ids).logits
        code, _, err = merge(script, base, adapter, tmp_path / "m", "--dtype", "float32")
        assert code == 0, err
        got = loading.load_model(tmp_path / "m", torch.float32)(ids).logits
    assert torch.allclose(got, wanted, atol=1e-4)
    assert json.loads((tmp_path / "m/config.json").read_text())["tie_word_embeddings"] is ties


def test_an_unsupported_adapter_is_merged_with_peft_with_a_notice(make, script, tmp_path):
    base, adapter = make(bias="lora_only")
    code, _, err = merge(script, base, adapter, tmp_path / "m", "--dtype", "float32")
    assert code == 0 and "the adapter has bias=lora_only: it is merged with peft" in err
    expected, got = by_peft(base, adapter, torch.float32), merged_weights(tmp_path / "m")
    assert all(torch.equal(got[name], expected[name]) for name in got)


def test_settings_of_a_newer_peft_are_neither_left_out_nor_ignored(make, script, tmp_path):
    base, adapter = make()
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert adapter_changes.unsupported(config) is None
    assert adapter_changes.unsupported(config | {"kasa_config": {"alpha": 1}}) == "kasa_config={'alpha': 1}"
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_newer_lora": True}))
    code, _, err = merge(script, base, adapter, tmp_path / "m")
    assert code == 2 and "has use_newer_lora=True, which peft" in err and "pip install -U peft" in err
    assert not (tmp_path / "m").exists()


def test_both_ways_of_merging_write_the_same_config(make, script, tmp_path):
    """What peft merged is saved by transformers 5, whose config.json transformers 4 and its kin misread."""
    llama3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    llama3["original_max_position_embeddings"] = 8192
    written = {}
    for way, options in (("tensors", {}), ("peft", {"init_lora_weights": "pissa"})):
        base, adapter = make(**options)
        config = json.loads((base / "config.json").read_text())
        config["rope_parameters"] = {"rope_theta": 500000.0, **llama3}
        (base / "config.json").write_text(json.dumps(config))
        code, _, err = merge(script, base, adapter, tmp_path / way)
        assert code == 0 and ("merged with peft" in err) == (way == "peft"), err
        written[way] = json.loads((tmp_path / way / "config.json").read_text())
    assert written["peft"] == written["tensors"]
    assert written["peft"]["rope_theta"] == 500000.0 and written["peft"]["rope_scaling"] == llama3


def test_gemma_3_s_two_rotary_bases_are_written_for_older_libraries(tmp_path):
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    (tmp_path / "out").mkdir()
    for config in ({"rope_parameters": rope}, {"text_config": {"rope_parameters": rope}}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        hf_folder.write_config(tmp_path, tmp_path / "out", "bfloat16", {"vocab_size": 7})
        written = json.loads((tmp_path / "out/config.json").read_text())
        text = written.get("text_config", written)
        assert (text["rope_theta"], text["rope_local_base_freq"], text["vocab_size"]) == (1e6, 1e4, 7)
        assert text["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
        assert written["torch_dtype"] == "bfloat16"


def test_an_adapter_that_does_not_fit_is_refused_and_its_tensors_are_named(make, script, tmp_path):
    base, _ = make()
    _, adapter = make(target_modules=["q_proj"])
    config = json.loads((adapter / "adapter_config.json").read_text())
    header = safetensors_files.read_header(adapter / "adapter_model.safetensors")
    tensors = {name.replace("layers.1", "layers.7"): entry.read() for name, entry in header.items()}
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    tensors[key] = tensors[key][:32].clone()
    safetensors_files.write(
        adapter / "adapter_model.safetensors",
        {n: (t.dtype, t.shape) for n, t in tensors.items()},
        tensors.values(),
    )
    code, _, err = merge(script, base, adapter, tmp_path / "m")
    assert code == 2 and "does not fit the base" in err and not (tmp_path / "m").exists()
    assert "model.layers.0.self_attn.q_proj.weight: [32, 64] in the adapter, [64, 64] in the base" in err
    assert "model.layers.7.self_attn.q_proj.weight: not in the base" in err
    assert adapter_changes.unsupported(config) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "holds NaN or infinity (in "), (3e38, "are not finite (NaN or infinity)")],
    ids=["the adapter is not finite", "only the sum is not finite"],
)
def test_a_sum_that_is_not_finite_is_refused(value, message, make, script, tmp_path):
    base, adapter = make()
    header = safetensors_files.read_header(adapter / "adapter_model.safetensors")
    tensors = {name: entry.read() for name, entry in header.items()}
    for tensor in tensors.values():
        tensor[0, 0] = value
    safetensors_files.write(
        adapter / "adapter_model.safetensors",
        {n: (t.dtype, t.shape) for n, t in tensors.items()},
        tensors.values(),
    )
    code, _, err = merge(script, base, adapter, tmp_path / "m")
    assert code == 2 and message in err and not (tmp_path / "m").exists()
    assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_an_adapter_with_half_a_lora_is_refused(make, script, tmp_path):
    base, adapter = make()
    file = adapter / "adapter_model.safetensors"
    tensors = {name: entry.read() for name, entry in safetensors_files.read_header(file).items()}
    tensors.pop(next(name for name in tensors if name.endswith("q_proj.lora_B.weight")))
    safetensors_files.write(file, {n: (t.dtype, t.shape) for n, t in tensors.items()}, tensors.values())
    code, _, err = merge(script, base, adapter, tmp_path / "m")
    assert code == 2 and "is damaged: one of the two LoRA matrices of model.layers.0.self_attn.q_proj" in err


def test_the_folder_s_files_are_readable_for_older_libraries(make, script, tmp_path):
    """What transformers 4, vLLM and converters look for, by key: they were tried with 4.57 by hand."""
    base, adapter = make()
    assert merge(script, base, adapter, tmp_path / "m")[0] == 0
    config, words, stops = (
        json.loads((tmp_path / "m" / f"{name}.json").read_text())
        for name in ("config", "tokenizer_config", "generation_config")
    )
    assert (
        config["torch_dtype"] == config["dtype"] == "bfloat16"
        and config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    )
    assert words["tokenizer_class"] != "TokenizersBackend" and "chat_template" not in words
    assert not isinstance(words.get("extra_special_tokens"), list) and stops["eos_token_id"] == 2
    parser = load_script("merge_lora").build_parser()
    assert parser.parse_args(["--base_model", "b", "--lora_path", "l", "--output_path", "o"]).revision is None


READ_ANEW = """
import json, sys
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="float32")
ids = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Who wrote Hamlet?"}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)
reply = model.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.eos_token_id)
print(json.dumps({
    "version": transformers.__version__, "ids": reply[0].tolist(),
    "stops": model.generation_config.eos_token_id,
    "special": [tokenizer.eos_token, tokenizer.bos_token], "tokens": len(tokenizer),
}))
"""


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_transformers_4_reads_the_merged_folder_as_5_does(kind, pipeline):
    old = Path(sys.prefix) / "transformers4/bin/python"
    assert old.exists(), "scripts/test.sh makes that environment"
    read = []
    for python in (old, sys.executable):
        done = subprocess.run(
            [python, "-c", READ_ANEW, pipeline(kind).merged], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        read.append(json.loads(done.stdout.splitlines()[-1]))
    versions = [one.pop("version").split(".")[0] for one in read]
    assert versions == ["4", "5"] and read[0] == read[1]


# ---- a base with code of its own -----------------------------------------------------------------

OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
OWN_NAMES = {
    "model_type": "own",
    "architectures": ["OwnForCausalLM"],
    "auto_map": {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    },
}


def test_a_hub_base_s_own_code_is_fetched_run_and_kept__fake_hub(make, script, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    base, adapter = make()
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | OWN_NAMES))
    (base / "modeling_own.py").write_text(OWN_CODE)

    def download(name, revision, **patterns):
        snapshot = tmp_path / "snapshot"
        snapshot.mkdir()
        for file in filter_repo_objects([file.name for file in base.iterdir()], **patterns):
            (snapshot / file).symlink_to(base / file)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    merged = tmp_path / "merged"
    arguments = ("--base_model", "some/own", "--lora_path", adapter, "--output_path", merged)
    code, out, err = script("merge_lora", *arguments, "--trust_remote_code", "--verify")
    assert code == 0, err
    assert "Test generation successful!" in out
    assert json.loads((merged / "config.json").read_text())["auto_map"] == OWN_NAMES["auto_map"]
    assert (merged / "modeling_own.py").read_text() == OWN_CODE
