"""The memory formulas against the published examples for M3 7B, and what the largest fit promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.inference.memory import model
from m3video.inference.memory.model import (
    DeviceSpec,
    MemoryRequest,
    Shape,
    estimate_memory,
    grid_bytes,
    kv_bytes_per_token,
    largest_fit,
    weight_bytes,
)
from m3video.model.size import ModelSize
from m3video.utils.units import GIB, MIB

M3_7B = ModelSize(
    name="m3-7b",
    linear_params=32 * (4 * 4096**2 + 3 * 4096 * 11008),
    linear_rows=32 * (5 * 4096 + 2 * 11008),
    largest_linear=4096 * 11008,
    other_params=2 * 32000 * 4096 + 65 * 4096,
    tower_params=303_507_456,
    projector_params=20_979_712,
    layers=32,
    width=4096,
    inner=11008,
    heads=32,
    kv_heads=32,
    head_dim=128,
    vocab=32000,
    tower_layers=24,
    tower_width=1024,
    tower_inner=4096,
    tower_places=577,
    tower_states=26,
    tower_copies=3,
    context=4096,
    stored_dtype="float16",
)
BF16, INT8, NF4 = (DeviceSpec(16 * GIB, True, "bfloat16", kind) for kind in ("none", "int8", "int4"))


@pytest.mark.parametrize(("device", "published"), [(BF16, 13.2), (INT8, 7.1), (NF4, 4.2)])
def test_published_weights(device: DeviceSpec, published: float) -> None:
    assert weight_bytes(M3_7B, device) / GIB == pytest.approx(published, abs=0.05)


def test_published_weights_of_tower_and_projector() -> None:
    assert M3_7B.tower_params * 2 / GIB == pytest.approx(0.57, abs=0.005)
    assert M3_7B.projector_params * 2 / GIB == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize(("scale", "mib"), [(1, 0.5), (9, 4.5), (36, 18), (144, 72), (576, 288), (4096, 2048)])
def test_published_kv_cache(scale: int, mib: float) -> None:
    assert scale * kv_bytes_per_token(M3_7B, BF16) == mib * MIB


def test_grouped_queries_keep_fewer_heads() -> None:
    assert kv_bytes_per_token(replace(M3_7B, kv_heads=8), BF16) == kv_bytes_per_token(M3_7B, BF16) // 4


def test_published_prefill() -> None:
    """MLP about 0.25 GiB at 4,096 positions, attention buffers about 0.15 more."""
    shape = Shape(16, 3800, 296, 8)
    mlp = 3 * 4096 * 11008 * 2
    assert mlp / GIB == pytest.approx(0.25, abs=0.005)
    assert model.prefill_bytes(M3_7B, BF16, shape) / GIB == pytest.approx(0.25 + 0.15, abs=0.02)


def test_published_vision_tower() -> None:
    """All 25 hidden states are 28 MiB a frame, 1.8 GiB for a batch of 64; the MLP of one layer about 10 more."""
    state = 577 * 1024 * 2
    assert 25 * state / MIB == pytest.approx(28, abs=0.3)
    assert 64 * 25 * state / GIB == pytest.approx(1.8, abs=0.05)
    one = model.tower_bytes(M3_7B, BF16, 1)
    assert model.tower_bytes(M3_7B, BF16, 64) == 64 * one
    # Published are two arrays of the MLP; quick_gelu holds three, and a state and the pixels stand beside them.
    array, pixels = 577 * 4096 * 2, 3 * 336 * 336 * 2
    assert 2 * array / MIB == pytest.approx(10, abs=1)
    assert one == 26 * state + 3 * array + pixels


def test_a_convolutional_tower_or_its_projector_is_the_peak() -> None:
    """Pixels, and the larger of two: the tower's peak; or its features beside two arrays of the projector."""
    conv = replace(
        M3_7B,
        width=576,
        tower_width=432,
        tower_inner=0,
        tower_places=576,
        tower_states=1,
        tower_copies=0,
        projector_width=1792,
        conv_peak=7_704_672,
        picture_side=384,
    )
    device, pixels = DeviceSpec(8 * GIB, False, "float32"), 3 * 384**2
    assert model.tower_bytes(conv, device, 5) == 5 * 4 * (7_704_672 + pixels)
    small = replace(conv, conv_peak=1000)
    assert model.tower_bytes(small, device, 5) == 5 * 4 * (576 * (432 + 2 * 1792) + pixels)
    assert model.tower_bytes(replace(small, projector_width=64), device, 5) == 5 * 4 * (576 * (432 + 64 + 576) + pixels)


def test_a_grid_of_7b_is_four_and_a_half_mib() -> None:
    assert grid_bytes(M3_7B, BF16) == 4.5 * MIB


def test_published_margin() -> None:
    assert DeviceSpec(8 * GIB, True).margin == GIB
    assert DeviceSpec(24 * GIB, True).margin == int(0.08 * 24 * GIB)
    assert DeviceSpec(GIB, False).margin == GIB // 2


def room_for_kv(card: int, quantize: str) -> float:
    """As the table was made: margin, weights, and 0.9 GiB for context and activations of 4,096 positions."""
    device = DeviceSpec(card * GIB, True, "bfloat16", quantize)
    activations = model.prefill_bytes(M3_7B, device, Shape(16, 3800, 296, 8))
    return device.memory - device.margin - device.runtime - weight_bytes(M3_7B, device) - activations


@pytest.mark.parametrize(("card", "quantize", "tokens"), [(8, "int4", 3900), (16, "none", 1300), (24, "none", 16_000)])
def test_published_cards_tokens(card: int, quantize: str, tokens: int) -> None:
    assert room_for_kv(card, quantize) / kv_bytes_per_token(M3_7B, BF16) == pytest.approx(tokens, rel=0.06)


@pytest.mark.parametrize(("card", "quantize"), [(8, "none"), (8, "int8"), (12, "none")])
def test_published_cards_that_are_too_small(card: int, quantize: str) -> None:
    assert room_for_kv(card, quantize) < 0
    device = DeviceSpec(card * GIB, True, "bfloat16", quantize)
    assert largest_fit(M3_7B, device, MemoryRequest(1, 576, 1, lambda frames: 200)) is None


@pytest.mark.parametrize(
    ("card", "quantize", "low", "high"),
    [(12, "int4", 2, 3), (12, "int8", 1, 1), (16, "int8", 3, 3), (24, "none", 3, 4), (16, "int4", 4, 99)],
)
def test_published_cards_streams(card: int, quantize: str, low: int, high: int) -> None:
    assert low <= int(room_for_kv(card, quantize) / (4096 * kv_bytes_per_token(M3_7B, BF16))) <= high


def request(frames: int = 16, **more: object) -> MemoryRequest:
    values = {
        "frames": frames,
        "most_visual": frames * 576,
        "vision_batch": 8,
        "text": lambda count: 200 + 14 * count,
        **more,
    }
    return MemoryRequest(**values)  # type: ignore[arg-type]


def test_the_context_binds_before_the_memory() -> None:
    fit = largest_fit(M3_7B, DeviceSpec(12 * GIB, True, "bfloat16", "int4"), request())
    assert fit is not None
    assert (fit.binds, fit.shape.visual, fit.shape.streams) == ("context", 4096 - 200 - 14 * 16, 2)
    assert fit.by_memory > fit.shape.visual


def test_what_is_not_wanted_is_not_spent() -> None:
    fit = largest_fit(M3_7B, DeviceSpec(24 * GIB, True), request(most_visual=500))
    assert fit is not None
    assert (fit.binds, fit.shape.visual) == ("request", 500)


def test_a_smaller_vision_batch_before_fewer_frames() -> None:
    device = DeviceSpec(15 * GIB + 350 * MIB, True)
    sizes = [14.85, 14.95, 15.1, 15.3, 15.6]
    fits = [largest_fit(M3_7B, replace(device, memory=int(size * GIB)), request()) for size in sizes]
    batches = [fit.shape.vision_batch for fit in fits if fit is not None]
    assert batches == sorted(batches)
    assert batches[0] < 8
    assert batches[-1] == 8
    assert all(fit is None or fit.shape.frames == 16 or fit.shape.vision_batch == 1 for fit in fits)


def test_a_measured_peak_counts() -> None:
    plain = largest_fit(M3_7B, DeviceSpec(16 * GIB, True), request())
    more = largest_fit(M3_7B, DeviceSpec(16 * GIB, True, correction=200 * MIB), request())
    assert plain is not None
    assert more is not None
    assert plain.by_memory - more.by_memory == pytest.approx(200 * MIB / (0.61 * MIB), rel=0.1)


@given(
    st.integers(1, 40).map(lambda gib: gib * GIB),
    st.integers(1, 64),
    st.sampled_from(model.QUANTIZE),
    st.sampled_from(sorted(model.DTYPE_BYTES)),
    st.booleans(),
    st.integers(1, 32),
)
@settings(max_examples=20, deadline=None)
def test_what_fits_fits_and_nothing_larger_does(
    size: int, frames: int, quantize: str, dtype: str, on_gpu: bool, batch: int
) -> None:
    device = DeviceSpec(size, on_gpu, dtype, quantize)
    fit = largest_fit(M3_7B, device, request(frames, vision_batch=batch))
    least = estimate_memory(M3_7B, device, Shape(1, 1, 214, 1)).total
    if fit is None:
        assert least > size - device.margin
        return
    shape = fit.shape
    assert fit.estimate.total <= size - device.margin
    assert shape.positions <= M3_7B.context
    assert shape.frames <= shape.visual <= 576 * frames
    one = replace(shape, streams=1)
    if fit.binds == "memory":
        assert estimate_memory(M3_7B, device, replace(one, visual=shape.visual + 1)).total > size - device.margin
    assert estimate_memory(M3_7B, device, shape).total <= size - device.margin or shape.streams == 1
    assert estimate_memory(M3_7B, device, replace(shape, streams=shape.streams + 1)).total > size - device.margin


def test_constants_equal_those_of_the_packages_they_describe() -> None:
    from m3video import config
    from m3video.model.m3 import checkpoint

    assert set(model.DTYPE_BYTES) == set(checkpoint.DTYPES)
    kinds = config.Settings.model_fields["quantize"].annotation
    assert all(repr(kind) in str(kinds) for kind in model.QUANTIZE)
