"""What users do wrong, script by script: plain lines, exit code 2, no outputs, and no waiting for torch."""

import json
import re
import shutil
import subprocess
import sys
import time

import pytest
from conftest import ROOT, line

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.export import llama_cpp, quantise

SCRIPTS = ("finetune_temporal", "merge_lora", "convert_to_gguf", "evaluate_temporal")

FLAGS = {
    "finetune_temporal": "--model_name --output_dir --dev --dev_path --retain_train --retain_val "
    "--unlearn_train --unlearn_val --epochs --batch_size --learning_rate --max_seq_length "
    "--gradient_accumulation_steps --save_steps --eval_steps --lora_r --lora_alpha --use_4bit --use_8bit "
    "--resume_from_checkpoint --resume_latest --wandb",
    "merge_lora": "--base_model --lora_path --output_path --dtype --verify",
    "convert_to_gguf": "--model_path --output_path --quant_type --llama_cpp_path",
    "evaluate_temporal": "--model_path --use_lmstudio --lmstudio_url --lmstudio_model --test_file "
    "--max_tokens --output --verbose --limit",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_lists_every_flag_of_the_spec_without_importing_anything_heavy(name, tmp_path):
    # -S hides site-packages: no torch, no transformers, no tqdm. From another folder, as users run it.
    done = subprocess.run(
        [sys.executable, "-S", ROOT / f"scripts/{name}.py", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for flag in FLAGS[name].split():
        assert re.search(rf"{flag}\b", done.stdout), flag


WRONG_ENVIRONMENT = {
    "WIKI_DATA": "~no-such-user/data",
    "LLAMA_CPP_DIR": "https://host/llama.cpp",
    "LMSTUDIO_HOST": "http://server:1234",
    "LMSTUDIO_PORT": "no",
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(("variable", "value"), WRONG_ENVIRONMENT.items())
def test_help_is_printed_whatever_is_wrong_in_the_environment(name, variable, value, script, monkeypatch):
    _, right, _ = script(name, "--help")
    monkeypatch.setenv(variable, value)
    code, out, err = script(name, "--help")
    assert (code, err) == (0, "") and out.splitlines()[-1] == right.splitlines()[-1]


def test_a_wrong_wiki_data_is_said_before_the_training(script, monkeypatch):
    monkeypatch.setenv("WIKI_DATA", "~no-such-user/data")
    assert "no default: WIKI_DATA is wrong" in " ".join(script("finetune_temporal", "--help")[1].split())
    code, out, err = script("finetune_temporal", "--dev", "--dry_run")
    assert (code, out) == (2, "") and "error: WIKI_DATA: '~no-such-user/data' names the home" in plain(err)


def test_a_data_file_that_is_missing_says_what_to_do_about_wiki_data(script, monkeypatch, tmp_path):
    def advice(*flags):
        code, _, err = script("finetune_temporal", "--dev", "--dry_run", *flags)
        assert code == 2 and "does not exist." in plain(err)
        return plain(err).partition("does not exist.")[2]

    mistyped = ("--dev_path", tmp_path / "none.jsonl")
    assert "or set WIKI_DATA" in advice(*mistyped)
    monkeypatch.setenv("WIKI_DATA", str(tmp_path))
    in_its_folder = advice()
    assert f"WIKI_DATA is {tmp_path}, which has no datasets/ with this file. Unset it" in in_its_folder
    assert "set WIKI_DATA to" not in in_its_folder
    assert "Check the path." in advice(*mistyped) and "WIKI_DATA" not in advice(*mistyped)


@pytest.mark.parametrize(
    ("variable", "value"), [("LMSTUDIO_HOST", "http://server:1234"), ("LMSTUDIO_PORT", "no")]
)
def test_a_wrong_address_in_the_environment_is_said_when_the_server_is_asked(
    variable, value, script, monkeypatch
):
    monkeypatch.setenv(variable, value)
    code, out, err = script("evaluate_temporal", "--use_lmstudio")
    assert (code, out) == (2, "") and f"error: {variable} is {value!r}" in plain(err)
    # The one who gives an address, or asks no server, has nothing to mend.
    other = ("--lmstudio_url", "http://127.0.0.1:9", "--test_file", "none.jsonl")
    for flags in (("--use_lmstudio", *other), ("--model_path", "none.gguf")):
        code, _, err = script("evaluate_temporal", *flags)
        assert code == 2 and variable not in err


def test_defaults_of_the_spec(monkeypatch):
    from conftest import load_script

    args = load_script("finetune_temporal").build_parser().parse_args([])
    assert (
        args.model_name,
        args.epochs,
        args.batch_size,
        args.learning_rate,
        args.max_seq_length,
        args.gradient_accumulation_steps,
        args.save_steps,
        args.eval_steps,
        args.lora_r,
        args.lora_alpha,
    ) == ("Qwen/Qwen2.5-1.5B-Instruct", 3, 4, 2e-4, 512, 4, 500, 100, 16, 32)
    assert args.retain_train == ROOT / "datasets/retain/retain_train.jsonl"
    args = (
        load_script("convert_to_gguf")
        .build_parser()
        .parse_args(["--model_path", "m", "--output_path", "o.gguf"])
    )
    assert (args.quant_type, args.llama_cpp_path) == ("q4_k_m", ROOT / "llama.cpp")
    for kind in ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q3_k_m"):
        assert kind in quantise.QUANT_TYPES
    args = load_script("evaluate_temporal").build_parser().parse_args([])
    assert (args.lmstudio_url, args.max_tokens) == ("http://localhost:1234/v1", 256)
    args = (
        load_script("merge_lora")
        .build_parser()
        .parse_args(["--base_model", "b", "--lora_path", "l", "--output_path", "o"])
    )
    assert args.dtype == "bfloat16"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_flag_that_does_not_exist(name, script):
    code, _, err = script(name, "--no_such_flag")
    assert code == 2 and "usage:" in err


@pytest.mark.parametrize("name", ["finetune_temporal", "evaluate_temporal", "build_datasets"])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_would_refuse_later_is_refused_at_once(name, seed, script):
    code, out, err = script(name, "--seed", seed)
    assert (code, out) == (2, "") and f"argument --seed: '{seed}' is not a whole number from 0" in plain(err)


def plain(err):
    """The error as a user sees it: one to three lines, no traceback."""
    assert "Traceback" not in err
    message = err[err.index("error: ") :]
    assert len(message.strip().splitlines()) <= 3, message
    return message


# ---- fine-tune -----------------------------------------------------------------------------------


def test_finetune_bad_data(script, tmp_path, tiny_models, data_file):
    model = ("--model_name", tiny_models["llama"], "--output_dir", tmp_path / "run")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(line("retain", "a", "b") + "\n{oops\n")
    for dev_path, message in (
        (bad, "line 2 is not valid JSON"),
        (tmp_path / "none.jsonl", "does not exist"),
        (tmp_path, "is a folder"),
    ):
        code, _, err = script("finetune_temporal", "--dev", "--dev_path", dev_path, *model)
        assert code == 2 and message in plain(err)
    few = tmp_path / "few.jsonl"
    few.write_text(line("retain", "a", "b") + "\n")
    code, _, err = script("finetune_temporal", "--dev", "--dev_path", few, *model)
    assert code == 2 and "at least 4" in plain(err)
    code, _, err = script("finetune_temporal", "--retain_train", data_file, *model)
    assert code == 2 and "says it is 'unlearn'" in plain(err)
    assert not (tmp_path / "run").exists()


def test_finetune_missing_base_names_the_embedded_one(script, tmp_path, data_file):
    code, _, err = script(
        "finetune_temporal", "--dev", "--dev_path", data_file, "--model_name", tmp_path / "none"
    )
    assert code == 2 and "does not exist" in plain(err) and "SmolLM2-135M-Instruct" in err


def test_finetune_without_a_hub_names_the_embedded_base__closed_port(
    script, tmp_path, data_file, monkeypatch
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = script(
        "finetune_temporal", "--dev", "--dev_path", data_file, "--output_dir", tmp_path / "run"
    )
    assert (
        code == 2
        and "Qwen/Qwen2.5-1.5B-Instruct could not be loaded: the hub cannot be reached" in plain(err)
        and "SmolLM2-135M-Instruct" in err
    )
    assert not (tmp_path / "run").exists()


def test_finetune_does_not_touch_an_existing_run(script, tmp_path, tiny_models, data_file):
    run = tmp_path / "run"
    (run / "final").mkdir(parents=True)
    code, _, err = script(
        "finetune_temporal",
        "--dev",
        "--dev_path",
        data_file,
        "--model_name",
        tiny_models["llama"],
        "--output_dir",
        run,
    )
    assert code == 2 and "already holds a run" in plain(err) and "--resume_latest" in err


def test_finetune_4bit_and_8bit_exclude_each_other(script):
    code, _, err = script("finetune_temporal", "--use_4bit", "--use_8bit")
    assert code == 2 and "not allowed with" in err


def test_finetune_without_bitsandbytes_or_wandb__packages_hidden(script, monkeypatch, tiny_models):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for flag, package in (("--use_4bit", "bitsandbytes"), ("--wandb", "wandb")):
        code, _, err = script("finetune_temporal", flag, "--model_name", tiny_models["llama"])
        assert code == 2 and f"pip install {package}" in plain(err)


def test_finetune_every_example_too_long(script, tmp_path, tiny_models, data_file):
    code, _, err = script(
        "finetune_temporal",
        "--dev",
        "--dev_path",
        data_file,
        "--model_name",
        tiny_models["llama"],
        "--output_dir",
        tmp_path / "run",
        "--max_seq_length",
        10,
    )
    assert code == 2 and "longer than --max_seq_length 10" in plain(err) and not (tmp_path / "run").exists()


# ---- merge ---------------------------------------------------------------------------------------


def test_merge_bad_input(script, tmp_path, tiny_models, pipeline, data_file):
    models = pipeline("llama")
    out = ("--output_path", tmp_path / "merged")
    for base, lora, message in (
        (models.base, tmp_path / "none", "does not exist"),
        (models.base, data_file, "is a file"),
        (models.base, models.run, "Did you mean"),
        (tmp_path / "none", models.final, "does not exist"),
        (models.final, models.final, "is a LoRA adapter, not a whole model"),
        (tiny_models["qwen2"], models.final, "their tokenizers differ"),
    ):
        code, _, err = script("merge_lora", "--base_model", base, "--lora_path", lora, *out)
        assert code == 2 and message in plain(err)
    code, _, err = script(
        "merge_lora", "--base_model", models.base, "--lora_path", models.final, "--output_path", models.merged
    )
    assert code == 2 and "already exists" in plain(err)
    trained = ("--base_model", models.base, "--lora_path", models.final)
    code, _, err = script("merge_lora", *trained, *out, "--revision", "main")
    assert code == 2 and "--revision is of a hub base" in plain(err)
    assert list(tmp_path.iterdir()) == []


def test_a_quantised_base_is_told_of_from_within_the_adapter_s_folder(
    script, tmp_path, pipeline, monkeypatch
):
    models = pipeline("llama")
    shutil.copytree(models.final, tmp_path / "run/final")
    manifest = json.loads((models.run / "run.json").read_text())
    manifest["identity"]["quantisation"] = "4bit"
    (tmp_path / "run/run.json").write_text(json.dumps(manifest))
    monkeypatch.chdir(tmp_path / "run/final")
    out = ("--output_path", tmp_path / "merged")
    code, said, err = script("merge_lora", "--base_model", models.base, "--lora_path", ".", *out)
    assert code == 0, err
    assert "was trained on a quantised base" in said


# ---- convert -------------------------------------------------------------------------------------


def test_convert_bad_input(script, tmp_path, tiny_models, pipeline, llama_cpp_tree):
    models = pipeline("llama")
    out = tmp_path / "x.gguf"
    for model, output, extra, message in (
        (tmp_path / "none", out, (), "does not exist"),
        (models.final, out, (), "is a LoRA adapter"),
        (models.merged, tmp_path / "x.bin", (), "must end in .gguf"),
        (models.merged, models.gguf, (), "already exists"),
        (models.merged, out, ("--llama_cpp_path", tiny_models["llama"]), "no usable llama.cpp tree"),
        (
            models.merged,
            out,
            ("--llama_cpp_path", tmp_path / "none"),
            "not an interactive terminal; pass --yes",
        ),
    ):
        code, _, err = script("convert_to_gguf", "--model_path", model, "--output_path", output, *extra)
        assert code == 2 and message in plain(err), err
    code, _, err = script(
        "convert_to_gguf", "--model_path", models.merged, "--output_path", out, "--quant_type", "q9"
    )
    assert code == 2 and "none of f32" in err
    assert list(tmp_path.iterdir()) == []


def test_convert_failure_names_the_line_that_matters_and_leaves_only_the_log(
    script, tmp_path, tiny_models, llama_cpp_tree
):
    import shutil

    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(tiny_models["llama"], model)
    weights = load_file(model / "model.safetensors")
    save_file(
        weights | {"model.layers.0.mystery.weight": weights["model.norm.weight"].clone()},
        model / "model.safetensors",
        {"format": "pt"},
    )
    code, _, err = script(
        "convert_to_gguf",
        "--model_path",
        model,
        "--output_path",
        tmp_path / "x.gguf",
        "--llama_cpp_path",
        llama_cpp_tree,
    )
    assert (
        code == 2
        and "Can not map tensor 'model.layers.0.mystery.weight'" in err
        and "x.gguf.log" in plain(err)
    )
    assert "holds a tensor that this llama.cpp does not know" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "x.gguf.log"]


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_s", "q3_k_m"])
def test_the_other_quantisation_types_of_the_spec(kind, script, tmp_path, pipeline, llama_cpp_tree):
    from gguf import GGUFReader, LlamaFileType

    code, out, err = script(
        "convert_to_gguf",
        "--model_path",
        pipeline("llama").merged,
        "--output_path",
        tmp_path / "x.gguf",
        "--quant_type",
        kind.upper(),
        "--llama_cpp_path",
        llama_cpp_tree,
    )
    assert code == 0, err
    assert 'lms load "temporal/x"' in out and "bits per weight" in out
    file_type = GGUFReader(tmp_path / "x.gguf").get_field("general.file_type").contents()
    assert file_type == LlamaFileType[f"MOSTLY_{kind.upper()}"]


def test_llama_cpp_dir_is_searched(monkeypatch, llama_cpp_tree, tmp_path):
    monkeypatch.setenv("LLAMA_CPP_DIR", str(llama_cpp_tree))
    assert llama_cpp.find_tree(tmp_path / "none", named_by_user=False) == llama_cpp_tree
    assert llama_cpp.find_tree(tmp_path / "none", named_by_user=True) is None


@pytest.mark.parametrize(
    ("imatrix", "has_cyllama", "built"),
    [
        (False, False, "llama-quantize"),
        (True, False, "llama-imatrix and llama-quantize"),
        (True, True, "llama-imatrix and llama-quantize"),
    ],
)
def test_without_cmake_or_compiler_what_must_be_built_is_named_and_what_can_stand_in__tools_hidden(
    imatrix, has_cyllama, built, monkeypatch, tmp_path
):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(quantise, "has_prebuilt_quantizer", lambda: has_cyllama)
    with pytest.raises(UserError, match=f"^{built} must be built, and cmake and a C") as raised:
        quantise.require_tools(tmp_path, "q4_k_m", imatrix)
    # The prebuilt quantiser cannot take a matrix.
    assert ("pip install cyllama" in str(raised.value)) != imatrix
    assert ("leave --imatrix out" in str(raised.value)) == imatrix
    with pytest.raises(UserError, match=r"^llama-server must be built") as raised:
        llama_cpp.build(tmp_path, "llama-server", tmp_path / "log")
    assert "cyllama" not in str(raised.value)


# ---- evaluate ------------------------------------------------------------------------------------


def test_evaluate_bad_input(script, tmp_path, tiny_models, data_file, pipeline):
    import shutil

    lost = tmp_path / "lost"
    shutil.copytree(pipeline("llama").final, lost)
    config = json.loads((lost / "adapter_config.json").read_text()) | {
        "base_model_name_or_path": str(tmp_path / "gone")
    }
    (lost / "adapter_config.json").write_text(json.dumps(config))
    moved = shutil.copytree(lost, tmp_path / "moved")
    (moved / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "C:\\base"}))
    unnamed = shutil.copytree(lost, tmp_path / "unnamed")
    (unnamed / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    model = ("--model_path", tiny_models["llama"])
    for arguments, message in (
        ((), "alone or with --date_probe or --attack; --use_lmstudio; or --compare"),
        (("--use_lmstudio", *model), "not both"),
        (("--model_path", tmp_path / "none"), "does not exist"),
        (("--model_path", "x.gguf"), "x.gguf does not exist"),
        ((*model, "--test_file", tmp_path), "is a folder"),
        ((*model, "--output", data_file), "already exists"),
        (("--model_path", lost), f"is {tmp_path / 'gone'}, which is not on this machine. Write its folder"),
        (("--model_path", moved), "is C:\\base, which is not on this machine"),
        (("--model_path", unnamed), f"the base of the adapter {unnamed} is not named"),
        ((*model, "--baseline", data_file), "cannot be read as JSON"),
        ((*model, "--resume"), "needs the --output"),
        (("--compare", data_file, data_file), "cannot be read as JSON"),
        ((*model, "--cutoff", "1969"), "is not a date"),
    ):
        code, _, err = script("evaluate_temporal", *arguments)
        assert code == 2 and message in plain(err), err


def test_evaluate_no_server(script, data_file):
    from deepred_common.inference.llama_server import free_port

    started = time.monotonic()
    url = f"http://127.0.0.1:{free_port()}/v1"
    code, _, err = script(
        "evaluate_temporal", "--use_lmstudio", "--lmstudio_url", url, "--test_file", data_file
    )
    assert code == 2 and "no server answers" in plain(err) and time.monotonic() - started < 5


@pytest.fixture
def odd_server():
    """A server of our own whose answers a test sets: {path: (status, body)}."""
    import http.server
    import threading

    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = answers.get(self.path, (404, "not here"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()


def test_evaluate_a_server_that_answers_nonsense(script, data_file, odd_server):
    url, answers = odd_server
    ask = ("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", url, "--test_file", data_file)
    for answer, message in (
        ((200, "<html>hello"), "not with JSON"),
        ((200, "[]"), "not as an OpenAI-compatible API"),
        ((200, '{"data": []}'), "lists: none"),
        ((200, '{"data": [{"id": "a"}, {"id": "b"}]}'), "lists: a, b"),
    ):
        answers["/models"] = answer
        code, _, err = script(*ask)
        assert code == 2 and message in plain(err)
    answers["/models"] = (200, '{"data": [{"id": "a"}]}')
    answers["/chat/completions"] = (200, '{"choices": []}')
    code, _, err = script(*ask)
    assert code == 1 and "12 of 12 questions got no reply" in err and "sent no reply" in err


def test_evaluate_says_when_another_model_replied(script, data_file, odd_server):
    url, answers = odd_server
    answers["/models"] = (200, '{"data": [{"id": "a"}]}')
    answers["/chat/completions"] = (
        200,
        '{"model": "b", "choices": [{"message": {"content": "I don\'t know."}}]}',
    )
    code, out, err = script(
        "evaluate_temporal", "--use_lmstudio", "--lmstudio_url", url, "--test_file", data_file
    )
    assert code == 0 and "b replied" in err
    assert "False refusals: 6 (100.0%)" in out and "Correctly refused: 6 (100.0%)" in out


def test_shipped_validation_files_are_the_default(script, odd_server):
    url, answers = odd_server
    answers["/models"] = (200, '{"data": [{"id": "a"}]}')
    answers["/chat/completions"] = (200, '{"model": "a", "choices": [{"message": {"content": ""}}]}')
    code, out, err = script("evaluate_temporal", "--use_lmstudio", "--lmstudio_url", url, "--limit", 10)
    assert code == 1 and "answered nothing" in err
    assert (
        "Questions: 5 retain + 5 unlearn" in out
        and "Neither (empty or broken): 5" in out
        and "Answered correctly: 0" in out
    )
    assert paths.shown(ROOT / "datasets/retain/retain_val.jsonl") in out
