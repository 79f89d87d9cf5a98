#!/usr/bin/env bash
# From a fresh clone to a GGUF file: sets up .venv, then runs the four scripts on the embedded small model.
# Run it again at any time: what is done is skipped, an interrupted training goes on.
#
#   scripts/quickstart.sh                the whole pipeline (about a quarter of an hour on two CPU cores)
#   scripts/quickstart.sh --setup-only   only .venv and what is installed in it
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }
# Print a command as the user could type it, then run it.
run() { printf '\n$ %s\n' "${*//$VENV\/bin\//}"; "$@"; }

VENV=.venv
PYTHON=${PYTHON:-python3}
TORCH=$(grep '^torch==' constraints.txt)
STAGES=()
stage_started=$SECONDS
stage() { STAGES+=("$(printf '%-28s %4d s' "$1" $((SECONDS - stage_started)))"); stage_started=$SECONDS; }

# ---- set-up -----------------------------------------------------------------------------------------------------------

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }
reaches() { "$PYTHON" -c 'import socket, sys; socket.create_connection((sys.argv[1], 443), 5)' "$1" 2>/dev/null; }
has_rocm() { [ -e /opt/rocm/.info/version ]; }

setup() {
  command -v "$PYTHON" >/dev/null 2>&1 || die "no $PYTHON; install Python 3.10 or later (or set PYTHON=/path/to/python)"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$("$PYTHON" -V) is too old; Python 3.10 or later is needed (set PYTHON=…)"
  local wanted; wanted=$(cat requirements.txt constraints.txt | cksum)
  if [ "$(cat $VENV/.deepred-setup 2>/dev/null)" = "$wanted" ]; then echo "$VENV is up to date"; return; fi

  [ -x $VENV/bin/python ] || { say "Making $VENV"; "$PYTHON" -m venv $VENV || die "python venv failed; on Debian and Ubuntu: apt install python3-venv"; }
  if ! $VENV/bin/python -c 'import torch' 2>/dev/null; then
    if has_gpu; then
      die "an NVIDIA GPU is here. Install the torch build for it, then run this again:  $VENV/bin/pip install torch"
    elif has_rocm; then
      die "ROCm $(cat /opt/rocm/.info/version) is here. Install the torch build for it, then run this again:
  $VENV/bin/pip install torch --index-url https://download.pytorch.org/whl/rocm6.4"
    fi
    say "Installing torch for the CPU"
    # PyTorch's own index has small CPU builds; out of its reach pip takes what the usual index offers.
    local index=()
    reaches download.pytorch.org && index=(--extra-index-url https://download.pytorch.org/whl/cpu)
    run $VENV/bin/pip install "$TORCH" "${index[@]}"
  fi
  say "Installing the packages"
  # The constraint on torch would replace a GPU build.
  grep -v '^torch==' constraints.txt > $VENV/constraints.txt
  run $VENV/bin/pip install -r requirements.txt -c $VENV/constraints.txt
  say "Installing llama.cpp's quantiser and server, prebuilt (compiling them takes about 20 minutes on two cores)"
  if ! run $VENV/bin/pip install --only-binary :all: cyllama xllamacpp -c $VENV/constraints.txt; then
    echo "no prebuilt ones for this machine: they will be compiled."
    command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1 ||
      die "a C++ compiler is needed for that; install g++ (Debian and Ubuntu: apt install g++) and run this again"
    run $VENV/bin/pip install cmake ninja
  fi
  echo "$wanted" > $VENV/.deepred-setup
}

say "Set-up"
setup
stage "set-up"
[ "${1:-}" = "--setup-only" ] && exit 0
[ $# -eq 0 ] || die "unknown argument $1; the only one is --setup-only"

# ---- the pipeline -------------------------------------------------------------------------------------------------------

export PATH="$PWD/$VENV/bin:$PATH"
PY=$VENV/bin/python
BASE=output/base/SmolLM2-135M-Instruct
OUT=output/quickstart
RUN=$OUT/run
MERGED=$OUT/merged
GGUF=$OUT/temporal.gguf
NAME=temporal/temporal
mkdir -p $OUT

# fresh TARGET SOURCE: TARGET is there and not older than what it was made from.
fresh() { [ -e "$1" ] && [ ! "$2" -nt "$1" ] && echo "$1 is there; skipped"; }

# The same for results, which must also be complete, of this version's form, and of these validation lines.
fresh_results() {
  [ ! -e "${1%.json}.replies.jsonl" ] && grep -q '"schema": 2' "$1" 2>/dev/null && [ ! datasets/retain/retain_val.jsonl -nt "$1" ] &&
    [ ! datasets/unlearn/unlearn_val.jsonl -nt "$1" ] && fresh "$1" "$2"
}

say "The base model"
[ -e $BASE/config.json ] && echo "$BASE is there; skipped" || run $PY -m deepred_common.models.embedded_base
stage "base model"

say "1. Fine-tune"
run $PY scripts/finetune_temporal.py --dev --model_name $BASE --output_dir $RUN --resume_latest \
  --epochs 4 --learning_rate 6e-4 --batch_size 8 --gradient_accumulation_steps 1 --save_steps 50
stage "fine-tune"

say "2. Merge"
fresh $MERGED/config.json $RUN/final/adapter_model.safetensors ||
  run $PY scripts/merge_lora.py --base_model $BASE --lora_path $RUN/final --output_path $MERGED --verify --overwrite
stage "merge"

# 8 bits: the default, q4_k_m, costs this small model 10 points of what it kept.
say "3. Convert to GGUF"
fresh $GGUF $MERGED/config.json ||
  run $PY scripts/convert_to_gguf.py --model_path $MERGED --output_path $GGUF --quant_type q8_0 --yes --overwrite
stage "llama.cpp and GGUF"

say "4. Evaluate on the validation lines: the untouched base, the merged model, and the GGUF through a server"
fresh_results $OUT/base.json $BASE/config.json ||
  run $PY scripts/evaluate_temporal.py --model_path $BASE --max_tokens 64 --output $OUT/base.json --overwrite --resume
stage "evaluate the base"
fresh_results $OUT/merged.json $MERGED/config.json ||
  run $PY scripts/evaluate_temporal.py --model_path $MERGED --max_tokens 64 --output $OUT/merged.json --baseline $OUT/base.json --overwrite --resume
stage "evaluate the merged model"
if ! fresh_results $OUT/gguf.json $GGUF; then
  if ! $PY -c 'import xllamacpp' 2>/dev/null && ! [ -x llama.cpp/build/bin/llama-server ] && ! command -v llama-server >/dev/null; then
    run $PY -c "from deepred_common.export import llama_cpp; llama_cpp.build('llama.cpp', 'llama-server', '$OUT/llama-server.log')"
  fi
  PORT=$($PY -c 'from deepred_common.inference.llama_server import free_port; print(free_port())')
  printf '\n$ python -m deepred_common.inference.llama_server %s --port %s --alias %s &\n' $GGUF "$PORT" $NAME
  $PY -m deepred_common.inference.llama_server $GGUF --port "$PORT" --alias $NAME > $OUT/server.log 2>&1 &
  SERVER=$!
  trap 'kill $SERVER 2>/dev/null || true' EXIT
  until (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do
    kill -0 $SERVER 2>/dev/null || { tail -3 $OUT/server.log >&2; die "the server did not start; see $OUT/server.log"; }
    sleep 0.2
  done
  run $PY scripts/evaluate_temporal.py --use_lmstudio --lmstudio_url "http://127.0.0.1:$PORT/v1" --lmstudio_model $NAME \
    --max_tokens 64 --output $OUT/gguf.json --baseline $OUT/base.json --report $OUT/gguf.html --overwrite --resume
  kill $SERVER || true; trap - EXIT
fi
stage "evaluate the GGUF"

# ---- what came of it ----------------------------------------------------------------------------------------------------

say "Done"
$PY - $OUT <<'PYTHON'
import sys
from pathlib import Path
from deepred_common import paths
from deepred_common.evaluation import results_file

out = Path(sys.argv[1])
found = {name: results_file.read(out / f"{name}.json") for name in ("base", "merged", "gguf")}
read = {name: one["summary"] for name, one in found.items()}
print(f"{'On the validation lines':<46}{'base':>8}{'merged':>8}{'GGUF':>8}")
for key, label in (("unlearn_success_rate", "after the cutoff, refused"), ("false_refusal_rate", "before the cutoff, refused (should be 0)"),
                   ("retain_accuracy", "before the cutoff, answered correctly")):
    print(f"  {label:<44}" + "".join(f"{read[name][key]:>7.1f}%" for name in read))
kept = {name: found[name]["baselines"][0]["against"]["retention"] for name in ("merged", "gguf")}
print(f"  {'of what the base knew, still correct':<44}{'':>8}" + "".join(
    f"{100 * k['count'] / max(1, k['known']):>7.1f}%" for k in kept.values()))
folder = paths.lmstudio_models_dir() / "local" / "temporal"
print(f"""
  adapter       {out}/run/final
  merged model  {out}/merged
  GGUF          {out}/temporal.gguf
  results       {out}/base.json, merged.json, gguf.json
  report        {out}/gguf.html (open it in a browser)

To chat with it in LM Studio:
  mkdir -p {folder} && cp {out}/temporal.gguf {folder}/
  lms load "temporal/temporal"
Or serve it here, without LM Studio (OpenAI-compatible, port 1234):
  .venv/bin/python -m deepred_common.inference.llama_server {out}/temporal.gguf""")
PYTHON
printf '\nTime per stage:\n'; printf '  %s\n' "${STAGES[@]}"; printf '  %-28s %4d s\n' "in all" $SECONDS
