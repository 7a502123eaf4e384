#!/bin/sh
# The whole intervention experiment as a process, massact and the paper's algorithm in PyTorch (intervention.py) side by
# side: massact, PyTorch, massact.  Needs python3 (or $PYTHON) with torch, transformers and gguf.
#   intervention.sh MASSACT MODEL.gguf TOKENIZER.json EVALUATION.txt CALIBRATION.txt
set -eu
massact=$1 model=$2 tokenizer=$3 evaluation=$4 calibration=$5
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT

ours() {
  before=$(date +%s.%N)
  "$massact" run "$here/../../experiments/intervention.lua" --pretrained "$model" --data "$evaluation" --calibration_data "$calibration" \
    --context_length 512 --windows 32 --calibration_windows 16 --mean_windows 32 --save_dir "$out"
  after=$(date +%s.%N)
  echo "massact: $(echo "$after - $before" | bc) s, $(sed 's/.*"peak_memory_bytes": *\([0-9]*\).*/\1/;t;d' "$out"/*/*/results.json) bytes at the peak"
  rm -r "${out:?}"/*
}

ours
before=$(date +%s.%N)
OMP_NUM_THREADS=2 "${PYTHON:-python3}" "$here/intervention.py" "$model" "$tokenizer" "$evaluation" "$calibration"
after=$(date +%s.%N)
echo "PyTorch: $(echo "$after - $before" | bc) s"
ours
