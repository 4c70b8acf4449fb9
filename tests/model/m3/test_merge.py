"""LoRAs, projectors and deltas as LLaVA releases them: merged into their base to the bit, or told in one line."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from m3video.errors import CheckpointError
from m3video.model.m3 import checkpoint
from m3video.model.m3.convert import convert
from m3video.model.m3.model_paths import find_model
from m3video.model.m3.size import read_size
from tests.model.parity import ABSENT, ROOT
from tests.model.tiny import save_original, save_tiny, tiny_model

Tensors = dict[str, Tensor]
PROJECTOR = "model.mm_projector."
LAYERS = [f"model.layers.{n}." for n in range(2)]
MATRICES = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A LLaVA in the original layout, its tower beside it."""
    return save_original(tmp_path / "llava")


def vicuna(whole: Path, *, as_bin: bool = False) -> Path:
    """The language model alone, as LLaVA-1.5 was trained from; its numbers are half of the LLaVA's."""
    folder = whole.parent / "vicuna"
    shutil.copytree(whole, folder)
    tensors = {
        name: tensor / 2
        for name, tensor in load_file(whole / "model.safetensors").items()
        if not name.startswith(PROJECTOR)
    }
    (folder / "model.safetensors").unlink()
    write(folder / ("pytorch_model.bin" if as_bin else "model.safetensors"), tensors)
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in config.items() if "mm_" not in key and "image" not in key}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    return folder


def write(path: Path, tensors: Tensors) -> None:
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)


def some(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 8


def save_lora(
    folder: Path,
    base: Path,
    *,
    rank: int = 4,
    as_bin: bool = True,
    trained: Tensors | None = None,
    suffix: str = "",
    **told: Any,
) -> Callable[[str, Tensor], Tensor]:
    """A LoRA folder as LLaVA writes it; returns what it makes of a tensor of the base, computed by hand."""
    folder.mkdir(exist_ok=True)
    factors: Tensors = {}
    tensors = dict(load_file(base / "model.safetensors"))
    names = [layer + matrix for layer in LAYERS for matrix in MATRICES]
    for number, name in enumerate(names):
        rows, columns = tensors[f"{name}.weight"].shape
        factors[f"base_model.model.{name}.lora_A{suffix}.weight"] = some(rank, columns, seed=number)
        factors[f"base_model.model.{name}.lora_B{suffix}.weight"] = some(rows, rank, seed=1000 + number)
    write(folder / f"adapter_model.{'bin' if as_bin else 'safetensors'}", factors)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "base_model_name_or_path": "lmsys/vicuna", **told}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    if trained is not None:
        torch.save(
            {f"base_model.model.{name}": tensor for name, tensor in trained.items()}, folder / "non_lora_trainables.bin"
        )

    def by_hand(name: str, tensor: Tensor) -> Tensor:
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{stem}A{suffix}.weight" not in factors:
            return tensor
        product = factors[f"{stem}B{suffix}.weight"] @ factors[f"{stem}A{suffix}.weight"]
        return tensor.float() + settings["lora_alpha"] / settings["r"] * product

    return by_hand


def projector(seed: int = 7) -> Tensors:
    return {
        f"{PROJECTOR}{layer}.{kind}": some(*shape, seed=seed + layer)
        for layer in (0, 2)
        for kind, shape in (("weight", (16, 16)), ("bias", (16,)))
    }


def with_config(folder: Path, whole: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(whole / "config.json", folder)
    return folder


def loaded(folder: Path, **more: Any) -> Tensors:
    return checkpoint.load(str(folder), device="cpu", **more).model.state_dict()


def made_by_hand(tensors: Tensors, whole: Path) -> Tensors:
    """What a whole LLaVA of these tensors loads as: the merge by hand, through a folder that any loader reads."""
    folder = whole.parent / "by-hand"
    shutil.copytree(whole, folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return loaded(folder)


def assert_same(left: Tensors, right: Tensors) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize("suffix", ["", ".default"])
def test_a_lora_on_a_language_model(whole: Path, as_bin: bool, suffix: str) -> None:
    base = vicuna(whole)
    lora = with_config(whole.parent / "llava-lora", whole)
    by_hand = save_lora(lora, base, trained=projector(), as_bin=as_bin, suffix=suffix)
    expected = {name: by_hand(name, tensor) for name, tensor in load_file(base / "model.safetensors").items()}
    assert any(not torch.equal(expected[n], t) for n, t in load_file(base / "model.safetensors").items())
    target = convert(lora, whole.parent / "new", base=str(base))
    assert_same(loaded(target), made_by_hand({**expected, **projector()}, whole))
    assert (target / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert not checkpoint.load(str(target), device="cpu").warnings


@pytest.mark.parametrize("has_config", [False, True])
def test_a_lora_on_a_whole_llava(whole: Path, has_config: bool) -> None:
    """As LLaVA's recipe for one's own task makes it: the base has a projector, which was trained on."""
    lora = whole.parent / "task-lora"
    if has_config:
        with_config(lora, whole)
    by_hand = save_lora(lora, whole, trained=projector())
    base = load_file(whole / "model.safetensors")
    expected = {**{name: by_hand(name, tensor) for name, tensor in base.items()}, **projector()}
    assert_same(loaded(lora, base=str(whole)), made_by_hand(expected, whole))


def test_a_lora_on_a_converted_base(whole: Path) -> None:
    converted = convert(whole, whole.parent / "converted")
    lora = with_config(whole.parent / "task-lora", whole)
    by_hand = save_lora(lora, whole)
    expected = {name: by_hand(name, tensor) for name, tensor in load_file(whole / "model.safetensors").items()}
    assert_same(loaded(lora, base=str(converted)), made_by_hand(expected, whole))


def test_half_precision_is_rounded_once(whole: Path) -> None:
    base = vicuna(whole)
    halves = {name: tensor.half() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(halves, base / "model.safetensors")
    lora = with_config(whole.parent / "llava-lora", whole)
    by_hand = save_lora(lora, base, trained=projector())
    got = loaded(lora, base=str(base), dtype="float16")
    name = f"{LAYERS[0]}{MATRICES[0]}.weight"
    key = name.replace("model.", "model.language_model.", 1)
    assert torch.equal(got[key], by_hand(name, halves[name]).half())
    assert torch.equal(got["lm_head.weight"], halves["lm_head.weight"])


@pytest.mark.parametrize(
    ("told", "scale"),
    [
        ({"lora_alpha": 32}, 8.0),
        ({"use_rslora": True}, 8 / math.sqrt(4)),
        ({"lora_alpha": 0.5}, 0.125),
        ({"alpha_pattern": {"q_proj": 2}}, 0.5),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 2}}, 2.0),
        ({"alpha_pattern": {r"layers\.0.*": 16}}, 4.0),
        ({"r": 64, "rank_pattern": {".*": 4}}, 2.0),
    ],
)
def test_the_scale_of_a_lora(told: dict[str, Any], scale: float, whole: Path) -> None:
    lora = whole.parent / "lora"
    save_lora(lora, whole, **told)
    factors = torch.load(lora / "adapter_model.bin", weights_only=True)
    stem = f"base_model.model.{LAYERS[0]}self_attn.q_proj.lora_"
    old = load_file(whole / "model.safetensors")[f"{LAYERS[0]}self_attn.q_proj.weight"]
    got = loaded(lora, base=str(whole))["model.language_model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(got, old + scale * (factors[f"{stem}B.weight"] @ factors[f"{stem}A.weight"]))


def test_peft_merges_to_the_same(tmp_path: Path) -> None:
    """The adapter folder of `m3video train`, with the weights that it trained whole beside it."""
    peft = pytest.importorskip("peft")
    from m3video.model.m3.adapters import OF_M3VIDEO

    base = save_tiny(tmp_path / "base", m3_trained=False)
    model = tiny_model()
    targets = r".*language_model\.layers\.\d+\..*\.(q|k|v|o|gate|up|down)_proj"
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.24 by a name that is on its way out.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets))
    with torch.no_grad():
        for number, (name, parameter) in enumerate(wrapped.named_parameters()):
            if "lora_B" in name:
                parameter.copy_(some(*parameter.shape, seed=number))
        model.model.multi_modal_projector.linear_1.weight += 1
    wrapped.save_pretrained(tmp_path / "adapter")
    changed = {"model.multi_modal_projector.linear_1.weight": model.model.multi_modal_projector.linear_1.weight.clone()}
    save_file(changed, tmp_path / "adapter" / OF_M3VIDEO)
    expected = wrapped.merge_and_unload().state_dict()
    got = checkpoint.load(str(tmp_path / "adapter"), device="cpu", base=str(base))
    assert got.model.state_dict().keys() == expected.keys()
    for name, tensor in got.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)
    assert not got.warnings  # trained on nested tokens, unlike its base


@pytest.mark.parametrize("prefix", ["", "model.", "base_model.model.model.", "module.model."])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_projector_beside_the_weights_is_read(prefix: str, suffix: str, whole: Path) -> None:
    expected, tensors = loaded(whole), load_file(whole / "model.safetensors")
    apart = {prefix + name.removeprefix("model."): tensors.pop(name) for name in list(tensors) if PROJECTOR in name}
    save_file(tensors, whole / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 4 tensors.*mm_projector\.bin: put it into the folder"):
        loaded(whole)
    write(whole / f"mm_projector{suffix}", apart)
    assert_same(loaded(whole), expected)
    size = read_size(str(whole))
    assert size.params == sum(tensor.numel() for tensor in expected.values())
    assert size.projector_params == sum(tensor.numel() for tensor in apart.values())
    assert_same(loaded(convert(whole, whole.parent / "new")), expected)


def test_a_projector_in_the_weights_is_not_replaced(whole: Path) -> None:
    expected = loaded(whole)
    torch.save(projector(), whole / "mm_projector.bin")
    assert_same(loaded(whole), expected)


@pytest.mark.parametrize("as_bin", [False, True])
def test_a_projector_alone(whole: Path, as_bin: bool) -> None:
    """As LLaVA's first stage of training writes it: a config, and mm_projector.bin."""
    base = vicuna(whole, as_bin=as_bin)
    folder = with_config(whole.parent / "pretrained", whole)
    torch.save(projector(), folder / "mm_projector.bin")
    words = {name: tensor / 2 for name, tensor in load_file(whole / "model.safetensors").items()}
    target = convert(folder, whole.parent / "new", base=str(base))
    assert_same(loaded(target), made_by_hand({**words, **projector()}, whole))


def delta_of(whole: Path, base: Path, folder: Path, *, rows: int = 0) -> Path:
    """`whole` minus `base`; with `rows` the base has that many words fewer."""
    shutil.copytree(whole, folder)
    below = load_file(base / "model.safetensors")
    if rows:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            below[name] = below[name][:-rows].clone()
        save_file(below, base / "model.safetensors")
    difference = {name: tensor.clone() for name, tensor in load_file(whole / "model.safetensors").items()}
    for name, tensor in below.items():
        difference[name][: len(tensor)] -= tensor
    save_file(difference, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("rows", [0, 3])
def test_a_delta(rows: int, whole: Path) -> None:
    """Halves add up without rounding, so the sum is the whole model to the bit; further words are the delta's own."""
    base = vicuna(whole)
    tensors = load_file(base / "model.safetensors")
    norm = {name: 2 * tensor for name, tensor in tensors.items() if name == "model.norm.weight"}
    save_file({**tensors, **norm}, base / "model.safetensors")  # fine-tuning leaves norms nearly as they are
    delta = delta_of(whole, base, whole.parent / "LLaVA-7b-delta-v0", rows=rows)
    with pytest.raises(CheckpointError, match=r"a delta.*m3video convert .*LLaVA-7b-delta-v0 NEW_FOLDER --base BASE"):
        loaded(delta)
    assert_same(loaded(convert(delta, whole.parent / "new", base=str(base))), loaded(whole))


def damaged(folder: Path, what: str) -> str:
    """Spoil a LoRA folder; what is said then."""
    adapter, config = folder / "adapter_model.bin", folder / "adapter_config.json"
    factors = torch.load(adapter, weights_only=True)
    first = min(factors)
    told = json.loads(config.read_text())
    match what:
        case "no weights":
            adapter.unlink()
            return "is a LoRA without its weights: adapter_model.safetensors or adapter_model.bin is missing"
        case "cut":
            adapter.write_bytes(adapter.read_bytes()[:1000])
            return "is no plain weights file"
        case "no config":
            config.unlink()
            return "adapter_config.json cannot be read"
        case "half a pair":
            del factors[first]
            torch.save(factors, adapter)
            return "has only one of lora_A and lora_B"
        case "another width":
            factors[first] = torch.zeros(4, 17)
            torch.save(factors, adapter)
            return "is changed by [16, 4] x [4, 17], the base has [16, 16]"
        case "more layers":
            for side, shape in (("A", (4, 16)), ("B", (16, 4))):
                factors[f"base_model.model.model.layers.9.self_attn.q_proj.lora_{side}.weight"] = torch.zeros(shape)
            torch.save(factors, adapter)
            return "llava has not: it is of another base"
        case "unknown tensor":
            torch.save({**factors, "base_model.model.other.weight": torch.zeros(1)}, adapter)
            return "tensor other.weight belongs to no part"
        case _:
            key, value = what.split("=")
            config.write_text(json.dumps({**told, key: json.loads(value)}))
            return f"adapter_config.json: {key} ({value}) must be "


@pytest.mark.parametrize(
    "what",
    [
        "no weights",
        "cut",
        "no config",
        "half a pair",
        "another width",
        "more layers",
        "unknown tensor",
        'peft_type="IA3"',
        'r="8"',
        "r=0",
        "lora_alpha=null",
        'lora_alpha="16"',
        "use_dora=true",
        "fan_in_fan_out=true",
        'init_lora_weights="pissa_niter_16"',
        'alpha_pattern={"q_proj": "2"}',
        'alpha_pattern={"(": 2}',
        "use_rslora=1",
    ],
)
def test_a_spoilt_lora_is_told(what: str, whole: Path) -> None:
    lora = whole.parent / "lora"
    save_lora(lora, whole)
    line = damaged(lora, what)
    with pytest.raises(CheckpointError) as error:
        convert(lora, whole.parent / "new", base=str(whole))
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (whole.parent / "new").exists()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code in it was run')",)


@pytest.mark.parametrize("name", ["adapter_model.bin", "non_lora_trainables.bin", "mm_projector.bin"])
def test_no_code_in_a_part_is_run(name: str, whole: Path) -> None:
    lora = whole.parent / "lora"
    save_lora(lora, whole, trained=projector())
    torch.save({f"{PROJECTOR}0.weight": Bomb()}, lora / name)
    with pytest.raises(CheckpointError, match="code in it is never run"):
        convert(lora, whole.parent / "new", base=str(whole))


def parts(whole: Path) -> dict[str, Path]:
    root = whole.parent
    save_lora(root / "with config", whole, trained=projector())
    with_config(root / "with config", whole)
    save_lora(root / "lora", whole)
    (root / "beside").mkdir()
    torch.save(projector(), root / "beside" / "non_lora_trainables.bin")
    pretrained = with_config(root / "pretrained", whole)
    torch.save(projector(), pretrained / "mm_projector.bin")
    return {
        "a LoRA of lmsys/vicuna": root / "with config",
        "a LoRA of lmsys/vicuna,": root / "lora",
        "a LoRA, no whole model": root / "beside",
        "a projector alone (mm_projector)": pretrained,
    }


def test_a_part_is_told_with_the_command_that_merges_it(whole: Path) -> None:
    for words, folder in parts(whole).items():
        base = "lmsys/vicuna" if "vicuna" in words else "BASE"
        shown = f"'{folder}'" if " " in folder.name else f"{folder}"
        for use in (find_model, read_size, checkpoint.load, lambda name: convert(name, whole.parent / "new")):
            with pytest.raises(CheckpointError) as error:
                use(str(folder))  # type: ignore[operator]
            assert str(error.value).startswith(f"{folder} is {words}")
            assert str(error.value).endswith(f"merge it first: m3video convert {shown} NEW_FOLDER --base {base}")


def test_what_cannot_be_merged_is_told(whole: Path) -> None:
    base, root = vicuna(whole), whole.parent
    held = parts(whole)
    with pytest.raises(CheckpointError, match="holds a whole model: --base is for a LoRA"):
        convert(whole, root / "new", base=str(base))
    for part in held.values():
        with pytest.raises(CheckpointError, match="no whole model; merge it first"):
            convert(root / "lora", root / "new", base=str(part))
    with pytest.raises(CheckpointError, match=r"without a config.json, and .* is a language model alone"):
        convert(root / "lora", root / "new", base=str(base))
    with pytest.raises(CheckpointError, match="is no folder"):
        convert(root / "lora", root / "new", base="./nothing")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        convert(root / "lora", root / "new", base="lmsys/vicuna")
    (root / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        convert(root / "lora", root / "new", base=str(root / "empty"))
    with pytest.raises(CheckpointError, match="holds no weights"):
        convert(root / "empty", root / "new", base=str(whole))
    assert not (root / "new").exists()


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
@pytest.mark.parametrize(
    "name", ["llava-v1.5-tiny-m3", "llava-v1.5-tiny-m3-gqa", "llava-next-tiny-m3", "llava-next-tiny-m3-towerin"]
)
def test_parity_checkpoints_taken_apart_and_merged_again(name: str, tmp_path: Path) -> None:
    """A LoRA of the reference's own checkpoints, over a base that has neither projector, newline nor tower."""
    whole = ROOT / name / "safetensors"
    index = json.loads((whole / "model.safetensors.index.json").read_text())["weight_map"]
    tensors: Tensors = {}
    for file in set(index.values()):
        tensors |= load_file(whole / file)
    tower = str(ROOT / "openai" / "clip-vit-large-patch14-336")
    base, lora = tmp_path / "vicuna", tmp_path / "lora"
    shutil.copytree(whole, base, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    apart = {key: tensor for key, tensor in tensors.items() if any(w in key for w in ("mm_", "newline", "vision_"))}
    save_file({key: tensor for key, tensor in tensors.items() if key not in apart}, base / "model.safetensors")
    for folder in (base, lora):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        shutil.copyfile(whole / "config.json", folder / "config.json.new")
        (folder / "config.json.new").replace(folder / "config.json")
    by_hand = save_lora(lora, base, trained=apart)
    expected = tmp_path / "expected"
    shutil.copytree(base, expected)
    save_file({key: by_hand(key, tensor) for key, tensor in tensors.items()}, expected / "model.safetensors")
    merged = loaded(lora, base=str(base), vision_tower=tower)
    assert_same(merged, loaded(expected, vision_tower=tower))
    plain = loaded(whole, vision_tower=tower)
    changed = [key for key in plain if not torch.equal(plain[key], merged[key])]
    assert len(changed) == len(LAYERS) * len(MATRICES)
