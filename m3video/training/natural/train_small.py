"""`small` from its pretrained parts: features once, the stages in order, and the folder that the package ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import ValidationError
from transformers import LlamaConfig

from m3video.errors import UsageError
from m3video.model.m3.checkpoint import find_device
from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.picture_format import picture_format
from m3video.model.m3.small_base import ACCEPTED_BASES, BasePlace, base_of_hub, bases_here
from m3video.model.m3.small_part import as_folder, write_part
from m3video.model.tokenizer import load_text
from m3video.training.finetune import TrainedParameters
from m3video.training.loop import million_parameters, say
from m3video.training.natural import photos
from m3video.training.natural.class_channels import name_directions
from m3video.training.natural.features import Key, load_natural_features, make_natural_features
from m3video.training.natural.letters import train_letters
from m3video.training.natural.low_rank import add_low_rank, low_rank_factors
from m3video.training.natural.named_objects import all_classes, plain_name
from m3video.training.natural.page_words import token_words
from m3video.training.natural.reading_tower import train_reading_tower, with_reading
from m3video.training.natural.recipe import SmallRecipe, load_small_recipe
from m3video.training.natural.samples import SampleMaker
from m3video.training.natural.splits import PARTS
from m3video.training.natural.stages import train_answers
from m3video.training.natural.start import build_small, start_projector
from m3video.training.natural.text_pictures import Source, TextAnswers, TextPictures, load_texts, write_texts
from m3video.training.natural.word_channels import train_words
from m3video.training.pretrained_tower import load_pretrained_tower, with_head
from m3video.utils.files import prepare_folder

TEXTS = "texts.jsonl"
"""In the run folder: what is written in the pictures with text."""
SMOKE_PICTURES = 12
"""Of each source and part in a smoke run."""

_SHIPPED = ("model.vision_tower.", "model.multi_modal_projector.")


def train_small(config_path: Path, *, run_dir: Path, device: str, smoke: bool, resume: bool, out: Path | None) -> Path:
    """Train `small`; the arguments are those of `train`.

    Returns:
        The folder of what the package ships: not a whole model, but a LoRA of its base with tower and projector.

    Raises:
        UsageError: as for `train`, or pictures or the pretrained tower are not there.
        CheckpointError: the language model is not there.
    """
    recipe = load_small_recipe(config_path, smoke=smoke)
    place = find_device(device)
    check = partial(_check_run, run_dir, recipe)
    prepare_folder(run_dir, recipe.model_dump(mode="json"), resume=resume, check=check)
    tower, head = load_pretrained_tower()
    with as_folder(_base()) as base:
        codec = load_text(base)
        known = list(_known_pictures(recipe.photos, most=SMOKE_PICTURES if smoke else None))
        reading = (0, 0)
        if recipe.reading_tower is not None:
            torch.manual_seed(recipe.seed)
            tower = with_reading(tower, recipe.reading_channels)
            words = [*caption_words(recipe.photos), *token_words(codec, LlamaConfig.from_pretrained(base).vocab_size)]
            train_reading_tower(tower, words, recipe, run_dir, device=place, resume=resume)
            drawer = TextPictures(recipe.photos, words, "train", seed=recipe.seed)
            counts: dict[Source, int] = {"page": recipe.pages, "overlay": recipe.overlays}
            write_texts(drawer, counts, run_dir / TEXTS)
            known += (one for source, count in counts.items() for one in drawer.pictures(source, count))
            reading = recipe.reading_channels, recipe.reading_width
        tower.cpu()
        make_natural_features(tower, picture_format(tower.config.to_dict()), known, len(known), run_dir / "features")
        features = load_natural_features(run_dir / "features", head=(head.mix_weight, head.mix_bias))
        torch.manual_seed(recipe.seed)
        model = build_small(base, with_head(tower, head), projector_width=recipe.projector_width + reading[1])
    table: Any = model.get_input_embeddings()
    classes = all_classes(recipe.photos)
    numbers = [photo.index for photo in classes]
    directions = name_directions(codec, table.weight.float(), [plain_name(photo) for photo in classes])
    projector = model.model.multi_modal_projector
    start_projector(projector, head, features, table.weight, numbers, directions, reading=reading)
    model.to(place)
    captions = {
        features.row_of["flickr8k", photo.image]: photo.captions
        for photo in photos.flickr8k(recipe.photos, "train")
        if ("flickr8k", photo.image) in features.row_of
    }
    how: dict[str, Any] = {"recipe": recipe, "folder": run_dir, "resume": resume}
    train_words(projector, codec, table.weight, features, captions, classes=len(classes), reading=reading, **how)
    texts: dict[int, TextAnswers] = {}
    if recipe.reading_tower is not None:
        texts = {features.row_of[key]: text for key, text in load_texts(run_dir / TEXTS).items()}
        train_letters(projector, codec, table.weight, features, texts, **how)
    add_low_rank(model, recipe.rank)
    trained = million_parameters(TrainedParameters(model))
    say(f"{trained:.1f} of {million_parameters(model):.1f} million parameters are trained")
    maker = SampleMaker(recipe, features.row_of, texts=texts)
    shared: dict[str, Any] = {"model": model, "codec": codec, "features": features, "num_classes": len(classes), **how}
    train_answers("pictures", recipe.pictures, draw=maker.picture, outdates=("reels.pt",), **shared)
    train_answers("reels", recipe.reels, draw=maker.of_video, **shared)
    return export_small(model, out or run_dir / "model")


def export_small(model: M3VideoForConditionalGeneration, folder: Path) -> Path:
    """Write what the package ships of a trained model, float16; other files in the folder stay."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.cpu() for name, tensor in model.state_dict().items() if name.startswith(_SHIPPED)}
    write_part(folder, config=model.config, whole=whole, factors=low_rank_factors(model), accepted=ACCEPTED_BASES)
    return folder


def _known_pictures(folder: Path, *, most: int | None) -> Iterator[tuple[Key, Callable[[], Image.Image]]]:
    """Yield every picture of every part with its key, and how it is read."""
    readers: dict[str, Callable[..., Iterator[Any]]] = {
        "flickr8k": photos.flickr8k,
        "imagenet": photos.imagenet,
        "daquar": photos.daquar,
    }
    for source, read in readers.items():
        stored = photos.pictures(folder, source)
        for part in PARTS:
            for number, photo in enumerate(read(folder, part)):
                if most is not None and number >= most:
                    break
                yield (source, photo.image), partial(stored, photo.image)


def caption_words(folder: Path) -> set[str]:
    """Return the words of all captions that may be trained on."""
    return {
        word for photo in photos.flickr8k(folder, "train") for caption in photo.captions for word in caption.split()
    }


def _base() -> BasePlace:
    return next(bases_here(), None) or base_of_hub()


def _check_run(run_dir: Path, recipe: SmallRecipe, before: dict[str, Any]) -> None:
    """Raise UsageError unless the run folder belongs to this recipe, lengths of stages aside."""
    try:
        # A key that is newer than the run has its default.
        held = SmallRecipe.model_validate(before)
    except ValidationError:
        held = None
    now, then = (of and _without_lengths(of.model_dump(mode="json")) for of in (recipe, held))
    if now != then:
        raise UsageError(
            f"--run-dir {run_dir} holds a run of another recipe (only lengths of stages may differ): "
            "name a new one, or start over with --fresh"
        )


def _without_lengths(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**value, "steps": 0, "save_every": 0} if isinstance(value, dict) and "steps" in value else value
        for name, value in values.items()
    }
