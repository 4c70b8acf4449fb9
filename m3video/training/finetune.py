"""Fine-tuning a checkpoint with the M3 objective: run folder, what is trained, the steps, and the finished model."""

from __future__ import annotations

import hashlib
import importlib
import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from m3video.errors import NotFiniteError, UsageError
from m3video.model.m3 import checkpoint
from m3video.model.m3.adapters import OF_M3VIDEO
from m3video.model.m3.checkpoint import DTYPES, LoadedModel, find_device
from m3video.model.m3.convert import write
from m3video.model.m3.default_model import decide_model
from m3video.model.m3.finite import damage
from m3video.training.conversations import Skipped, check_style
from m3video.training.examples import Example, ExampleLoader
from m3video.training.finetune_recipe import RESUMABLE_CHANGES, FinetuneRecipe, load_finetune_recipe
from m3video.training.loop import WARM_UP, million_parameters, run_stage, say
from m3video.training.objective import backward
from m3video.training.reading import ExamplePrefetcher, SkipLog, load_conversations
from m3video.training.recipe import Stage
from m3video.types import SCALES
from m3video.utils.files import prepare_folder

_TOWER, _PROJECTOR = ("model.vision_tower.",), ("model.multi_modal_projector.", "model.image_newline")
LORA_TARGETS = r".*language_model\.layers\.\d+\..*\.(q|k|v|o|gate|up|down)_proj"


def finetune(
    config_path: Path,
    *,
    run_dir: Path,
    device: str = "auto",
    smoke: bool = False,
    resume: bool = True,
    out: Path | None = None,
) -> Path:
    """Fine-tune a checkpoint and write it as a folder that `--model` takes.

    Args:
        config_path: YAML recipe with `base:`, e.g. `configs/m3-llava-1.5-7b.yaml`.
        run_dir: checkpoint, `metrics.jsonl`, `skipped.jsonl`, the LoRA adapter. A killed run goes on from here.
        device: "auto", "cpu", "cuda" or "cuda:N".
        smoke: two small steps, to see that everything runs.
        resume: False starts over and removes what is in `run_dir`.
        out: the finished model's folder, default `run_dir/model`.

    Returns:
        The finished model's folder.

    Raises:
        UsageError: a recipe, data file or device that is not there, no usable row, no peft, or another recipe's folder.
        CheckpointError: the base cannot be loaded.
        DoesNotFitError: a micro-batch exceeds the GPU's memory.
        NotFiniteError: a weight of the base is NaN or infinite, or the loss became so.
    """
    recipe = load_finetune_recipe(config_path, smoke=smoke)
    place = find_device(device)
    peft = find_peft(config_path) if recipe.lora is not None else None
    made_with = {**recipe.model_dump(mode="json"), "sha256": [file_hash(one.conversations) for one in recipe.data]}
    prepare_folder(run_dir, made_with, resume=resume, check=partial(check_finetune_run, run_dir, made_with))
    skips = SkipLog(run_dir / "skipped.jsonl")
    rows = load_conversations(recipe, skips)
    # Only frozen weights may be in half precision: an update of 2e-5 would be rounded away.
    half = recipe.precision == "bfloat16" and recipe.lora is not None
    loaded = checkpoint.load(
        recipe.base, device=str(place), dtype="bfloat16" if half else "float32", vision_tower=recipe.vision_tower
    )
    for note in decide_model(recipe.base).notes:
        say(note)
    check_style(loaded.config.prompt_style)
    adapter = choose_trained(loaded, recipe, peft)
    steps = recipe.epochs * math.ceil(len(rows) / recipe.batch)
    stage = Stage(
        steps=min(steps, recipe.max_steps or steps), batch=recipe.batch, rate=recipe.rate, save_every=recipe.save_every
    )
    trained = TrainedParameters(loaded.model)
    say(
        f"{len(rows)} conversations, {stage.steps} steps of {recipe.batch}; {million_parameters(trained):.1f} of "
        f"{million_parameters(loaded.model):.1f} million parameters trained on {place}; "
        f"checkpoint and logs in {run_dir}"
    )
    loader = ExampleLoader(loaded, recipe, run_dir / "stats")
    with ExamplePrefetcher(rows, loader, recipe, steps=stage.steps) as reading:
        run_steps(loaded, trained, reading, recipe, stage, run_dir, skips, resume=resume)
    say(f"conversations with a problem: {skips.summary() or 'none'}")
    return export_finetuned(loaded, adapter, recipe, run_dir, out or run_dir / "model")


def run_steps(
    loaded: LoadedModel,
    trained: TrainedParameters,
    reading: ExamplePrefetcher,
    recipe: FinetuneRecipe,
    stage: Stage,
    run_dir: Path,
    skips: SkipLog,
    *,
    resume: bool,
) -> None:
    """Run the steps in the loop that all training shares."""

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        found = reading(number)
        examples = [one for one in found if isinstance(one, Example)]
        for one in found:
            if isinstance(one, Skipped):
                skips.add(one)
            elif one.note is not None:
                skips.add(Skipped(one.name, "damaged but used", one.note))
        left_out = {"left out": (float(len(found) - len(examples)), float(len(found)))}
        # Only dropout is random here.
        torch.manual_seed(recipe.seed * 1_000_003 + number)
        if not examples:
            return torch.zeros(()), left_out
        loss, metrics = backward(loaded, examples, micro_batch=recipe.micro_batch, precision=DTYPES[recipe.precision])
        return loss, {**metrics, **left_out}

    loaded.model.train()
    try:
        run_stage(
            "finetune",
            stage,
            trained,
            run_dir,
            resume=resume,
            step=step,
            rate=finetune_rate,
            make=lambda module: finetune_optimizer(module, recipe),
        )
    except NotFiniteError:
        if wrong := damage(loaded):
            raise NotFiniteError(f"the base's numbers are not finite: {wrong}") from None
        raise
    loaded.model.eval()


def finetune_rate(step: int, stage: Stage) -> float:
    """Return the learning rate before `step` (0-based): warm-up over 3 % of the steps, then cosine down to nothing."""
    warm = math.ceil(stage.steps * WARM_UP)
    if step < warm:
        return stage.rate * (step + 1) / warm
    return stage.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, stage.steps - warm)))


def finetune_optimizer(module: nn.Module, recipe: FinetuneRecipe) -> list[torch.optim.Optimizer]:
    """Return AdamW without weight decay, as in the paper; projector and tower at their own rates."""
    groups: dict[float, list[nn.Parameter]] = {}
    for key, parameter in module.named_parameters():
        name = key.replace("/", ".")
        rate = recipe.rate
        if name.startswith(_TOWER):
            rate = recipe.tower_rate
        elif name.startswith(_PROJECTOR):
            rate = recipe.projector_rate
        groups.setdefault(rate / recipe.rate, []).append(parameter)
    return [torch.optim.AdamW([{"params": p, "share": s} for s, p in groups.items()], weight_decay=0.0)]


class TrainedParameters(nn.Module):
    """The trainable parameters of a model and nothing else: what a checkpoint stores."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)


def choose_trained(loaded: LoadedModel, recipe: FinetuneRecipe, peft: Any) -> Any:
    """Mark the trained parameters and make them float32: decoder or its LoRA, projector and tower unless frozen.

    Returns:
        peft's wrapper around the model, or None without LoRA.
    """
    model, adapter = loaded.model, None
    if recipe.lora is not None:
        torch.manual_seed(recipe.seed)
        lora = peft.LoraConfig(
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            bias="none",
            target_modules=LORA_TARGETS,
        )
        with warnings.catch_warnings():
            # peft 0.21 uses a name that transformers 5.24 deprecates.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            adapter = peft.get_peft_model(model, lora)
        lora.base_model_name_or_path = recipe.base
    for name, parameter in model.named_parameters():
        if name.startswith(_TOWER):
            parameter.requires_grad_(recipe.tower_rate > 0)
        elif name.startswith(_PROJECTOR):
            parameter.requires_grad_(recipe.projector_rate > 0)
        elif recipe.lora is None:
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if recipe.gradient_checkpointing:
        # transformers 5.24 renamed it and warns about the old name.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return adapter


def find_peft(config_path: Path) -> Any:
    """Return the peft library; raise UsageError when it is not installed."""
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise UsageError(
            f"{config_path}: lora needs peft: pip install 'm3video[finetune]', or leave lora out for full fine-tuning"
        ) from None


def check_finetune_run(run_dir: Path, now: dict[str, Any], before: dict[str, Any]) -> None:
    """Raise UsageError unless the run folder belongs to this recipe and to the same data files, byte for byte."""
    changed = [key for key in {**before, **now} if key not in RESUMABLE_CHANGES and before.get(key) != now.get(key)]
    if changed:
        what = "data (its content)" if changed == ["sha256"] else changed[0]
        raise UsageError(
            f"--run-dir {run_dir} holds a run with another {what}: name a new one, or start over with --fresh"
        )


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; raise UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"conversations {path} cannot be read: {error.strerror}") from None


def export_finetuned(loaded: LoadedModel, adapter: Any, recipe: FinetuneRecipe, run_dir: Path, folder: Path) -> Path:
    """Write the merged model; a LoRA stays in `run_dir/adapter` too, with the other trained weights beside it."""
    model = loaded.model
    if adapter is not None:
        adapter_folder = run_dir / "adapter"
        adapter.save_pretrained(adapter_folder, save_embedding_layers=False)
        others = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and "lora_" not in name
        }
        save_file(others, adapter_folder / OF_M3VIDEO)
        adapter.merge_and_unload()
    model.eval().to("cpu", DTYPES[recipe.save_dtype])
    config = loaded.config
    config.m3_trained, config.token_scales = True, list(SCALES)
    config.origin = f"{recipe.base}, fine-tuned by m3video"
    folder.mkdir(parents=True, exist_ok=True)
    write(loaded, folder)
    for file in [*folder.iterdir(), *(run_dir / "adapter").glob("*")]:
        # safetensors writes for the owner only.
        file.chmod(0o644)
    return folder
