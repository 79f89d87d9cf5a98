"""Files that are nearly JSON Lines: what such a file is, and the command that makes JSON Lines of it.

A file is known by its first bytes, a line that is no JSON by the text around its fault.
"""

from __future__ import annotations

import ast
import codecs
import csv
import io
import itertools
import json
import re
import shlex
import tokenize
import zipfile
from collections.abc import Iterable
from json import JSONDecodeError
from pathlib import Path
from typing import NamedTuple

from deepred_common.cli import UserError

_HEAD = 4096  # bytes of a file that are looked at; more if its first line is longer
_LISTED = 5  # files of a folder or an archive that are named
_SHOWN = 60  # characters of a cell that are shown
# Columns by which the first line of a table is known, and those that belong into an example's metadata.
_COLUMNS = {"instruction", "output", "prompt", "response", "completion", "question", "answer", "input"}
_ROW_KEYS = _COLUMNS | {"messages", "conversations"}
_METADATA_COLUMNS = {"dataset_type", "temporal_class", "accepted_answers", "original_answer", "earliest_date"}
# Columns of lists, which stand in a cell as JSON or as Python writes them.
_LIST_COLUMNS = {"accepted_answers", "later_answers", "replies", "history", "messages", "conversations"}
# A line before a table's header: blank, or the one that tells Excel the separator.
_BEFORE_HEADER = re.compile(r'\s*("?sep=.?"?\s*)?', re.IGNORECASE)
_UNPACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
# UTF-32 first: its mark begins with that of UTF-16.
_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Python that reads the file a. It stands in double quotes: no double quote, dollar sign or exclamation mark.
_TEXT = "open(a,encoding='utf-8-sig')"
# Between two objects. Inside a text a quote has a backslash before it, so that this does not match there.
_OBJECTS = rf"[json.loads(o) for o in re.split(r'(?<=\}})\s*(?=\{{\s*\x22)',{_TEXT}.read().strip())]"


class Form(NamedTuple):
    """What a file is, for "FILE is …", and what to do, as lines."""

    name: str
    to_do: str


def require_json_lines(path: Path) -> None:
    """UserError with what the file is, and what to do, if it begins in a way that shows another form.

    Other faults of a line pass: whoever reads it names the line.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if b"\n" not in head:
                head += file.readline()
    except PermissionError:
        raise UserError(f"no permission to read {path}.") from None
    form = _binary_form(path, head) or _text_form(path, head)
    if form:
        raise UserError(
            f"{path} is {form.name}; a .jsonl file is needed: one JSON object a line.\n{form.to_do}"
        )


def folder_advice(folder: Path) -> str:
    """What to give instead of a folder: its data files, or the command that makes one; "" if it has none."""
    if (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file():
        return _convert(folder, "datasets.load_from_disk(a).to_json(b)", "datasets")
    names = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix in (".jsonl", ".json") or (entry / "state.json").is_file()
    )
    return f"It holds {_listed(names)}." if names else ""


def line_form(path: Path, line: str) -> Form | None:
    """What a line is that is no valid JSON, and what to do, where it is a known form; else None."""
    try:
        json.loads(line)
        return None
    except JSONDecodeError as error:
        fault, rest = error, line[error.pos :].strip()
    except (ValueError, RecursionError):
        return None
    if fault.msg == "Extra data" and rest == ",":
        source = f"[json.loads(l.strip().rstrip(',')) for l in {_TEXT} if l.strip()]"
        return Form("JSON with a comma after the object", _rows(path, source))
    if fault.msg == "Extra data" and rest.startswith("{"):
        return Form("JSON with several objects on a line", _rows(path, _OBJECTS, "re"))
    if not line.lstrip().startswith("{"):
        return None
    if _is_trailing_comma(line, fault.pos):
        # YAML takes all that JSON is, and commas before a bracket.
        source = f"[yaml.safe_load(l) for l in {_TEXT} if l.strip()]"
        return Form("JSON with a comma before a closing bracket", _rows(path, source, "yaml"))
    try:
        is_python = isinstance(ast.literal_eval(line.strip()), dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        is_python = False
    if is_python:
        source = f"[ast.literal_eval(l) for l in {_TEXT} if l.strip()]"
        return Form("Python's dicts, not JSON", _rows(path, source, "ast"))
    return None


def not_utf8_advice(path: Path) -> str:
    """What to do with a file that is not UTF-8: mostly Windows wrote it in its own encoding."""
    return "If Windows wrote it:\n  " + _command(path, _recode("cp1252"))


# ---- recognising -----------------------------------------------------------------------------------------


def _binary_form(path: Path, head: bytes) -> Form | None:
    """The Form of a file whose first bytes are not those of UTF-8 text; None if they are."""
    module = next((name for start, name in _UNPACKERS.items() if head.startswith(start)), None)
    if head[257:262] == b"ustar" or (module and re.search(r"\.(tar\.|t[gbx]z)", path.name)):
        return Form("a tar archive", _unpack(path, "tarfile"))
    if module:
        code = f"t={module}.open(a).read(); open(b,'wb').write(t)"
        return Form(f"compressed ({module})", _convert(path, code, module))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return Form(
            "compressed (zstd)", f"To unpack it:\n  zstd -d {_quoted(path)} -o {_quoted(_target(path))}"
        )
    if head.startswith(b"PK\x03\x04"):
        return _zip_form(path)
    if head.startswith(b"PAR1"):
        return Form(
            "a Parquet file", _rows(path, "pyarrow.parquet.read_table(a).to_pylist()", "pyarrow.parquet")
        )
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Form("an Arrow file", _convert(path, "datasets.Dataset.from_file(a).to_json(b)", "datasets"))
    encoding = _wide_encoding(head)
    if encoding:
        return Form(f"text in {encoding.upper()}", _convert(path, _recode(encoding)))
    if b"\0" in head:
        return Form("a binary file", "Give the file that holds the examples as text.")
    return None


def _zip_form(path: Path) -> Form:
    """The Form of a zip archive, which may be a spreadsheet."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except zipfile.BadZipFile:
        return Form("a zip archive that is not whole", "Fetch it again.")
    if "[Content_Types].xml" in names or "mimetype" in names:
        return Form("a spreadsheet", "Save it as CSV in UTF-8 and give that file; then the command is shown.")
    return Form(f"a zip archive of {_listed(names)}", _unpack(path, "zipfile"))


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, as Python names it, if the bytes are such text; without a mark, every other is 0."""
    for mark, encoding in _WIDE_MARKS.items():
        if head.startswith(mark):
            return encoding
    start = [byte == 0 for byte in head[:8]]
    if start in ([False, True] * 4, [True, False] * 4):
        return "utf-16-be" if start[0] else "utf-16-le"
    return None


def _text_form(path: Path, head: bytes) -> Form | None:
    """The Form of a text whose first line is not that of JSON Lines; None if it is, or may be a mistake."""
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    first, _, rest = text.replace("\r", "\n").partition("\n")
    first = first.strip()
    if text.startswith("version https://git-lfs"):
        return Form("a Git LFS pointer, not the data", "Fetch the data:\n  git lfs pull")
    if text[:15].lower().startswith(("<!doctype html", "<html")):
        return Form(
            "a web page", "Download the file itself; on most pages the link is named Raw or Download."
        )
    if first.startswith("["):
        is_one_of_several = first.endswith("]") and bool(rest.strip())
        return None if is_one_of_several else _json_form(path)
    if not first.startswith("{"):
        return _table_form(path, text)
    return _json_form(path) if _is_part(first, rest) else line_form(path, first)


def _is_part(first: str, rest: str) -> bool:
    """True if the first line is no row: its object goes on in the next lines, or holds the rows in a list."""
    try:
        return _list_key(json.loads(first)) is not None
    except JSONDecodeError as error:
        is_open = error.pos >= len(first)
        return (
            is_open and bool(rest) and (first.endswith(("{", "[", ",")) or not rest.lstrip().startswith("{"))
        )
    except (ValueError, RecursionError):
        return False


def _list_key(value: dict[str, object]) -> str | None:
    """The key under which an object that is no row holds the rows as a list; None if none does."""
    if value.keys() & _ROW_KEYS:
        return None
    for key, rows in value.items():
        # The key is to stand in a command.
        if re.fullmatch(r"\w+", key) and isinstance(rows, list) and rows and isinstance(rows[0], dict):
            return key
    return None


def _json_form(path: Path) -> Form | None:
    """The Form of a file that begins as JSON over several lines, or as a list. It is read whole."""
    try:
        text = path.read_text(encoding="utf-8-sig").lstrip()
        value, end = json.JSONDecoder().raw_decode(text)
    except JSONDecodeError as error:
        name = f"one JSON list or object, and not valid at line {error.lineno} ({error.msg})"
        if not _is_trailing_comma(text, error.pos):
            return Form(name, "Mend that line; then the command that converts it is shown.")
        source = f"yaml.safe_load({_TEXT})"
        return Form(name, _rows(path, source if text.startswith("[") else f"[{source}]", "yaml"))
    except (ValueError, RecursionError):  # not UTF-8, too: whoever reads the file says so
        return None
    if isinstance(value, list):
        return Form("one JSON list", _rows(path, f"json.load({_TEXT})"))
    key = _list_key(value)
    if key:
        if text[end:].strip():  # one of several rows, with keys of its own
            return None
        return Form(f"one JSON object with a list under {key!r}", _rows(path, f"json.load({_TEXT})['{key}']"))
    return Form("JSON with an object over several lines", _rows(path, _OBJECTS, "re"))


class _Header(NamedTuple):
    """A table's header: how many lines stand before it, what stands between its columns, and their names."""

    start: int
    delimiter: str
    columns: set[str]


def _header(path: Path, lines: Iterable[str]) -> _Header | None:
    """The header of a table's lines; None if they are of no table."""
    start, line = next(
        ((n, text) for n, text in enumerate(lines) if not _BEFORE_HEADER.fullmatch(text)), (0, "")
    )
    delimiter = max(",;\t", key=line.count)
    columns = {name.strip('" \r\n').lower() for name in line.split(delimiter)}
    if len(columns) < 2 or not (columns & _COLUMNS or path.suffix.lower() in (".csv", ".tsv")):
        return None
    return _Header(start, delimiter, columns)


def _table_form(path: Path, beginning: str) -> Form | None:
    """The Form of a table with commas, semicolons or tabs between its columns; None if it is none.

    A table is read whole: a sign that is not UTF-8, or a cell that is no list, may stand anywhere.
    """
    if _header(path, io.StringIO(beginning, newline="")) is None:
        return None
    content = path.read_bytes()
    encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        encoding = "cp1252"
        text = content.decode(encoding, errors="replace")
    lines = io.StringIO(text, newline="").readlines()
    header = _header(path, lines)
    if header is None:
        return None
    start, delimiter, columns = header
    kind = "a table (TSV)" if delimiter == "\t" else "a table (CSV)"
    if encoding == "cp1252" and "\ufffd" in text:
        return Form(f"{kind} that is not UTF-8 text", "Save it as CSV in UTF-8; then the command is shown.")
    try:
        parsers = _list_parsers(csv.DictReader(lines[start:], delimiter=delimiter), columns & _LIST_COLUMNS)
    except (ValueError, csv.Error) as error:
        return Form(f"{kind} that cannot be read: {error}", _save_from_pandas(path, columns))
    row = "{**r,'metadata':r}" if columns & _METADATA_COLUMNS else "r"
    cell = "v"
    if parsers:
        shown = ",".join(f"'{column}':{parser}" for column, parser in parsers.items())
        cell = f"{{{shown}}}.get(k,str)(v) if v[:1]=='[' else v"
    modules = "ast,csv" if "ast.literal_eval" in parsers.values() else "csv"
    options = {",": "", ";": ",delimiter=';'", "\t": ",delimiter='\\t'"}[delimiter]
    file = f"open(a,encoding='{encoding}',newline='')" + (f".readlines()[{start}:]" if start else "")
    table = f"csv.DictReader({file}{options})"
    # An empty cell is a missing value.
    source = f"[{row} for t in {table} for r in [{{k:{cell} for k,v in t.items() if v}}]]"
    return Form(kind, _rows(path, source, modules))


def _list_parsers(table: csv.DictReader[str], columns: set[str]) -> dict[str, str]:
    """{column: the function, as Python names it, that reads its lists}, of those `columns` that have lists.

    ValueError if none reads a column. numpy writes a list without commas, and Python takes two texts with
    only a space between them for one.
    """
    cells: dict[str, list[str]] = {}
    for row in table:
        for column in columns & row.keys():
            if row[column] and row[column].startswith("["):
                cells.setdefault(column, []).append(row[column])
    parsers = {}
    for column, texts in sorted(cells.items()):
        if all(map(_is_json, texts)):
            parsers[column] = "json.loads"
            continue
        for text in texts:
            if not _is_python_list(text):
                raise ValueError(f"{text[:_SHOWN]!r} in the column {column!r} is no list with commas")
        parsers[column] = "ast.literal_eval"
    return parsers


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_python_list(text: str) -> bool:
    """True if Python reads a list in which no two texts stand side by side without a comma."""
    try:
        ast.literal_eval(text)
        signs = [sign.type for sign in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return False
    signs = [sign for sign in signs if sign != tokenize.NL]
    return (tokenize.STRING, tokenize.STRING) not in itertools.pairwise(signs)


def _is_trailing_comma(text: str, position: int) -> bool:
    """True if the fault of a JSON text at `position` is a comma before a closing bracket."""
    # Python before 3.13 points behind the comma.
    around = text[max(0, position - 99) : position + 1], text[position : position + 99]
    return bool(re.search(r",\s*[}\]]$", around[0]) or re.match(r",\s*[}\]]", around[1]))


# ---- commands --------------------------------------------------------------------------------------------


def _rows(path: Path, source: str, modules: str = "") -> str:
    """What to do: write each row of `source`, a Python expression of a list, as a line.

    As in all commands, the new file is opened last: where reading fails, no empty one is left.
    """
    code = f"t=[json.dumps(r,default=str)+'\\n' for r in {source}]; open(b,'w').writelines(t)"
    return _convert(path, code, f"json,{modules}".strip(","))


def _recode(encoding: str) -> str:
    return f"t=open(a,encoding='{encoding}').read(); open(b,'w',encoding='utf-8').write(t)"


def _save_from_pandas(path: Path, columns: set[str]) -> str:
    """What to do with a table whose lists can only be had from where it was made."""
    with_metadata = ".assign(metadata=df.to_dict('records'))" if columns & _METADATA_COLUMNS else ""
    return (
        "Save its data as JSON Lines where the table was made; if that was pandas:\n"
        f"  df{with_metadata}.to_json({str(_target(path))!r}, orient='records', lines=True)"
    )


def _convert(path: Path, code: str, modules: str = "") -> str:
    return "To convert it:\n  " + _command(path, code, modules)


def _command(path: Path, code: str, modules: str = "") -> str:
    """The command that runs Python code with a as the file and b as the .jsonl file to write."""
    imports = f"sys,{modules}".strip(",")
    return f'python -c "import {imports}; a,b=sys.argv[1:]; {code}" {_quoted(path)} {_quoted(_target(path))}'


def _unpack(path: Path, module: str) -> str:
    folder = path.with_name(path.name.split(".")[0] + "-unpacked")
    return f"To unpack it:\n  python -m {module} -e {_quoted(path)} {_quoted(folder)}"


def _target(path: Path) -> Path:
    """A name beside `path` for its lines, one that does not exist."""
    stem = Path(re.sub(r"\.(gz|bz2|xz|zst)$", "", path.name)).stem
    target = path.with_name(f"{stem}.jsonl")
    return path.with_name(f"{stem}-lines.jsonl") if target.exists() else target


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
