"""The newest checkpoint of a run becomes an ordinary folder with the weights that were trained."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from m3video.errors import CheckpointError, UsageError
from m3video.evaluation.natural import run_folder
from m3video.evaluation.natural.clips import find_clips
from m3video.evaluation.natural.run_folder import newest_checkpoint, write_run
from m3video.model.m3 import checkpoint
from m3video.model.m3.conv_tower import EfficientNetLiteConfig, EfficientNetLiteModel
from m3video.model.m3.small_base import BasePlace
from m3video.model.m3.small_part import base_digests
from m3video.training.finetune import TrainedParameters
from m3video.training.natural import train_small
from m3video.training.natural.low_rank import STRENGTH, LowRankLinear, add_low_rank
from m3video.training.natural.start import build_small
from m3video.training.pretrained_tower import TowerHead, with_head
from tests.model import tiny_base
from tests.model.tiny import conv_settings

RANK, WIDTH = 2, 24


def tower() -> EfficientNetLiteModel:
    config = conv_settings()["vision_config"]
    assert isinstance(config, EfficientNetLiteConfig)
    torch.manual_seed(4)
    return EfficientNetLiteModel(config).eval()


def head() -> TowerHead:
    torch.manual_seed(5)
    return TowerHead(torch.randn(20, 12), torch.randn(20), torch.randn(3, 20), torch.randn(3))


def test_what_was_trained_is_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, run_dir, out = tmp_path / "base", tmp_path / "run", tmp_path / "out"
    for folder in (base, run_dir, out):
        folder.mkdir()
    tiny_base.save_folder(base)
    model = build_small(base, with_head(tower(), head()), projector_width=WIDTH)
    add_low_rank(model, RANK)
    torch.manual_seed(2)
    for parameter in TrainedParameters(model).parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    state = {"module": TrainedParameters(model).state_dict(), "optimizers": [], "step": 7}
    torch.save(state, run_dir / "pictures.pt")
    (run_dir / "recipe.json").write_text(json.dumps({"rank": RANK, "projector_width": WIDTH, "of a later time": 1}))
    accepted = [{"name": "tiny", "of": "tensors", "digest": base_digests(base)["tensors"]}]
    monkeypatch.setattr(train_small, "ACCEPTED_BASES", accepted)
    monkeypatch.setattr(run_folder, "load_pretrained_tower", lambda: (tower(), head()))
    assert write_run(run_dir, out, base=BasePlace(base)) == "pictures.pt, step 7"
    loaded = checkpoint.load(str(out), device="cpu", dtype="float32")
    own, found = dict(model.named_modules()), dict(loaded.model.named_modules())
    updated = [name for name, module in own.items() if isinstance(module, LowRankLinear)]
    assert len(updated) == 14
    for name in updated:
        trained = own[name]
        assert isinstance(trained, LowRankLinear)
        expected = trained.weight.float() + STRENGTH * trained.lora_B @ trained.lora_A
        assert torch.allclose(found[name].weight, expected, atol=0.02)
        assert not torch.allclose(found[name].weight, trained.weight.float(), atol=0.02)
    projector = "model.multi_modal_projector.linear_2"
    assert torch.allclose(found[projector].weight, own[projector].weight, atol=1e-3)
    (run_dir / "recipe.json").write_text(json.dumps({"rank": RANK + 1, "projector_width": WIDTH}))
    with pytest.raises(CheckpointError, match="no weights of this recipe"):
        write_run(run_dir, out, base=BasePlace(base))


def test_the_newest_checkpoint_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint to measure yet"):
        newest_checkpoint(tmp_path)
    for seconds, name in ((10, "reels.pt"), (20, "pictures.pt"), (30, "words.pt")):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (seconds, seconds))
    assert newest_checkpoint(tmp_path).name == "pictures.pt"  # started over: what is left of reels is older
    with pytest.raises(UsageError, match="holds no video"):
        find_clips([tmp_path])
