#!/usr/bin/env bash
# Set up .venv, then check style and types and run all tests. With arguments, only pytest:
#   scripts/test.sh
#   scripts/test.sh tests/test_chat.py -k token
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

set_up_venv

wanted=$(cat requirements-dev.txt constraints.txt | cksum)
if [ "$(cat $VENV/.deepred-dev 2>/dev/null)" != "$wanted" ] ||
  ! has_packages $VENV/bin/python < requirements-dev.txt; then
  step "installing pytest, ruff and mypy" \
    "${PIP_INSTALL[@]}" -r requirements-dev.txt -c $VENV/constraints.txt
  echo "$wanted" > $VENV/.deepred-dev
fi

# Merged models must load with transformers 4 too: a second environment, which borrows the first one's torch.
OLD=$VENV/transformers4
OLD_PACKAGES=(transformers==4.57.6 "$(grep -i '^jinja2==' constraints.txt)")
if [ "$(cat $OLD/.ready 2>/dev/null)" != "${OLD_PACKAGES[*]}" ] ||
  ! printf '%s\n' "${OLD_PACKAGES[@]}" | has_packages $OLD/bin/python; then
  site_packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
  make_old() {
    $VENV/bin/python -m venv $OLD &&
      $OLD/bin/python -m pip install "${OLD_PACKAGES[@]}" &&
      site_packages $VENV > "$(site_packages $OLD)/zz-torch.pth"
  }
  step "making $OLD" make_old
  echo "${OLD_PACKAGES[*]}" > $OLD/.ready
fi

# The tests use the embedded base's tokenizer and llama.cpp's converter: made and fetched once, kept.
[ -e output/base/SmolLM2-135M-Instruct/config.json ] ||
  step "making the embedded base model" $VENV/bin/python -m deepred_common.models.embedded_base
fetch_llama_cpp='
from deepred_common import paths
from deepred_common.export import llama_cpp
llama_cpp.fetch_tree(paths.ROOT / "llama.cpp")'
[ -e llama.cpp/convert_hf_to_gguf.py ] ||
  step "fetching llama.cpp's source" $VENV/bin/python -c "$fetch_llama_cpp"

export PATH="$PWD/$VENV/bin:$PATH"

if [ $# -eq 0 ]; then
  say "Style and types"
  failed=0
  # All three run, so that one run shows everything there is to correct.
  check() { printf '$ %s\n' "$*"; "$@" || failed=1; }
  check ruff check deepred_common scripts
  check ruff format --check deepred_common scripts
  check mypy
  if [ $failed -ne 0 ]; then
    echo "error: style or types are not right (see above), so no test was run." >&2
    echo "$VENV/bin/ruff check --fix and $VENV/bin/ruff format correct much of it." >&2
    exit 1
  fi
  say "Tests"
fi
exec python -m pytest "$@"
