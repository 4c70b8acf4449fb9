"""The learning curves of a training run: python scripts/plot_training.py RUN_DIR [OUT.png]

Left the losses of each stage, right what is right by head or by family of questions, both as means over a hundredth of
the stage. Needs matplotlib (pip install 'm3video[plots]').
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

LOSSES = ("loss", "answers", "where", "unsaid", "unsaid 1", "unsaid 9", "unsaid 36", "unsaid 144", "unsaid 576")
NOT_SHOWN = ("stage", "step", "seconds", "false facts")
STAGES = ("vision", "decoder", "align", "joint", "finetune")


def smooth(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and means of a metric over a hundredth of the stage each."""
    known = [(row["step"], row[key]) for row in rows if key in row]
    size = max(1, len(known) // 100)
    groups = [known[i : i + size] for i in range(0, len(known), size)]
    return [g[-1][0] for g in groups], [sum(value for _, value in g) / len(g) for g in groups]


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Reports by stage. Where a killed run went on, the reports that it made again replace the lost ones."""
    by_stage: dict[str, dict[int, dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        kept = by_stage.setdefault(row["stage"], {})
        for step in [step for step in kept if step >= row["step"]]:
            del kept[step]
        kept[row["step"]] = row
    return {stage: list(rows.values()) for stage, rows in by_stage.items()}


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    run_dir = Path(sys.argv[1])
    metrics = run_dir / "metrics.jsonl"
    if not metrics.is_file():
        sys.exit(f"{metrics} is not there: name the --run-dir of m3video train")
    stages = read(metrics)
    names = [name for name in STAGES if name in stages]
    figure, axes = plt.subplots(len(names), 2, figsize=(15, 4.2 * len(names)), squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        rows = stages[name]
        keys = {key for row in rows for key in row} - set(NOT_SHOWN)
        for number, key in enumerate(sorted(keys)):
            axis = left if key in LOSSES else right
            axis.plot(*smooth(rows, key), label=key, linewidth=1.3, linestyle=("-", "--", ":")[number // 10 % 3])
        left.set(title=f"{name}: loss", xlabel="step", yscale="log")
        right.set(title=f"{name}: share right", xlabel="step", ylim=(-0.02, 1.02))
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.set_visible(bool(axis.lines))
            if axis.lines:
                axis.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    out = Path(sys.argv[2]) if len(sys.argv) == 3 else run_dir / "curves.png"
    figure.savefig(out, dpi=80)
    print(out)


if __name__ == "__main__":
    main()
