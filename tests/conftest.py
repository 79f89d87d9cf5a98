"""Fixtures: tiny models with random weights and a real tokenizer, some examples, the scripts as functions."""

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs a hub; one that contacts it should fail at once
# Started in the background of a shell script, pytest and its children would ignore Ctrl-C, which tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

from deepred_common import cli, paths  # noqa: E402
from deepred_common.models import embedded_base  # noqa: E402

KINDS = ("llama", "qwen2")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path_factory):
    for name in ("WIKI_DATA", "LMSTUDIO_HOST", "LMSTUDIO_PORT", "LMSTUDIO_API_KEY", "LLAMA_CPP_DIR"):
        monkeypatch.delenv(name, raising=False)
    # Outputs that a script names by itself (evaluations, runs) must not go to the user's own output/.
    monkeypatch.setattr(paths, "OUTPUT", tmp_path_factory.mktemp("output"))


def load_script(name):
    """A script of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks its module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(capsys):
    """Call a script as the shell would: script("merge_lora", "--verify") -> (exit code, stdout, stderr)."""

    def call(name, *arguments):
        capsys.readouterr()
        try:
            code = cli.run(load_script(name).main, [str(a) for a in arguments])
        except SystemExit as stop:  # argparse's own usage errors
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def base_folder():
    """The embedded base, whose tokenizer the tiny models share."""
    return embedded_base.make()


@pytest.fixture(scope="session")
def tokenizer(base_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_folder)


@pytest.fixture(scope="session")
def qwen_tokenizer(llama_cpp_tree):
    """Qwen2.5's real tokenizer and chat template, from the files that llama.cpp's own tests use."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_cpp_tree / "models", gguf_file="ggml-vocab-qwen2.gguf")
    tokenizer.chat_template = (llama_cpp_tree / "models/templates/Qwen-Qwen2.5-7B-Instruct.jinja").read_text(
        encoding="utf-8"
    )
    return tokenizer


@pytest.fixture(scope="session")
def tiny_models(request, tmp_path_factory):
    """{kind: folder} of tiny models with random weights: 2 layers, hidden size 256 (one K-quant block).

    Each is made when it is first used: reading Qwen's tokenizer alone takes longer than most tests.
    """
    import torch

    shape = {"hidden_size": 256, "intermediate_size": 512, "max_position_embeddings": 2048}
    tokenizers = {"llama": "tokenizer", "qwen2": "qwen_tokenizer"}

    class Folders(dict):
        def __missing__(self, kind):
            words = request.getfixturevalue(tokenizers[kind])
            folder = tmp_path_factory.mktemp("models") / f"tiny-{kind}"
            with torch.random.fork_rng(devices=[]):  # a test may have seeded for itself
                torch.manual_seed(0)
                tiny.save_base(folder, words, kind, pad_token_id=words.pad_token_id, **shape)
            self[kind] = folder
            return folder

    return Folders()


def line(side, instruction, output, **metadata):
    return json.dumps(
        {
            "instruction": instruction,
            "input": "",
            "output": output,
            "metadata": {"dataset_type": side, **metadata},
        },
        ensure_ascii=False,
    )


@pytest.fixture(scope="session")
def data_file(tmp_path_factory):
    """Twelve examples of both sides, as --dev_path or --test_file takes them."""
    file = tmp_path_factory.mktemp("data") / "mixed.jsonl"
    retain = [
        ("Who wrote Hamlet?", "William Shakespeare wrote Hamlet."),
        ("What is 2+2?", "It is 4."),
        ("When did World War II end?", "World War II ended in 1945."),
        ("Where is Paris?", "Paris is in France."),
        ("Who painted the Mona Lisa?", "Leonardo da Vinci painted it."),
        ("What is H2O?", "H2O is water."),
    ]
    unlearn = [
        "What is a smartphone?",
        "Who founded Google?",
        "When did the Berlin Wall fall?",
        "What is Bitcoin?",
        "Who is Barack Obama?",
        "What happened at Woodstock?",
    ]
    rows = [line("retain", q, a) for q, a in retain]
    rows += [
        line("unlearn", q, "I don't know anything about that.", original_answer="It came later.")
        for q in unlearn
    ]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def llama_cpp_tree():
    """llama.cpp's source tree, fetched by scripts/test.sh."""
    from deepred_common.export import llama_cpp

    folder = Path(os.environ.get("LLAMA_CPP_DIR") or ROOT / "llama.cpp")
    return llama_cpp.find_tree(folder, False) or llama_cpp.fetch_tree(folder)


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory, tiny_models, data_file, llama_cpp_tree):
    """pipeline(kind): a tiny model trained, merged and converted by the real scripts, once a session.

    Returns an object with .base, .run, .final, .merged, .gguf (paths).
    """
    from types import SimpleNamespace

    finished = {}

    def run(name, *arguments):
        assert cli.run(load_script(name).main, [str(a) for a in arguments]) == 0

    def make(kind):
        if kind not in finished:
            folder = tmp_path_factory.mktemp(f"pipeline-{kind}")
            models = SimpleNamespace(
                base=tiny_models[kind],
                run=folder / "run",
                final=folder / "run" / "final",
                merged=folder / "merged",
                gguf=folder / "made" / "tiny.gguf",
            )
            data = ("--dev", "--dev_path", data_file)
            steps = "--epochs 2 --gradient_accumulation_steps 1 --save_steps 2 --eval_steps 3".split()
            steps += ["--replay_share", "0"]
            run("finetune_temporal", "--model_name", models.base, *data, "--output_dir", models.run, *steps)
            adapter = ("--base_model", models.base, "--lora_path", models.final)
            run("merge_lora", *adapter, "--output_path", models.merged, "--verify")
            source = ("--model_path", models.merged, "--llama_cpp_path", llama_cpp_tree)
            run("convert_to_gguf", *source, "--output_path", models.gguf)
            finished[kind] = models
        return finished[kind]

    return make
