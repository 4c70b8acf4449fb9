"""Confidence of answers: from a curve that was measured, or none at all; answers without enough of it are withheld."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.errors import CheckpointError, UsageError
from m3video.evaluation.run import weights_hash
from m3video.inference import confidence
from m3video.inference.confidence import CANNOT_TELL, ConfidenceCurve, file_to_write, find_curve, withheld_below
from m3video.inference.evidence import SAMPLE
from m3video.inference.session import VideoSession
from m3video.model.m3.answer import GeneratedAnswer
from m3video.model.m3.checkpoint import LoadedModel
from m3video.report.answer_text import answer_details, answer_record

CURVE = ConfidenceCurve("likelihood", [-2.0, 0.0], [0.25, 0.75], {"model": "m"})
QUESTIONS = ("What colour is the background at 0:03?", "How many shapes are there at 0:05?", "Is it day at 0:01?")


def test_a_curve_is_read_between_its_points_and_flat_beyond() -> None:
    assert CURVE.confidence((-0.5, -0.5), (1.0, 1.0)) == 0.5
    assert CURVE.confidence((-9.0,), (1.0,)) == 0.25
    assert CURVE.confidence((0.0,), (1.0,)) == 0.75


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("likelyhood", [0.0], [0.5]), "must be one of"),
        (("likelihood", [0.0, 0.0], [0.5, 0.6]), "increase"),
        (("likelihood", [0.0, 1.0], [0.6, 0.5]), "not fall"),
        (("likelihood", [0.0, 1.0], [0.6, 1.5]), "0..1"),
        (("likelihood", [0.0, 1.0], [0.6]), "same length"),
    ],
)
def test_wrong_curves_are_refused(values: tuple[str, list[float], list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfidenceCurve(*values, {})


def test_a_model_in_a_folder_has_the_curve_beside_it(tmp_path: Path) -> None:
    assert find_curve(str(tmp_path)) is None
    CURVE.save(file_to_write(str(tmp_path)))
    assert find_curve(str(tmp_path)) == CURVE
    (tmp_path / "confidence.json").write_text("{}")
    confidence._read.cache_clear()
    with pytest.raises(CheckpointError, match="is no confidence curve"):
        find_curve(str(tmp_path))


def test_a_hub_model_has_no_folder_to_write_to() -> None:
    with pytest.raises(UsageError, match="m3video convert"):
        file_to_write("somebody/some-model")


def test_what_is_withheld() -> None:
    assert withheld_below(0.6, "green", 0.59) == (CANNOT_TELL, "green")
    assert withheld_below(0.6, "green", 0.6) == ("green", None)
    assert withheld_below(None, "green", 0.1) == ("green", None)


def test_the_curve_that_is_shipped_is_of_these_weights(loaded: LoadedModel) -> None:
    curve = find_curve("rendered")
    assert curve is not None
    assert curve.made["model"] == "rendered"
    assert curve.made["weights"] == weights_hash(loaded), "fit it again: m3video eval confidence --fit"


def test_an_answer_has_the_confidence_of_its_curve(loaded: LoadedModel) -> None:
    with VideoSession(SAMPLE, Settings(cache=False), loaded=loaded) as session:
        answer = session.ask(QUESTIONS[0], evidence=False)
        assert answer.confidence is not None
        assert 0.9 < answer.confidence < 1
        assert answer_record(answer)["confidence"] == pytest.approx(answer.confidence, abs=1e-3)
        assert answer_details(answer).startswith("confidence 0.9")


def test_withheld_answers_are_kept_in_the_record(loaded: LoadedModel) -> None:
    said, kept = [], []
    for abstain, into in ((None, said), (0.999, kept)):
        with VideoSession(SAMPLE, Settings(cache=False, abstain=abstain), loaded=loaded) as session:
            into += [session.ask(question) for question in QUESTIONS]
    for plain, withheld in zip(said, kept, strict=True):
        assert withheld.text == CANNOT_TELL
        assert withheld.withheld == plain.text
        assert withheld.confidence == plain.confidence
        assert plain.withheld is None
        assert withheld.evidence is None  # nothing was said that could rest on anything
        record = json.loads(json.dumps(answer_record(withheld)))
        assert (record["answer"], record["withheld"]) == (CANNOT_TELL, plain.text)
        assert "less than --abstain 0.999: answer withheld" in answer_details(withheld)


def test_without_a_curve_there_is_no_confidence(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confidence, "CALIBRATIONS", {"rendered": tmp_path / "none.json"})
    with VideoSession(SAMPLE, Settings(cache=False), loaded=loaded) as session:
        answer = session.ask(QUESTIONS[0], evidence=False)
        assert answer.confidence is None
        assert "confidence" not in answer_details(answer)
    with (
        VideoSession(SAMPLE, Settings(cache=False, abstain=0.6), loaded=loaded) as session,
        pytest.raises(UsageError, match="was never measured"),
    ):
        session.ask(QUESTIONS[0])


def test_an_answer_that_obeys_a_schema_has_none(loaded: LoadedModel) -> None:
    """Its tokens were not chosen freely, so that it has no likelihoods: the curve says nothing of them."""
    schema = '{"enum": ["green", "red"]}'
    assert confidence.confidence_of(GeneratedAnswer('"green"', 10, 9, 1, 3), "rendered") is None
    with (
        VideoSession(SAMPLE, Settings(cache=False, answer_schema=schema, abstain=0.5), loaded=loaded) as session,
        pytest.raises(UsageError, match="obey a schema"),
    ):
        session.ask(QUESTIONS[0])


def test_an_image_grid_has_none(loaded: LoadedModel) -> None:
    with VideoSession(SAMPLE, Settings(cache=False, layout="grid"), loaded=loaded) as session:
        assert session.ask("What is shown?", evidence=False).confidence is None
    with (
        VideoSession(SAMPLE, Settings(cache=False, layout="grid", abstain=0.5), loaded=loaded) as session,
        pytest.raises(UsageError, match="image grid"),
    ):
        session.ask("What is shown?")
