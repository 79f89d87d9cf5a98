"""The shape of the library: which room may import which, no circle, and a size that a newcomer can read."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

LIBRARY = ROOT / "deepred_common"
# Every room may import the files at the root, and what stands here.
MAY_IMPORT = {
    "reporting": {"evaluation"},
    "evaluation": {
        "inference",
        "judging",
        "data.data_lines",
        "data.facts",
        "data.questions",
        "data.split",
        "data.wrappings",
    },
    "inference": {"export.gguf_file", "export.llama_cpp", "models"},
    "export": {"models"},
    "training": {"models", "inference.conversations", "inference.local_model"},
    "data": {"judging"},
    "judging": set(),
    "models": set(),
}
SCRIPTS_DIR = ROOT / "scripts"


def name_of(path: Path) -> str:
    """`data.facts` of deepred_common/data/facts.py."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """The modules of the library that a file imports, at its top or in a function."""
    modules = set()
    known = {name_of(file) for file in LIBRARY.rglob("*.py")}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deepred_common":
            base = node.module.removeprefix("deepred_common").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".removeprefix(".")
                modules.add(full if full in known else base)
        assert not isinstance(node, ast.Import) or not any(
            a.name.startswith("deepred_common") for a in node.names
        ), path
    return modules


IMPORTS = {name_of(file): imports_of(file) for file in LIBRARY.rglob("*.py") if file.name != "__init__.py"}


def test_rooms_import_only_what_stands_to_their_right():
    for module, imported in IMPORTS.items():
        room = module.partition(".")[0] if "." in module else None
        for other in imported:
            if "." not in other or other.partition(".")[0] == room:
                continue
            assert room is not None, f"{module} stands at the root and imports {other}"
            allowed = MAY_IMPORT[room]
            assert other in allowed or other.partition(".")[0] in allowed, f"{module} imports {other}"


def test_every_room_is_known():
    rooms = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)


def test_no_module_imports_itself_in_a_circle():
    list(TopologicalSorter(IMPORTS).static_order())


def test_the_library_does_not_import_scripts():
    for path in LIBRARY.rglob("*.py"):
        assert "import scripts" not in path.read_text(
            encoding="utf-8"
        ) and "from scripts" not in path.read_text(encoding="utf-8")
