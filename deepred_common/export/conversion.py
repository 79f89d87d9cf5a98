"""One conversion to a GGUF file: what is asked for, what was read for it, and how the file is made."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepred_common import paths, source_files
from deepred_common.export import gguf_adapter, gguf_check, gguf_split, llama_cpp, quantise
from deepred_common.export.adapter_changes import Change
from deepred_common.export.gguf_file import GgufFile
from deepred_common.files import require_absent
from deepred_common.models import gguf_parts
from deepred_common.models.safetensors_files import Entry
from deepred_common.models.trained_weights import Adapter


@dataclass(frozen=True)
class ConvertSettings:
    """Fields are named like the flags of convert_to_gguf.py, whose help texts explain them."""

    model_path: Path
    output_path: Path
    lora: Path | None
    quant_type: str
    llama_cpp_path: Path
    yes: bool
    keep_f16: bool
    imatrix: bool
    split_max_size: int | None
    verify: bool
    copy_to_lmstudio: bool
    modelfile: bool
    preset: bool
    overwrite: bool

    @property
    def log(self) -> Path:
        """Where the output of llama.cpp's tools goes."""
        return self.output_path.with_name(self.output_path.name + ".log")


@dataclass(frozen=True)
class Conversion:
    """A model on its way to a GGUF file, or an adapter, whose base the model then is.

    sources: the files of both, as they were when they were first read. config, weights: the model's
    config.json and {tensor name: Entry} of its text part. changes: gguf_adapter.read_changes of the adapter.
    """

    settings: ConvertSettings
    sources: Mapping[Path, source_files.Stamp]
    config: Mapping[str, Any]
    weights: Mapping[str, Entry]
    adapter: Adapter | None
    changes: Mapping[str, Change]

    def require_tools(self, tree: Path) -> None:
        """UserError if llama.cpp in `tree` does not know the model, or cannot do what is asked for."""
        llama_cpp.require_architecture(tree, self.config)
        if self.adapter:
            gguf_adapter.require_converter(tree)
        else:
            quantise.require_tools(tree, self.settings.quant_type, self.settings.imatrix)

    def write(self, tree: Path) -> list[Path]:
        """Write the GGUF file, compared with its source before it appears; return its parts, or itself.

        Prints what is the same in both. UserError if something differs: then the file is not kept.
        """
        settings = self.settings
        with gguf_split.whole_or_parts(settings.output_path, settings.split_max_size) as output:
            # Another run may have ended meanwhile.
            require_absent(gguf_parts.first(settings.output_path), settings.overwrite)
            settings.log.unlink(missing_ok=True)
            if self.adapter:
                compared = self._write_adapter(self.adapter, tree, output)
            elif settings.quant_type in quantise.DIRECT_TYPES:
                quantise.convert(tree, settings.model_path, output, settings.quant_type, settings.log)
                compared = self._compared(GgufFile(output))
            else:
                compared = self._write_quantised(tree, output)
            source_files.require_unchanged(self.sources)
        print(f"GGUF{' adapter' if self.adapter else ''}: {paths.shown(settings.output_path)} {compared}")
        files = gguf_parts.written(settings.output_path)
        if len(files) > 1:
            print(f"Split into {len(files)} parts; the first loads all: {paths.shown(files[0])}")
        return files

    def _write_adapter(self, adapter: Adapter, tree: Path, output: Path) -> str:
        base, kind = self.settings.model_path, self.settings.quant_type
        gguf_adapter.convert(tree, adapter.folder, base, output, kind, self.settings.log)
        return gguf_adapter.require_same(GgufFile(output), adapter, self.changes, self.config)

    def _write_quantised(self, tree: Path, output: Path) -> str:
        settings, model, log = self.settings, self.settings.model_path, self.settings.log
        with (
            quantise.half_precision(model, settings.output_path, settings.keep_f16, tree, log) as half,
            tempfile.TemporaryDirectory() as scratch,
        ):
            imatrix = None
            if settings.imatrix:
                text, imatrix = Path(scratch) / "calibration.txt", Path(scratch) / "imatrix.gguf"
                text.write_text(quantise.calibration_text(model), encoding="utf-8")
                quantise.importance_matrix(tree, half, text, imatrix, log)
            quantise.quantize(tree, half, output, settings.quant_type, log, imatrix)
            file = GgufFile(output)
            return f"{self._compared(file)}\n{gguf_check.quantisation_errors(file, GgufFile(half))}"

    def _compared(self, file: GgufFile) -> str:
        return gguf_check.require_same(file, self.settings.model_path, self.config, self.weights)
