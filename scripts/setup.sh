# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh, from the top folder: makes .venv and installs requirements.txt in it.
# Each step prints one line with its time; everything it says goes to .venv/setup.log.
# After an interruption or a failure, run the script again: finished steps are skipped.

VENV=.venv
SETUP_LOG=$VENV/setup.log
PIP_INSTALL=("$VENV/bin/python" -m pip install)  # bin/pip may be missing after an interruption
PYTHON=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off

# ---- what the scripts print ---------------------------------------------------------------------------

# Only a terminal gets bold letters and a running clock; pipes and log files get plain lines.
is_terminal() { [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; }
say() { if is_terminal; then printf '\n\033[1m== %s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }

this_script="scripts/$(basename "$0")"
CLOCK=
on_interrupt() {
  stop_clock
  printf '\nInterrupted. Run %s again to continue: finished steps are skipped.\n' "$this_script" >&2
  exit 130
}
# Needed because pip and others turn Ctrl-C into an ordinary error, which would not stop this script.
trap on_interrupt INT

# ---- steps ----------------------------------------------------------------------------------------------

start_clock() {  # LABEL
  is_terminal || return 0
  # `kill -0 $$` ends the clock should this script be killed.
  while sleep 1 && kill -0 $$ 2>/dev/null; do printf '\r%s … %d s' "$1" $((SECONDS - step_started)); done &
  CLOCK=$!
}

stop_clock() {
  [ -n "$CLOCK" ] || return 0
  kill "$CLOCK" 2>/dev/null || true
  wait "$CLOCK" 2>/dev/null || true
  CLOCK=
  printf '\r'
}

# optional_step LABEL COMMAND…: run COMMAND and print one line; return COMMAND's exit status.
optional_step() {
  local label=$1 status=0
  shift
  mkdir -p $VENV
  printf '\n== %s  %s\n$ %s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$label" "$*" >> $SETUP_LOG
  step_log_start=$(wc -c < $SETUP_LOG)
  step_started=$SECONDS
  printf '%s … ' "$label"
  start_clock "$label"
  "$@" < /dev/null >> $SETUP_LOG 2>&1 || status=$?
  stop_clock
  if is_terminal; then printf '%s … ' "$label"; fi  # the clock's line, written over
  if [ $status -eq 0 ]; then
    echo "$((SECONDS - step_started)) s"
  else
    echo "failed after $((SECONDS - step_started)) s"
  fi
  return $status
}

# step_failed ADVICE: print the end of the last step's output and what to do, then exit 1.
step_failed() {
  {
    printf '\nThe last lines of its output:\n'
    tail -c "+$((step_log_start + 1))" $SETUP_LOG | tail -n 15 | cut -c 1-300 | sed 's/^/  /'
    printf '\nerror: set-up stopped; all of the output is in %s.\n%s\n' "$SETUP_LOG" "$1"
  } >&2
  exit 1
}

# step LABEL COMMAND…: run COMMAND, print one line; if it fails, stop here.
step() {
  optional_step "$@" || step_failed "Check the network and the free disk space, \
then run $this_script again: finished steps are skipped."
}

# ---- .venv ------------------------------------------------------------------------------------------------

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }
has_rocm() { [ -e /opt/rocm/.info/version ] || [ -e /dev/kfd ]; }  # the kernel's part
reaches() {  # URL, through the proxy that pip takes too
  "$PYTHON" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$1" 2>/dev/null
}
# has_packages PYTHON < REQUIREMENTS: all of them are installed. It looks at names only, so it takes no time.
has_packages() {
  "$1" -c '
import re, sys
from importlib import metadata
for line in sys.stdin:
    if name := re.match(r"[\w.-]+", line):
        metadata.version(name[0])' 2>/dev/null
}
# An interrupted installation leaves a folder that imports but does nothing, so make a tensor too.
has_torch() { $VENV/bin/python -c 'import torch; torch.ones(1)' 2>/dev/null; }

install_torch() {
  local advice="Install the torch build for it, then run $this_script again:"
  if has_gpu; then
    die "an NVIDIA GPU is here. $advice
  $VENV/bin/pip install torch"
  elif has_rocm; then
    die "an AMD GPU or ROCm is here. $advice
  $VENV/bin/pip install torch --index-url https://download.pytorch.org/whl/rocm6.4
To use the CPU only:
  $VENV/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu"
  fi
  # PyTorch's own index has small CPU builds; if it is out of reach, pip takes what the usual index offers.
  local pip_install=("${PIP_INSTALL[@]}" "$(grep '^torch==' constraints.txt)")
  local index=https://download.pytorch.org/whl/cpu
  if reaches $index/torch/; then pip_install+=(--extra-index-url $index); fi
  step "installing torch for the CPU" "${pip_install[@]}"
}

install_llama_cpp() {
  local pip_install=("${PIP_INSTALL[@]}" --only-binary :all: -c $VENV/constraints.txt) missing=() part
  # Each by itself: there are processors for which only one of them is prebuilt.
  optional_step "installing llama.cpp's quantiser" "${pip_install[@]}" cyllama || missing+=(quantiser)
  optional_step "installing llama.cpp's server" "${pip_install[@]}" xllamacpp || missing+=(server)
  [ ${#missing[@]} -gt 0 ] || return 0
  for part in "${missing[@]}"; do
    echo "No prebuilt $part could be installed. It will be compiled when needed (some minutes)."
  done
  command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1 ||
    die "no C++ compiler. Install g++ (Debian and Ubuntu: apt install g++), then run $this_script again."
  step "installing cmake and ninja" "${PIP_INSTALL[@]}" cmake ninja
}

require_python() {
  command -v "$PYTHON" >/dev/null 2>&1 ||
    die "no $PYTHON. Install Python 3.11 or later (or set PYTHON=/path/to/python)."
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$("$PYTHON" -V) is too old. Install Python 3.11 or later (or set PYTHON=/path/to/python)."
}

# Everything that the four scripts need. A checksum in .venv says what it was made from. Packages can be missing
# all the same, as after an upgrade of Python.
set_up_venv() {
  require_python
  local wanted
  wanted=$(cat requirements.txt constraints.txt | cksum)
  if [ "$(cat $VENV/.deepred-setup 2>/dev/null)" = "$wanted" ] &&
    has_packages $VENV/bin/python < requirements.txt; then
    echo "$VENV is up to date"
    return
  fi

  echo "The full output of each step goes to $SETUP_LOG."
  if ! $VENV/bin/python -m pip --version >/dev/null 2>&1; then
    [ -e $VENV/bin/python ] || rm -f $VENV/bin/python*  # links to a Python that is gone; venv would keep them
    optional_step "making $VENV" "$PYTHON" -m venv $VENV ||
      step_failed "Install Python's venv module (Debian and Ubuntu: apt install python3-venv), \
then run $this_script again."
  fi
  has_torch || install_torch
  # The constraint on torch would replace a GPU build.
  grep -v '^torch==' constraints.txt > $VENV/constraints.txt
  step "installing the packages" "${PIP_INSTALL[@]}" -r requirements.txt -c $VENV/constraints.txt
  install_llama_cpp
  echo "$wanted" > $VENV/.deepred-setup
}
