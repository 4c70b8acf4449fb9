#!/usr/bin/env bash
# Every accuracy figure of the README and the model card, again, from the shipped weights: bash scripts/reproduce_claims.sh [SEED]
# Writes runs/claims-SEED/: matrix.txt (task family x scale) and the method table of `m3video eval footage` with its plots.
# The matrix takes minutes and starts over when killed; the method table, up to a minute a clip on one core, goes on.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" plots
seed="${1:-1}"
out="runs/claims-$seed"
mkdir -p "$out"
say "task family x scale, on frames and H.264 files that no training has seen"
.venv/bin/python scripts/eval_bundled.py --seed "$seed" | tee "$out/matrix.part"
mv "$out/matrix.part" "$out/matrix.txt"
say "methods at equal tokens"
.venv/bin/m3video eval footage --seed "$seed" --plots --out "$out/footage" | tee "$out/methods.part"
mv "$out/methods.part" "$out/methods.txt"
say "written to $out"
