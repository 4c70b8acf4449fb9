#!/usr/bin/env bash
# Everything that must hold before a change lands: lint, format, types, tests. Needs no GPU and no network at test time.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" test

say "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
say "mypy"
.venv/bin/mypy
say "pytest"
# Side by side, and each with one thread: on busy cores two threads that wait for each other take longer than one.
# Files go out in the order of tests/conftest.py, those that take long first, and not by how many tests they hold.
# One more than there are cores: some tests wait most of their time, for Ray, for a deadline, for a process to end.
workers=$(($(getconf _NPROCESSORS_ONLN) + 1))
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv/bin/pytest -n "$workers" --maxprocesses 4 --no-loadscope-reorder "$@"
