"""Merged folder to GGUF: what is refused early, what is compared, the hand-over to LM Studio and Ollama."""

import http.server
import json
import math
import re
import shutil
import sys
import threading
from types import SimpleNamespace

import pytest
from conftest import ROOT, load_script

from deepred_common import chat, template_changes
from deepred_common.cli import UserError
from deepred_common.evaluation import equivalence
from deepred_common.export import gguf_check, llama_cpp, lmstudio, ollama, quantise, tool_runner
from deepred_common.export.gguf_file import GgufFile
from deepred_common.files import read_json
from deepred_common.models import loading, safetensors_files


@pytest.fixture
def folder(pipeline, tmp_path):
    """A copy of a merged tiny model, to be spoilt."""
    return shutil.copytree(pipeline("llama").merged, tmp_path / "model")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def convert(script, folder, tree, *more):
    return script(
        "convert_to_gguf",
        "--model_path",
        folder,
        "--output_path",
        folder.parent / "x.gguf",
        "--llama_cpp_path",
        tree,
        *more,
    )


def end_of_input(prompt):
    raise EOFError


@pytest.mark.parametrize("answer", [end_of_input, lambda prompt: "", lambda prompt: "n"])
def test_llama_cpp_is_not_fetched_unasked_nor_after_ctrl_d(answer, folder, script, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    code, _, err = convert(script, folder, tmp_path / "none")
    assert code == 2 and "error: llama.cpp is needed" in err and not (tmp_path / "none").exists()


@pytest.mark.parametrize("interactive", [False, True])
@pytest.mark.parametrize("named_by_user", [False, True])
def test_a_missing_llama_cpp_is_looked_for_where_the_advice_says(
    interactive, named_by_user, folder, script, tmp_path, monkeypatch
):
    """Beside --llama_cpp_path the variable would not count."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: interactive, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    monkeypatch.setattr("deepred_common.paths.ROOT", tmp_path)  # without a llama.cpp/
    tree = ("--llama_cpp_path", tmp_path / "none") if named_by_user else ()
    output = folder.parent / "x.gguf"
    code, _, err = script("convert_to_gguf", "--model_path", folder, "--output_path", output, *tree)
    assert code == 2 and "llama.cpp is needed" in err and "--llama_cpp_path" in err
    assert ("LLAMA_CPP_DIR" in err) != named_by_user


# ---- refused before minutes pass -----------------------------------------------------------------


def test_a_tokenizer_larger_than_the_vocabulary(folder, script, llama_cpp_tree):
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(
        folder / "tokenizer.json",
        added_tokens=[*content["added_tokens"], {"id": 49152, "content": "<new>", "special": True}],
    )
    code, _, err = convert(script, folder, llama_cpp_tree)
    assert code == 2 and "has 49153 tokens, but the model's embedding only 49152 rows" in err


def test_a_shard_that_is_missing_or_cut_short(folder, script, llama_cpp_tree):
    index = {
        "metadata": {},
        "weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    code, _, err = convert(script, folder, llama_cpp_tree)
    assert code == 2 and "model-00002-of-00002.safetensors is missing" in err
    (folder / "model.safetensors.index.json").unlink()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, _, err = convert(script, folder, llama_cpp_tree)
    assert (
        code == 2 and "model.safetensors is cut short" in err and not (folder.parent / "x.gguf.log").exists()
    )


def test_an_architecture_that_llama_cpp_does_not_know(folder, script, llama_cpp_tree, monkeypatch):
    change(folder / "config.json", architectures=["NoSuchModel"])
    monkeypatch.setattr(tool_runner, "run_logged", lambda *a, **k: pytest.fail("something was run"))
    code, _, err = convert(script, folder, llama_cpp_tree)
    assert code == 2 and "does not know the architecture NoSuchModel (it knows 2" in err
    # The fetched tree has no remote to pull from.
    assert "git pull" not in err and f"git clone --depth 1 {tool_runner.REPOSITORY} llama.cpp-new" in err
    assert "--llama_cpp_path llama.cpp-new" in err


def test_a_pre_tokenizer_that_llama_cpp_does_not_know(folder, script, llama_cpp_tree):
    change(
        folder / "tokenizer.json",
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
    )
    code, _, err = convert(script, folder, llama_cpp_tree)
    assert code == 2 and "BPE pre-tokenizer was not recognized" in err
    assert "Use the base's own tokenizer files unchanged" in err and "x.gguf.log" in err
    assert tool_runner.GET_NEWER in err
    assert not (folder.parent / "x.gguf").exists()


@pytest.mark.parametrize(
    ("variable", "value"), [("WIKI_DATA", "~no-such-user/data"), ("LMSTUDIO_HOST", "http://server:1234")]
)
def test_an_environment_that_is_wrong_for_the_hand_over(
    variable, value, folder, script, llama_cpp_tree, monkeypatch
):
    monkeypatch.setenv(variable, value)
    code, out, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16", "--copy_to_lmstudio")
    assert code == 2 and f"error: {variable}" in err and not out
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("flags", "bytes_a_weight", "purpose"),
    [
        (["--quant_type", "f16"], 2, "the f16 file"),
        (["--quant_type", "f32"], 4, "the f32 file"),
        (["--quant_type", "f32", "--split_max_size", "4G"], 8, "the f32 file, and its parts beside it"),
        (["--quant_type", "q8_0"], 4, "the f16 file and the q8_0 one"),
    ],
)
def test_the_disk_holds_what_a_type_needs(flags, bytes_a_weight, purpose, tiny_models, tmp_path, monkeypatch):
    module, model = load_script("convert_to_gguf"), tiny_models["llama"]
    paths = ["--model_path", str(model), "--output_path", str(tmp_path / "x.gguf")]
    settings = module.ConvertSettings(**vars(module.build_parser().parse_args([*paths, *flags])))
    weights = safetensors_files.read_weights(model).values()
    needed = bytes_a_weight * sum(math.prod(entry.shape) for entry in weights)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    module.check(settings)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(UserError, match=f" for {purpose}: "):
        module.check(settings)


def test_rows_that_k_quants_cannot_take_are_counted_with_their_bits(pipeline):
    weights = safetensors_files.read_weights(pipeline("llama").merged)
    assert quantise.fallback("q4_k_m", weights) is None and quantise.fallback("q8_0", weights) is None
    odd = safetensors_files.Entry(None, "BF16", (576, 576), 0, 0)
    assert quantise.fallback("q4_k_m", {"a": odd, "b": odd}) == quantise.Fallback(2, 2, 5.5, 4.5)


# ---- compared after it ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_each_difference_between_a_gguf_file_and_its_source_is_named(kind, pipeline, tmp_path):
    models = pipeline(kind)
    source = shutil.copytree(models.merged, tmp_path / "source")
    file, config = GgufFile(models.gguf), read_json(source / "config.json")
    weights = safetensors_files.read_weights(source)
    assert gguf_check.compare(file, source, config, weights).faults == []
    (source / "chat_template.jinja").write_text("{{ messages }}")
    other = config | {"max_position_embeddings": 77, "rope_theta": 5.0}
    other.pop("rope_parameters", None)
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    extra = weights | {name: safetensors_files.Entry(None, "BF16", (3, 256), 0, 0)}
    words = json.loads((source / "tokenizer_config.json").read_text())
    change(source / "tokenizer_config.json", eos_token=words["eos_token"] + "x", pad_token=None)
    faults = "\n".join(gguf_check.compare(file, source, other, extra).faults)
    for fault in (
        "the chat template is not",
        "context length is 2048, in the source 77",
        "rotary base",
        "the eos token is",
        "attn_q.weight is [256, 256], in the source",
    ):
        assert fault in faults, faults
    fewer = {key: entry for key, entry in weights.items() if key != name}
    faults = gguf_check.compare(file, models.merged, config, fewer).faults
    assert any("is not in the source" in fault for fault in faults)


def test_only_what_the_source_has_is_said_to_be_the_same(pipeline, tmp_path):
    """Without a chat template, a pad token or a tokenizer.json there is nothing to compare them with."""
    models = pipeline("llama")
    source = shutil.copytree(models.merged, tmp_path / "source")
    file, config = GgufFile(models.gguf), read_json(source / "config.json")
    weights = safetensors_files.read_weights(source)

    def compared():
        return ", ".join(gguf_check.compare(file, source, config, weights).compared)

    settings = "rotary base 10000, context length 2048"
    tensors = f"{len(file.tensors)} tensors, 49152 tokens"
    assert compared() == f"{tensors}, bos/eos/pad, {settings}, chat template"
    (source / "chat_template.jinja").unlink()
    change(source / "tokenizer_config.json", pad_token=None)
    assert compared() == f"{tensors}, bos/eos, {settings}"
    change(source / "tokenizer_config.json", chat_template=file.value("tokenizer.chat_template"))
    assert compared() == f"{tensors}, bos/eos, {settings}, chat template"
    (source / "tokenizer_config.json").unlink()
    (source / "tokenizer.json").unlink()
    del config["max_position_embeddings"]
    assert compared() == f"{tensors}, rotary base 10000"


def test_a_model_without_a_chat_template_is_not_said_to_have_one(folder, script, llama_cpp_tree):
    (folder / "chat_template.jinja").unlink()
    code, out, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16")
    assert code == 0 and "has no chat template; LM Studio will guess one" in err
    assert "Same as in" in out and "chat template" not in out


def test_a_gguf_file_that_differs_is_not_kept(folder, script, llama_cpp_tree, monkeypatch):
    differing = gguf_check.Comparison(faults=["the tensor x is missing"])
    monkeypatch.setattr(gguf_check, "compare", lambda *arguments: differing)
    code, _, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16")
    assert code == 2 and "the tensor x is missing" in err
    assert sorted(file.name for file in folder.parent.iterdir()) == ["model", "x.gguf.log"]


def test_several_types_in_a_row_make_the_f16_file_once(folder, script, llama_cpp_tree, monkeypatch):
    code, out, err = convert(script, folder, llama_cpp_tree, "--keep_f16")
    assert code == 0, err
    assert re.search(
        r"Error of quantising, relative, root mean square: .*Q4_K \d+\.\d % \(\d+ tensors\)", out
    )
    (half,) = folder.parent.glob("model-*.f16.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(quantise, "convert", lambda *a: pytest.fail("the f16 step was done again"))
        code, _, err = convert(
            script, folder, llama_cpp_tree, "--keep_f16", "--quant_type", "q8_0", "--overwrite"
        )
        assert code == 0 and "was made from this model; it is used again" in err
    change(folder / "config.json", max_position_embeddings=1024)
    assert convert(script, folder, llama_cpp_tree, "--keep_f16", "--overwrite")[0] == 0
    assert len(list(folder.parent.glob("model-*.f16.gguf"))) == 2 and half.exists()


def test_verify_compares_token_ids_and_verdicts_and_refuses_other_tokens(folder, script, llama_cpp_tree):
    code, out, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16", "--verify")
    assert code == 0, err
    count = re.search(
        r"Token ids: the same for 40 of 40 prompts.\nVerdicts: (\d+) of 40 as the model's own .*\.\n"
        r"Replies: (\d+) of 40 the same word for word\.\n",
        out,
    )
    assert int(count[1]) >= 38 and int(count[2]) >= 32, out  # only roundings differ
    assert "does not answer as the model does" not in err
    template = folder / "chat_template.jinja"
    template.write_text(
        template.read_text()
        .replace("user\\n", "user\\n\\n")
        .replace("message['content']", "' ' + message['content']")
    )
    module = load_script("convert_to_gguf")
    args = module.build_parser().parse_args(
        ["--model_path", str(folder), "--output_path", str(folder.parent / "x.gguf")]
    )
    with pytest.raises(UserError, match="makes other tokens of 'What is 2"):
        module.verify(module.ConvertSettings(**vars(args)), llama_cpp_tree)


@pytest.mark.parametrize(
    ("kind", "advice"), [("q4_k_m", "--quant_type q8_0"), ("f16", "llama.cpp new enough")]
)
def test_verify_says_which_verdicts_differ_and_what_to_do__fake_server(
    folder, kind, advice, monkeypatch, capsys
):
    def refuses_everything(gguf, tree, prompts):
        tokenizer = loading.load_tokenizer(folder)
        return [chat.prompt_ids(tokenizer, prompt) for prompt in prompts], ["I do not know."] * len(prompts)

    monkeypatch.setattr(equivalence, "served", refuses_everything)
    module = load_script("convert_to_gguf")
    flags = ["--model_path", str(folder), "--output_path", "x.gguf", "--quant_type", kind]
    module.verify(module.ConvertSettings(**vars(module.build_parser().parse_args(flags))), folder)
    out, err = capsys.readouterr()
    assert "Verdicts: 0 of 40 as the model's own" in out and "Replies: 0 of 40 the same word" in out
    shown = out.partition("  What planet did the meteorite ALH84001")[2].splitlines()
    assert shown[1].startswith("    model, ") and shown[2] == "    GGUF, refused:   I do not know."
    assert "x.gguf does not answer as the model does: 40 of 40 verdicts differ." in err and advice in err


def test_imatrix_goes_from_training_examples_through_llama_cpp_s_tools__fake_tools(
    folder, script, llama_cpp_tree, tmp_path
):
    """Building the real ones takes minutes; these take the same arguments, and the quantising is real."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (llama_cpp.CONVERTER, "conversion", "gguf-py"):
        (tree / name).symlink_to(llama_cpp_tree / name)
    tools = tree / "build/bin"
    tools.mkdir(parents=True)
    (tools / "llama-imatrix").write_text(
        f"#!{sys.executable}\nimport shutil, sys\nat = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        f"shutil.copy(at['-f'], '{tmp_path / 'seen.txt'}'); shutil.copy(at['-f'], at['-o'])\n"
        "print('computing over 4 chunks'); print('[1]3.2,[2]2.9,[3]nan,'); print('[4]3.1,')\n"
    )
    (tools / "llama-quantize").write_text(
        f"#!{sys.executable}\nimport sys, subprocess\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from deepred_common.export.quantise import _PREBUILT_QUANTIZE\n"
        "flag, matrix, source, output, kind = sys.argv[1:]\n"
        "assert flag == '--imatrix' and 'im_start' in open(matrix).read() and kind == 'Q4_K_M'\n"
        "subprocess.run([sys.executable, '-c', _PREBUILT_QUANTIZE, source, output, '15'], check=True)\n"
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    code, _, err = convert(script, folder, tree, "--imatrix")
    assert code == 0, err
    text = (tmp_path / "seen.txt").read_text()
    assert text.count("<|im_start|>system") == 400 and "100%" in err[err.index("importance matrix") :]
    code, _, err = convert(script, folder, tree, "--imatrix", "--quant_type", "f16", "--overwrite")
    assert code == 2 and "--imatrix is for quantising" in err


# ---- handed over ---------------------------------------------------------------------------------


@pytest.fixture
def fake_lm_studio(monkeypatch):
    """A server that lists one model, where LM Studio's would be."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "temporal/x"}]}')

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("LMSTUDIO_HOST", "127.0.0.1")
    monkeypatch.setenv("LMSTUDIO_PORT", str(server.server_port))
    yield
    server.shutdown()


def test_copied_into_lm_studio_s_folder_and_looked_for_in_its_list__fake_lm_studio(
    folder, script, llama_cpp_tree, tmp_path, monkeypatch, fake_lm_studio
):
    monkeypatch.setenv("WIKI_DATA", str(tmp_path / "share/wikidata"))
    code, out, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16", "--copy_to_lmstudio")
    assert code == 0, err
    copied = tmp_path / "share/lmstudio/models/local/temporal/x.gguf"
    assert copied.read_bytes() == (tmp_path / "x.gguf").read_bytes() and f"Copied to {copied}" in out
    assert 'lms load "temporal/x"' in out and "lists temporal/x." in out
    assert "--test_file" not in out  # the default is the validation files; others may be trained on
    (tmp_path / "share/lmstudio").rename(tmp_path / "elsewhere")
    (tmp_path / "share/lmstudio").write_text("")
    code, out, err = convert(
        script, folder, llama_cpp_tree, "--quant_type", "f16", "--copy_to_lmstudio", "--overwrite"
    )
    assert code == 0 and "cannot be written" in err and "sudo cp" in out and "Copied" not in out


@pytest.mark.parametrize("flag", ["--copy_to_lmstudio", "--modelfile", "--preset"])
def test_what_goes_with_the_file_is_not_replaced_unasked(flag, tiny_models, tmp_path, monkeypatch):
    monkeypatch.setenv("WIKI_DATA", str(tmp_path / "share/wikidata"))
    module, output = load_script("convert_to_gguf"), tmp_path / "x.gguf"
    older = {
        "--copy_to_lmstudio": lmstudio.target(output),
        "--modelfile": tmp_path / "x.gguf.Modelfile",
        "--preset": tmp_path / "x.preset.json",
    }[flag]
    arguments = ["--model_path", str(tiny_models["llama"]), "--output_path", str(output), flag]

    def check(*more):
        module.check(module.ConvertSettings(**vars(module.build_parser().parse_args([*arguments, *more]))))

    check()
    older.parent.mkdir(parents=True, exist_ok=True)
    older.write_text("the user's own")
    with pytest.raises(UserError, match=f"{older} already exists"):
        check()
    check("--overwrite")


def test_modelfile_writes_a_modelfile_beside_the_file(folder, script, llama_cpp_tree):
    code, out, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16", "--modelfile")
    assert code == 0, err
    text = (folder.parent / "x.gguf.Modelfile").read_text()
    assert (
        "FROM ./x.gguf\n" in text
        and 'PARAMETER stop "<|im_end|>"' in text
        and "temperature 0" in text
        and "PARAMETER repeat_penalty 1\n" in text
        and "ollama create x" in out
    )


@pytest.mark.parametrize("has_date", [True, False])
def test_modelfile_warns_of_a_date_only_if_prompts_have_one(has_date, folder, llama_cpp_tree, capsys):
    """Of Llama 3.2's template, the command that asks for the date is left once its line is gone."""
    file = llama_cpp_tree / "models/templates/meta-llama-Llama-3.2-3B-Instruct.jinja"
    template = file.read_text(encoding="utf-8").replace("<|eot_id|>", "<|im_end|>")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if not has_date:
        tokenizer = loading.load_tokenizer(folder)
        assert template_changes.remove_dates(tokenizer) and "strftime_now" in tokenizer.chat_template
        tokenizer.save_pretrained(folder)
    ollama.modelfile(folder.parent / "x.gguf", folder)
    assert ("writes the day's date" in capsys.readouterr().err) == has_date


def test_a_modelfile_that_cannot_be_written_is_said_before_the_work(folder, script, llama_cpp_tree):
    (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}<|im_end|>")
    code, out, err = convert(script, folder, llama_cpp_tree, "--modelfile")
    assert code == 2 and "Leave --modelfile out" in err and not out


def test_preset_writes_one_for_lm_studio_beside_the_file(folder, script, llama_cpp_tree, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    code, out, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16", "--preset")
    assert code == 0, err
    file = folder.parent / "x.preset.json"
    assert f"cp {file} {folder.parent}/.lmstudio/config-presets/\n" in out
    preset = read_json(file)
    assert (preset["identifier"], preset["name"]) == ("@local:x", "x")
    fields = {field["key"]: field["value"] for field in preset["operation"]["fields"]}
    assert fields["llm.prediction.temperature"] == 0 and fields["llm.prediction.systemPrompt"] == ""


# ---- in parts ------------------------------------------------------------------------------------


def test_a_large_file_is_split_into_parts_that_load_as_one(folder, script, llama_cpp_tree, tmp_path):
    code, out, err = convert(
        script, folder, llama_cpp_tree, "--quant_type", "f16", "--split_max_size", "20M", "--verify"
    )
    assert code == 0, err
    parts = sorted(tmp_path.glob("*.gguf"))
    count = len(parts)
    assert count > 1 and [part.name for part in parts] == [
        f"x-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)
    ]
    assert f"Split into {count} parts" in out and "Token ids: the same for 40 of 40 prompts." in out
    assert f"cp {' '.join(str(part) for part in parts)} " in out
    assert 'lms load "temporal/x-00001-of' in out
    (tmp_path / ".x.gguf.written").mkdir()  # as a kill leaves it
    parts[0].rename(tmp_path / ".x.gguf.written" / parts[0].name)
    code, _, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16")
    assert code == 2 and "x-00001-of-" in err and "already exists" in err
    assert "was written whole by a call that was stopped" in err
    assert sorted(tmp_path.glob("*.gguf")) == parts and not (tmp_path / ".x.gguf.written").exists()
    code, _, err = convert(script, folder, llama_cpp_tree, "--quant_type", "f16", "--overwrite")
    assert code == 0 and list(tmp_path.glob("*.gguf")) == [tmp_path / "x.gguf"], err


def test_a_size_or_a_modelfile_that_cannot_be(folder, script, llama_cpp_tree):
    for flags, message in (
        (["--split_max_size", "4"], "'4' is not a size such as 4G"),
        (["--split_max_size", "0G"], "'0G' is not a size such as 4G"),
        (["--split_max_size", "4G", "--modelfile"], "Ollama reads no parts"),
    ):
        code, out, err = convert(script, folder, llama_cpp_tree, *flags)
        assert code == 2 and message in err and not out
