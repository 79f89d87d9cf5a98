"""llama.cpp itself: find its source tree, fetch it, and build what is needed of it.

The converter (convert_hf_to_gguf.py) comes with a source tree. The quantiser is llama-quantize from a build,
or the same code prebuilt in the cyllama package, which saves ten minutes of compiling. Nothing of llama.cpp's
own requirements is installed: they pin older versions of torch and transformers than training uses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepred_common import devices
from deepred_common.cli import UserError, progress
from deepred_common.export import tool_runner
from deepred_common.files import require_writable_parent, whole_folder
from deepred_common.models import pypi_files
from deepred_common.paths import from_environment, shown

# The revision that the tests last passed with; the source package below holds the same one.
REVISION = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
SOURCE_PACKAGE = "llama-cpp-python==0.3.36"
SOURCE_PACKAGE_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
CONVERTER = "convert_hf_to_gguf.py"
# A stalled connection must not hang the user: below 1 kB/s for 15 s git gives up.
GIT_OPTIONS = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=15")
BUILD_FOLDERS = ("build/bin", "build/bin/Release", ".")
BUILD_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
)


def _is_tree(folder: Path) -> bool:
    # Since llama.cpp #17114 the converter is only a front to its conversion/ package: alone it fails.
    return (folder / CONVERTER).is_file() and (folder / "conversion").is_dir()


def find_tree(folder: str | Path, named_by_user: bool) -> Path | None:
    """The llama.cpp source tree at `folder`, else at $LLAMA_CPP_DIR; None if there is neither.

    named_by_user: the user gave `folder`: $LLAMA_CPP_DIR is ignored, and anything else there is a UserError.
    """
    folder = Path(folder)
    if _is_tree(folder):
        return folder.resolve()
    if folder.exists() and (named_by_user or any(folder.iterdir())):
        raise UserError(
            f"{folder} is no usable llama.cpp tree: {CONVERTER} and conversion/ must both be in it.\n"
            f"Remove it to let this script fetch revision {REVISION[:10]}, or give another --llama_cpp_path."
        )
    tree = None if named_by_user else from_environment("LLAMA_CPP_DIR")
    if tree is None:
        return None
    if not _is_tree(tree):
        raise UserError(
            f"LLAMA_CPP_DIR is {tree}, which is no usable llama.cpp tree ({CONVERTER}, conversion/)."
        )
    return tree.resolve()


def fetch_tree(folder: str | Path) -> Path:
    """Put llama.cpp's source at `folder`, whole or not at all, and return its path.

    A git clone of REVISION; where GitHub cannot be reached, the same tree out of a pinned source package.
    UserError if both fail.
    """
    folder = Path(folder)
    require_writable_parent(folder)
    with whole_folder(folder) as temporary:
        progress(f"cloning llama.cpp at {REVISION[:10]} from {tool_runner.REPOSITORY} …")
        failure = _clone(temporary)
        if failure:
            progress(
                f"that failed ({failure}); unpacking it from the source package {SOURCE_PACKAGE} (77 MB) …"
            )
            _unpack_source_package(temporary)
        if not _is_tree(temporary):
            raise UserError(
                f"the fetched tree has no {CONVERTER} with conversion/; llama.cpp's layout has changed."
            )
    return folder.resolve()


def _clone(folder: Path) -> str | None:
    """Clone REVISION into the empty `folder`; None, or the reason why it failed."""
    if not shutil.which("git"):
        return "git is not installed"
    for step in (
        ["init", "-q"],
        ["fetch", "-q", "--depth", "1", tool_runner.REPOSITORY, REVISION],
        ["checkout", "-q", "FETCH_HEAD"],
    ):
        done = subprocess.run(
            ["git", "-C", str(folder), *GIT_OPTIONS, *step],
            capture_output=True,
            text=True,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
        )
        if done.returncode:
            shutil.rmtree(folder / ".git", ignore_errors=True)
            return (done.stderr.strip().splitlines() or ["git failed"])[-1]
    return None


def _unpack_source_package(folder: Path) -> None:
    inside = re.compile(r"[^/]+/vendor/llama\.cpp/(.+)")
    with tempfile.TemporaryDirectory() as downloads:
        archive = pypi_files.fetch(
            SOURCE_PACKAGE, SOURCE_PACKAGE_SHA256, downloads, "source", "llama.cpp's source"
        )
        with tarfile.open(archive) as tar:
            for member in tar:
                match = inside.fullmatch(member.name)
                if match and match[1] != ".git":
                    member.name = match[1]
                    tar.extract(member, folder, filter="data")


def find_tool(tree: Path | None, name: str, *more_trees: Path | None) -> Path | None:
    """A built llama.cpp program (`llama-quantize`, `llama-server`): in a tree, else on PATH; or None.

    Of the trees the first that has it counts. A program needs no converter, so a build alone will do.
    """
    for folder in filter(None, (tree, *more_trees)):
        for place in BUILD_FOLDERS:
            for suffix in ("", ".exe"):
                candidate = Path(folder) / place / (name + suffix)
                if candidate.is_file() and os.access(candidate, os.X_OK):
                    return candidate
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def require_build_tools(programs: Sequence[str], instead: str = "") -> None:
    """UserError unless cmake and a C++ compiler, which building `programs` needs, are installed.

    instead: what else to do, as a sentence.
    """
    missing = []
    if not shutil.which("cmake"):
        missing.append("cmake")
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        missing.append("a C++ compiler")
    if missing:
        raise UserError(
            f"{' and '.join(programs)} must be built, and {' and '.join(missing)} cannot be found.\n"
            f"Install what is missing: pip install cmake; g++ from the system's packages.{instead}"
        )


def architectures(tree: Path) -> set[str]:
    """The architecture names ("LlamaForCausalLM") that the tree's converter knows.

    Its sources are read, not run: running them takes seconds.
    """
    text = "".join(file.read_text(encoding="utf-8") for file in (tree / "conversion").glob("*.py"))
    names = set()
    for arguments in re.findall(r"ModelBase\.register\(([^)]*)\)", text):
        names.update(re.findall(r'"([^"]+)"', arguments))
    return names


def require_architecture(tree: Path, config: Mapping[str, Any]) -> None:
    """UserError if the tree's converter does not know the architecture that a model's config.json names."""
    known = architectures(tree)
    own = (config.get("architectures") or ["(none named in config.json)"])[0]
    if known and own not in known:
        raise UserError(
            f"llama.cpp in {shown(tree)} does not know the architecture {own} (it knows {len(known)}).\n"
            f"{tool_runner.GET_NEWER}"
        )


def build(tree: str | Path, target: str, log: str | Path) -> Path:
    """Build one program of llama.cpp and return its path; about five minutes on two free cores for the first.

    UserError if it cannot be built.
    """
    require_build_tools([target])
    folder = Path(tree) / "build"
    configure = ["cmake", "-S", str(tree), "-B", str(folder), *BUILD_OPTIONS]
    if shutil.which("ninja") and not (folder / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja"]
    tool_runner.run_logged(configure, log, "configuring llama.cpp")
    make = ["cmake", "--build", str(folder), "--config", "Release", "--target", target]
    make += ["--parallel", str(devices.usable_cpus())]
    tool_runner.run_logged(make, log, f"building {target} (once)")
    built = find_tool(Path(tree), target)
    if built is None:
        raise UserError(f"building {target} ended without the program; see {log}")
    return built
