#!/usr/bin/env bash
# Set up .venv and run the tests. Arguments go to pytest, for instance: scripts/test.sh tests/test_chat.py -k token
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/quickstart.sh --setup-only
VENV=.venv
if ! $VENV/bin/python -c 'import pytest' 2>/dev/null; then
  $VENV/bin/pip install pytest -c $VENV/constraints.txt
fi
export PATH="$PWD/$VENV/bin:$PATH"
# The tests use the embedded base's tokenizer and llama.cpp's converter: made and fetched once, kept.
$VENV/bin/python -m deepred_common.embedded_base
[ -e llama.cpp/convert_hf_to_gguf.py ] || $VENV/bin/python -c 'from deepred_common import llama_cpp, paths; llama_cpp.fetch_tree(paths.ROOT / "llama.cpp")'
exec $VENV/bin/python -m pytest "$@"
