#!/usr/bin/env bash
# Set up .venv and run the tests. Arguments go to pytest, for instance: scripts/test.sh tests/test_chat.py -k token
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/quickstart.sh --setup-only
VENV=.venv
if ! $VENV/bin/python -c 'import pytest' 2>/dev/null; then
  $VENV/bin/pip install pytest -c $VENV/constraints.txt
fi
# People load merged models with transformers 4 as well: a second environment, which borrows the first one's torch.
OLD=$VENV/transformers4
if [ ! -e $OLD/.ready ]; then
  $VENV/bin/python -m venv $OLD
  $OLD/bin/pip install transformers==4.57.6 jinja2
  $VENV/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$($OLD/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz-torch.pth"
  touch $OLD/.ready
fi
export PATH="$PWD/$VENV/bin:$PATH"
# The tests use the embedded base's tokenizer and llama.cpp's converter: made and fetched once, kept.
$VENV/bin/python -m deepred_common.models.embedded_base
[ -e llama.cpp/convert_hf_to_gguf.py ] || $VENV/bin/python -c 'from deepred_common import paths; from deepred_common.export import llama_cpp; llama_cpp.fetch_tree(paths.ROOT / "llama.cpp")'
exec $VENV/bin/python -m pytest "$@"
