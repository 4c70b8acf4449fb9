"""A model that cannot be used is refused within a moment: torch, which takes seconds, is not loaded for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m3video.model.m3.model_paths import RENDERED_FOLDER
from tests import command

SAMPLE = RENDERED_FOLDER.parent / "sample.mp4"
SCRIPT = """
import subprocess
import sys
from m3video import cli
sys.argv[0] = "m3video"
try:
    cli.main()
finally:
    print(sorted({"torch", "transformers", "ray"} & set(sys.modules)))
"""
ASK = ("ask", SAMPLE, "what?")
REFUSED: list[tuple[tuple[object, ...], int, str]] = [
    ((*ASK, "--model", "no/such-folder"), 1, "model (no/such-folder) is no folder here, not in the cache"),
    ((*ASK, "--model", "./no/such-folder"), 1, "model (./no/such-folder) is no folder; name 'small', 'rendered'"),
    ((*ASK, "--model", "nothing"), 1, "model (nothing) is no folder"),
    ((*ASK, "--model", SAMPLE), 1, "is no folder; name 'small', 'rendered'"),
    ((*ASK, "--model", "."), 1, "holds no config.json"),
    ((*ASK, "--model", "lora"), 1, "lora is a LoRA of lmsys/vicuna, no whole model; merge it first: m3video convert"),
    ((*ASK, "--model", "odd"), 1, 'config.json: max_context ("8192") must be a whole number'),
    ((*ASK, "--model", "apart", "--vision-tower", "none"), 1, "--vision-tower (none) is no folder"),
    ((*ASK, "--layout", "grid", "--model", "./none"), 1, "model (./none) is no folder"),
    (("chat", SAMPLE, "--model", "./none"), 1, "model (./none) is no folder"),
    (("summarize", SAMPLE, "--model", "./none"), 1, "model (./none) is no folder"),
    (("plan", SAMPLE, "--memory", "2GiB", "--device", "cpu", "--model", "./none"), 1, "model (./none) is no folder"),
    (("batch", SAMPLE.parent, "--task", "summarize", "-o", "out", "--model", "./none"), 1, "(./none) is no folder"),
    (("tune", SAMPLE, "--questions", "q.jsonl", "--model", "./none"), 1, "model (./none) is no folder"),
    (("eval", "footage", "--model", "./none"), 1, "model (./none) is no folder"),
    (("convert", "./none", "new"), 1, "model (./none) is no folder"),
    (("convert", "lora", "new", "--base", "./none"), 1, "model (./none) is no folder"),
    (("train", "none.yaml"), 2, "config file none.yaml cannot be read: No such file or directory"),
    (("train", "broken.yaml"), 2, "broken.yaml"),
    (("train", "key.yaml"), 2, "key.yaml: unknown key 'ephocs'; did you mean epochs?"),
    (("train", "base.yaml"), 1, "model (./none) is no folder"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands name."""
    made = tmp_path_factory.mktemp("models")
    for name in ("lora", "odd", "apart"):
        (made / name).mkdir()
    (made / "lora" / "adapter_config.json").write_text('{"base_model_name_or_path": "lmsys/vicuna"}')
    rendered = json.loads((RENDERED_FOLDER / "config.json").read_text())
    (made / "odd" / "config.json").write_text(json.dumps({**rendered, "max_context": "8192"}))
    (made / "apart" / "model.safetensors").write_bytes(b"not looked at")
    (made / "apart" / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llava_llama",
                "mm_hidden_size": 1024,
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "vocab_size": 32000,
                "mm_projector_type": "mlp2x_gelu",
            }
        )
    )
    (made / "q.jsonl").write_text('{"question": "is it day", "answer": "yes"}\n')
    (made / "broken.yaml").write_text("base: [")
    data = "data: [{conversations: none.json, files: .}]\n"
    (made / "key.yaml").write_text(f"base: rendered\nephocs: 2\n{data}")
    (made / "base.yaml").write_text(f"base: ./none\n{data}")
    return made


@pytest.mark.parametrize(("arguments", "code", "line"), REFUSED)
def test_it_is_refused_in_one_line_and_before_torch(
    arguments: tuple[object, ...], code: int, line: str, folder: Path
) -> None:
    done = command.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        light=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "80", "PYTHONPATH": str(RENDERED_FOLDER.parents[2])},
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("m3video: error: ")
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == "[]\n"
    assert not (folder / "runs").exists()
