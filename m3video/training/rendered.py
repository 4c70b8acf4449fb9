"""The rendered model from scratch: its sizes, its stages in order (vision, decoder, align, joint), and its export."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig

from m3video.errors import UsageError
from m3video.model.m3.checkpoint import find_device
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration, without_progress_bars
from m3video.training.decoder import train_decoder
from m3video.training.features import load_features, make_features
from m3video.training.joint import train_joint, train_projector
from m3video.training.loop import million_parameters, say
from m3video.training.recipe import ScratchRecipe, load_scratch_recipe
from m3video.training.vision import train_vision
from m3video.training.words import BOS, EOS, IMAGE, PAD, save_tokenizer, vocabulary
from m3video.utils.files import prepare_folder

PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 336},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 336, "width": 336},
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def build_model(recipe: ScratchRecipe) -> M3VideoForConditionalGeneration:
    """Return a model of the recipe's sizes, in the classes of a 7B checkpoint, with random weights set by its seed."""
    words, sizes = vocabulary(), recipe.sizes
    ids = {word: words.index(word) for word in (BOS, EOS, PAD, IMAGE)}
    vision = CLIPVisionConfig(
        hidden_size=sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        intermediate_size=sizes.vision_mlp,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        hidden_size=sizes.decoder_width,
        num_hidden_layers=sizes.decoder_layers,
        num_attention_heads=sizes.decoder_heads,
        num_key_value_heads=sizes.decoder_heads,
        intermediate_size=sizes.decoder_mlp,
        vocab_size=len(words),
        max_position_embeddings=sizes.max_context,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        pad_token_id=ids[PAD],
    )
    config = M3VideoConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids[IMAGE],
        prompt_style="rendered",
        max_context=sizes.max_context,
        origin="trained from nothing on clips rendered by m3video",
    )
    torch.manual_seed(recipe.seed)
    model = M3VideoForConditionalGeneration(config)
    with torch.no_grad():
        # As large as the frames' tokens: a word of the default size would be negligible among them.
        model.get_input_embeddings().weight.normal_(std=0.1)
    return model


def train_rendered(
    config_path: Path, *, run_dir: Path, device: str, smoke: bool, resume: bool, out: Path | None
) -> Path:
    """Train a small M3 from scratch; the arguments are those of `train`."""
    recipe = load_scratch_recipe(config_path, smoke=smoke)
    place = find_device(device)
    check = partial(check_scratch_run, run_dir, recipe)
    prepare_folder(run_dir, recipe.model_dump(mode="json"), resume=resume, check=check)
    model = build_model(recipe).to(place)
    say(f"{million_parameters(model):.1f} million parameters on {place}; checkpoints and metrics.jsonl in {run_dir}")
    train_vision(model, recipe, run_dir, device=place, resume=resume)
    reader = train_decoder(model, recipe, run_dir, device=place, resume=resume)
    say(f"rendering {recipe.cached_shots} shots and their vision features")
    model.eval()
    make_features(model, recipe, run_dir / "features", device=place)
    cache = load_features(recipe, run_dir / "features")
    train_projector(model, reader.symbols, cache, recipe, run_dir, device=place, resume=resume)
    train_joint(model, reader.binder, cache, recipe, run_dir, device=place, resume=resume)
    return export_rendered(model, out or run_dir / "model")


def export_rendered(model: M3VideoForConditionalGeneration, folder: Path) -> Path:
    """Write weights (float16), configuration and tokenizer; other files in the folder stay."""
    folder.mkdir(parents=True, exist_ok=True)
    with without_progress_bars():
        model.to("cpu", torch.float16).save_pretrained(folder)
    save_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8")
    return folder


def check_scratch_run(run_dir: Path, recipe: ScratchRecipe, before: dict[str, Any]) -> None:
    """Raise UsageError unless the run folder belongs to this recipe, lengths of stages aside.

    A finished run resumes when its recipe names more steps.
    """
    if ScratchRecipe.model_validate(before).with_lengths_of(recipe) != recipe:
        raise UsageError(
            f"--run-dir {run_dir} holds a run of another recipe (only lengths of stages may differ): "
            "name a new one, or start over with --fresh"
        )
