"""Utility never falls with more tokens, gains nothing where nothing is lost, and ranks pictures plausibly."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from m3video.planning import utility as rules
from m3video.planning.allocate import allocate
from m3video.planning.analyze import analyze
from m3video.planning.novelty import NOVELTY_FLOOR, novelty
from m3video.planning.sample import sample
from m3video.planning.utility import CALIBRATIONS, ESTIMATORS, calibration, new_part, signals, utility
from m3video.types import SCALES, SCAN_SIDE, FrameStats, ScanFrame, Selection
from tests.planning.frames import TIME_BASE, noise, plain, scan_frame, stats_of

PICTURES = ("page", "text", "astronaut", "coffee", "moon", "grass", "gravel")
COLOURS = {"black": (0, 0, 0), "grey": (128, 128, 128), "red": (210, 30, 30), "white": (255, 255, 255)}


@st.composite
def any_stats(draw: st.DrawFn) -> tuple[FrameStats, Selection]:
    """Measured pictures of a few kinds, some damaged, and the candidates among them."""
    kinds = draw(st.lists(st.sampled_from(["black", "grey", "noise", "other", "damaged"]), min_size=1, max_size=30))
    pictures = {"black": plain(0), "grey": plain(120), "noise": noise(1), "other": noise(2), "damaged": noise(3)}
    frames = [scan_frame(i * 40, pictures[kind], corrupt=kind == "damaged") for i, kind in enumerate(kinds)]
    stats = analyze(frames, time_base=TIME_BASE)
    return stats, sample(stats, max_frames=draw(st.integers(1, 30)))


@settings(deadline=None, max_examples=60)
@given(any_stats(), st.sampled_from(sorted(ESTIMATORS)), st.data())
def test_utility_is_never_negative_and_never_falls_with_the_scale(
    made: tuple[FrameStats, Selection], estimator: str, data: st.DataObject
) -> None:
    stats, chosen = made
    utilities = utility(stats, chosen, estimator=estimator)
    assert utilities.shape == (len(chosen), len(SCALES))
    assert (utilities > 0).all()
    assert (np.diff(utilities, axis=1) >= 0).all()
    assert np.isfinite(utilities).all()
    fresh = novelty(stats, chosen)
    assert fresh[0] == 1
    assert ((fresh >= NOVELTY_FLOOR) & (fresh <= 1)).all()
    same = np.full(len(chosen), data.draw(st.floats(0, 1e6)))
    assert (utility(stats, chosen, saliency_N=same, estimator=estimator) == utilities).all()
    saliency = data.draw(hnp.arrays(np.float64, len(chosen), elements=st.floats(0, 1e6)))
    asked = utility(stats, chosen, saliency_N=saliency, estimator=estimator)
    assert (asked >= 0).all()
    assert (np.diff(asked, axis=1) >= 0).all()
    if np.ptp(saliency) > 0:
        assert (asked[saliency == 0] == 0).all()


@pytest.mark.parametrize("saliency", [[1.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 1.0]]])
def test_saliency_is_checked(saliency: list) -> None:
    stats = stats_of([plain(50), plain(200)])
    with pytest.raises(ValueError, match="2 finite weights"):
        utility(stats, sample(stats, max_frames=2), saliency_N=np.array(saliency))


def test_of_a_repeated_frame_only_the_first_token_has_utility() -> None:
    """New, half new and repeated: the detail of the last was seen before."""
    shown = np.tile([0.4, 0.5, 0.7, 0.9, 1.0], (3, 1))
    new, half, old = new_part(shown, np.array([1.0, (1 + NOVELTY_FLOOR) / 2, NOVELTY_FLOOR]))
    assert new == pytest.approx(shown[0])
    assert np.diff(half) == pytest.approx(np.diff(shown[0]) / 2)
    assert old == pytest.approx(np.full(5, 0.4 * NOVELTY_FLOOR))
    assert allocate(np.stack([new, old]), budget=2000).scale_N.tolist() == [576, 1]


def test_black_and_corrupt_candidates_have_little_utility() -> None:
    stats = stats_of([plain(0), plain(120)])
    utilities = utility(stats, sample(stats, max_frames=2), estimator="peak")
    assert utilities[0, 0] == pytest.approx(rules.COVERAGE * NOVELTY_FLOOR)
    assert utilities[1, 0] == pytest.approx(rules.COVERAGE)


def scan_of(rgb_HW3: np.ndarray) -> ScanFrame:
    """A picture as the first pass sees it."""
    scale = SCAN_SIDE / max(rgb_HW3.shape[:2])
    high, wide = (round(side * scale) for side in rgb_HW3.shape[:2])
    small = cv2.cvtColor(cv2.resize(rgb_HW3, (wide, high), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb)
    half = cv2.resize(small, (-(-wide // 2), -(-high // 2)), interpolation=cv2.INTER_AREA)
    return ScanFrame(0, np.ascontiguousarray(small[..., 0]), np.stack([half[..., 2], half[..., 1]]))


def curve(rgb_HW3: np.ndarray, estimator: str) -> np.ndarray:
    """Utility of one picture at each scale."""
    stats = analyze([scan_of(rgb_HW3)], time_base=TIME_BASE)
    return ESTIMATORS[estimator](stats, np.zeros(1, np.int64))[0]


def photo(name: str) -> np.ndarray:
    """One of scikit-image's own pictures; they are in its wheel."""
    path = Path(skimage.__file__).parent / "data" / f"{name}.png"
    if not path.exists():
        pytest.skip(f"this scikit-image does not ship {name}.png")
    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_pages_gain_more_from_tokens_than_the_moon_and_grass_no_more_than_text(estimator: str) -> None:
    gain = {name: float(np.ptp(curve(photo(name), estimator))) for name in PICTURES}
    for words in ("page", "text"):
        assert gain[words] > 1.2 * gain["moon"], (words, gain)
        for texture in ("grass", "gravel"):
            assert gain[texture] <= gain[words], (texture, words, gain)
    for scene in ("astronaut", "coffee"):
        assert gain[scene] > gain["moon"]


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_a_plain_colour_needs_one_token(colour: str, estimator: str) -> None:
    utilities = curve(np.full((180, 320, 3), COLOURS[colour], np.uint8), estimator)
    assert utilities[0] > 0
    assert allocate(utilities[None], budget=576).scale_N.tolist() == [1]


def test_signals_beyond_the_calibration_are_clipped() -> None:
    shipped = calibration("rendered")
    wild = np.array([[1e6] * len(rules.SIGNALS), [-1e6] * len(rules.SIGNALS)])
    edge = np.array([shipped.high, shipped.low])
    assert np.array_equal(shipped.share_right(wild), shipped.share_right(edge))


@pytest.mark.parametrize("model", sorted(CALIBRATIONS))
def test_a_calibration_has_a_weight_per_signal_and_scale(model: str) -> None:
    shipped = calibration(model)
    assert shipped.made["model"] == model
    assert np.array(shipped.weight).shape == (len(SCALES), len(rules.SIGNALS))
    assert {len(part) for part in (shipped.low, shipped.high, shipped.mean, shipped.spread)} == {len(rules.SIGNALS)}
    assert len(shipped.bias) == len(SCALES)
    assert shipped.made["signals"] == list(rules.SIGNALS)


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    for model, path in CALIBRATIONS.items():
        calibration(model).save(tmp_path / "c.json")
        assert (tmp_path / "c.json").read_bytes() == path.read_bytes()


def test_the_model_that_answers_decides_the_calibration() -> None:
    stats = stats_of([noise(1), noise(2), plain(90)])
    chosen = sample(stats, max_frames=3)
    by_model = {model: utility(stats, chosen, model=model) for model in (*CALIBRATIONS, "mucai/llava-v1.5-7b-m3")}
    assert np.array_equal(by_model["rendered"], utility(stats, chosen))
    assert not np.array_equal(by_model["small"], by_model["rendered"])
    # One without a calibration of its own gets one of a model that gains from tokens, and the plan says so.
    assert np.array_equal(by_model["mucai/llava-v1.5-7b-m3"], by_model["rendered"])
    assert rules.estimate_name("small").startswith("calibrated to the answers of small (")
    assert "calibration of its own" not in rules.estimate_name("rendered") + rules.estimate_name("small")
    named = rules.estimate_name("mucai/llava-v1.5-7b-m3")
    assert named.startswith("calibrated to the answers of rendered (")
    assert named.endswith("; mucai/llava-v1.5-7b-m3 has no calibration of its own")


def test_signals_are_logarithms_of_the_columns_they_are_named_after() -> None:
    stats = stats_of([noise(1), plain(40)])
    found = np.expm1(signals(stats, np.array([1, 0])))
    assert found[1] == pytest.approx(
        [stats.loss_NS[0, 0], stats.loss_NS[0, 3], stats.peak_NS[0, 0], stats.peak_NS[0, 3], stats.sharpness_N[0]],
        rel=1e-5,
    )
    assert found[0] == pytest.approx(0, abs=1e-3)
