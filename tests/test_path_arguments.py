"""Every path that a user gives, in a flag or in the environment, is expanded once, where it comes in."""

import argparse
import importlib.util
import sys
from pathlib import Path

import pytest
from conftest import ROOT, load_script

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.export import llama_cpp
from deepred_common.inference import llama_server

FILES = [*ROOT.glob("scripts/*.py"), *ROOT.glob("scripts/tools/*.py"), *ROOT.glob("bench/*.py")]
# The others are parts of a command.
COMMANDS = sorted(file for file in FILES if "def main(" in file.read_text(encoding="utf-8"))
# Flags that take a text which is no path. A new one must be named here, or get a type of cli.
TEXTS = {
    *("cutoff", "lmstudio_url", "lmstudio_model", "system_prompt", "judge_url", "judge_model", "revision"),
    *("host", "alias", "run", "probes"),
}


class Parsed(Exception):
    """Carries a command's parser out of its main()."""


@pytest.fixture
def parser_of(monkeypatch):
    """The parser of a command, from its main()."""

    def stop(self, *args, **kwargs):
        raise Parsed(self)

    def call(file):
        monkeypatch.syspath_prepend(file.parent)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, file.stem, module)
        spec.loader.exec_module(module)
        with monkeypatch.context() as patch, pytest.raises(Parsed) as parsed:
            patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
            module.main()
        return parsed.value.args[0]

    return call


def path_actions(parser):
    return [action for action in parser._actions if action.type in (cli.path, cli.model)]


@pytest.mark.parametrize("file", COMMANDS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_path_of_every_command_is_expanded(file, parser_of, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = parser_of(file)
    others = {
        action.dest
        for action in parser._actions
        if action.nargs != 0 and action.type in (None, str, Path) and not action.choices
    }
    assert others <= TEXTS
    for action in path_actions(parser):
        value = parser._get_values(action, ["~/my run/"])
        assert str(value[0] if isinstance(value, list) else value) == str(tmp_path / "my run"), action.dest


def test_the_paths_of_the_four_scripts_are_many(parser_of):
    counts = {"finetune_temporal": 9, "merge_lora": 4, "convert_to_gguf": 4, "evaluate_temporal": 9}
    for name, count in counts.items():
        assert len(path_actions(load_script(name).build_parser())) == count
    assert len(path_actions(llama_server.build_parser())) == 3


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (cli.path, "", "empty text is not a path"),
        (cli.model, "", "empty text is not a path"),
        (cli.path, "~no-such-user/x", "a user who does not exist; for a name with ~ write ./~no-such-user"),
        (cli.path, "file:///tmp/x", "is a URL; give a path on this machine"),
        (cli.model, "https://huggingface.co/Qwen/Qwen3-0.6B", "is a URL; give a hub name"),
    ],
)
def test_what_is_no_path_is_refused_in_words(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        kind(text)


def test_hub_names_and_relative_paths_stay_as_they_are(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("Qwen/Qwen2.5-1.5B-Instruct", "gpt2", "output/base/x", "./x/", "../x"):
        assert cli.model(name) == name
    assert cli.path("a b/é/") == Path("a b/é")
    assert cli.path("./~/x") == Path("~/x")  # a folder of that name


def test_paths_in_the_environment_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    tree = tmp_path / "llama"
    (tree / "conversion").mkdir(parents=True)
    (tree / llama_cpp.CONVERTER).touch()
    monkeypatch.setenv("WIKI_DATA", "~/data/wikipedia")
    monkeypatch.setenv("LLAMA_CPP_DIR", "~/llama")
    assert paths.datasets_dir() == tmp_path / "data/wikipedia/datasets"
    assert paths.lmstudio_models_dir() == tmp_path / "data/lmstudio/models"
    assert llama_cpp.find_tree(tmp_path / "none", named_by_user=False) == tree
    monkeypatch.setenv("WIKI_DATA", "~no-such-user/data")
    with pytest.raises(UserError, match="WIKI_DATA: '~no-such-user/data' names the home folder"):
        paths.datasets_dir()


def test_a_run_below_the_home_folder_is_in_one_place_and_is_resumed(
    script, tiny_models, data_file, monkeypatch, tmp_path
):
    """Also a run in a folder that is itself named ~, which transformers would expand once more."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/base").symlink_to(tiny_models["llama"])
    monkeypatch.chdir(work)
    flags = ["--model_name=~/base", "--dev", "--dev_path", data_file, "--epochs", 1, "--replay_share", 0]
    flags += ["--gradient_accumulation_steps", 1]
    code, out, err = script("finetune_temporal", *flags, "--output_dir=~/run")
    assert code == 0, err
    assert f"--lora_path {tmp_path}/home/run/final" in out and list(work.iterdir()) == []
    assert {"checkpoint-3", "final", "run.json"} <= {file.name for file in (tmp_path / "home/run").iterdir()}
    code, out, err = script("finetune_temporal", *flags, "--output_dir=~/run", "--resume_latest")
    assert code == 0 and "already finished" in out
    code, _, err = script("finetune_temporal", *flags, "--output_dir=./~/run")
    assert code == 0, err
    assert (work / "~/run/checkpoint-3").exists() and (work / "~/run/final").exists()
