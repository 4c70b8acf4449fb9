"""The tasks of a batch: analyze, plan, ask, summarize."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from m3video import __version__
from m3video.config import Settings
from m3video.distributed.failures import failure_of
from m3video.distributed.identity import config_of
from m3video.distributed.messages import JobRequest, ModelRequest, Outcome, PartialRecord, VideoJob
from m3video.distributed.storage import saving
from m3video.distributed.worker_process import heartbeat
from m3video.errors import M3VideoError, PlanError, UsageError
from m3video.inference.confidence import confidence_of, withheld_below
from m3video.inference.evidence import rendered_note
from m3video.inference.first_pass import Wish, analyze_video
from m3video.inference.offload import Generation, ask_batches, fetch_batch
from m3video.inference.pipeline import open_for, plan_details
from m3video.inference.summary.summarize import VideoFacts, captions, chapters, conclude, refuse_ranges
from m3video.inference.summary.values import to_json
from m3video.model.m3.default_model import with_model
from m3video.model.m3.model_paths import find_model
from m3video.planning.plan_file import save_plan
from m3video.planning.shots import find_shots
from m3video.planning.stats_file import save_stats
from m3video.report.summary_files import FORMATS
from m3video.types import TokenPlan, VideoInfo
from m3video.utils.progress import Bar, Meter
from m3video.video.path_checks import check_file, fingerprint

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel


def heartbeat_progress(stage: str, total: int | None) -> AbstractContextManager[Bar]:
    """Send heartbeats; a `Progress` that shows nothing."""
    heartbeat()
    return nullcontext(heartbeat)


@dataclass(frozen=True, slots=True)
class VideoTask(ABC):
    """The base class of all tasks; the methods are those of `messages.Task`."""

    settings: Settings
    config: str
    name: str = ""
    needs_model: bool = False

    @property
    def wants_gpu(self) -> bool:
        return self.needs_model and self.settings.device != "cpu"

    def identify(self, video: str) -> Iterator[str]:
        yield fingerprint(check_file(video))

    @abstractmethod
    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]: ...

    def load(self) -> Any:
        raise AssertionError(f"{self.name} has no model")

    def answer(self, loaded: Any, requests: Sequence[JobRequest]) -> list[Any]:
        raise AssertionError(f"{self.name} has no model")

    def finish(self, loaded: Any, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome]:
        return [partial_record]

    def record(self, info: VideoInfo, meter: Meter, warnings: Sequence[str], **found: Any) -> dict[str, Any]:
        """Return the record of an item, without what the model answered."""
        return {
            "task": self.name,
            "m3video": __version__,
            "fingerprint": info.fingerprint,
            "video_seconds": info.duration_seconds,
            "partial": info.partial,
            **found,
            "stage_seconds": {name: round(value, 4) for name, value in meter.stage_seconds.items()},
            "warnings": [*info.notes, *warnings],
            "config": self.settings.model_dump(),
        }


@dataclass(frozen=True, slots=True)
class Analyze(VideoTask):
    """Per-frame stats of each video, as stats.parquet."""

    name: str = "analyze"

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        meter = Meter()
        with open_for(job.video, self.settings) as reader:
            with meter.stage("analyze"):
                stats = analyze_video(reader, Wish.of(self.settings), progress=heartbeat_progress)
            info, damage = reader.info_with_damage, reader.damage.message
        with saving(job.folders[0], "stats.parquet") as path:
            save_stats(stats, asdict(info), path)
        yield PartialRecord(
            self.record(
                info,
                meter,
                [damage] if damage else [],
                files=["stats.parquet"],
                frames=len(stats),
                shots=len(find_shots(stats)),
                mean_loss=[round(float(value), 3) for value in stats.loss_NS.mean(axis=0)],
            )
        )


@dataclass(frozen=True, slots=True)
class Plan(VideoTask):
    """A token plan for each video, as plan.json."""

    name: str = "plan"

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        meter = Meter()
        with open_for(job.video, self.settings) as reader, meter.stage("plan"):
            plan = plan_details(reader, self.settings, progress=heartbeat_progress).plan
        with saving(job.folders[0], "plan.json") as path:
            save_plan(plan, path)
        yield PartialRecord(self.record(plan.video, meter, plan.warnings, files=["plan.json"], **plan_fields(plan)))


@dataclass(frozen=True, slots=True)
class Ask(VideoTask):
    """One plan for each video, and an answer to each question."""

    name: str = "ask"
    needs_model: bool = True

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        meter = Meter()
        with open_for(job.video, self.settings) as reader:
            with meter.stage("plan"):
                details = plan_details(reader, self.settings, progress=heartbeat_progress)
            plan = details.plan
            if not plan.frames:
                raise PlanError(f"the plan shows no frame of {job.video}: give it a larger budget")
            with meter.stage("fetch"):
                shown = fetch_batch(reader, details, on_frame=heartbeat)
        yield ModelRequest(shown)
        yield PartialRecord(self.record(plan.video, meter, plan.warnings, files=["plan.json"]))

    def load(self) -> LoadedModel:
        """Return the model; raise DoesNotFitError before anything is decoded when no question fits."""
        loaded = load_model(self.settings)
        refuse_budget(loaded, self.settings, question="?")
        return loaded

    def answer(self, loaded: LoadedModel, requests: Sequence[JobRequest]) -> list[Generation]:
        """Return the answers about each video's frames, generated in one batch."""
        return ask_batches(loaded, [(batch, partial(_texts, job)) for job, batch in requests], self.settings)

    def finish(self, loaded: LoadedModel, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome]:
        (generation,) = replies
        for folder in job.folders:
            with saving(folder, "plan.json") as path:
                save_plan(generation.plan, path)
        shown = plan_fields(generation.plan)
        records: list[Outcome] = []
        for question, answer in zip(job.questions, generation.answers, strict=True):
            if isinstance(answer, M3VideoError):
                records.append(failure_of(answer))
                continue
            stages = {"vision tower": round(generation.tower_seconds, 4), "answer": round(generation.answer_seconds, 4)}
            notes = (*generation.notes, *loaded.warnings, *rendered_note(loaded, job.video), *answer.warnings)
            confidence = confidence_of(answer, loaded.name)
            text, withheld = withheld_below(self.settings.abstain, answer.text, confidence)
            tokens = {"visual": answer.visual_tokens, "prompt": answer.prompt_tokens, "answer": answer.answer_tokens}
            records.append(
                {
                    **partial_record,
                    **shown,
                    "question": question.text,
                    "question_id": question.id,
                    "answer": text,
                    "confidence": None if confidence is None else round(confidence, 3),
                    "withheld": withheld,
                    "model": loaded.name,
                    "tokens": tokens,
                    "stage_seconds": {**partial_record["stage_seconds"], **stages},
                    "warnings": [*partial_record["warnings"], *notes],
                }
            )
        return records


def _texts(job: VideoJob, _: TokenPlan) -> list[str]:
    return [question.text for question in job.questions]


@dataclass(frozen=True, slots=True)
class Summarize(VideoTask):
    """Chapters, captions and a summary of each video, as summary.json and in other formats."""

    name: str = "summarize"
    needs_model: bool = True
    formats: tuple[str, ...] = ()

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        for part in chapters(job.video, self.settings, progress=heartbeat_progress, on_frame=heartbeat):
            yield PartialRecord(part) if isinstance(part, VideoFacts) else ModelRequest(part)

    def load(self) -> LoadedModel:
        loaded = load_model(self.settings)
        refuse_budget(loaded, self.settings, question="?")
        return loaded

    def answer(self, loaded: LoadedModel, requests: Sequence[JobRequest]) -> list[Any]:
        return list(captions(loaded, [shown for _, shown in requests], self.settings))

    def finish(self, loaded: LoadedModel, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome]:
        made = conclude(loaded, partial_record, replies, self.settings)
        made = replace(made, warnings=tuple(dict.fromkeys((*made.warnings, *rendered_note(loaded, job.video)))))
        files = []
        for name in ("json", *self.formats):
            files.append(f"summary.{name}")
            with saving(job.folders[0], files[-1]) as path:
                path.write_text(FORMATS[name](made), encoding="utf-8", errors="backslashreplace")
        found = {name: value for name, value in to_json(made).items() if name not in ("schema", "video")}
        return [
            {
                "task": self.name,
                "m3video": __version__,
                "fingerprint": partial_record.info.fingerprint,
                "video_seconds": partial_record.info.duration_seconds,
                "files": files,
                **found,
            }
        ]


def load_model(settings: Settings) -> LoadedModel:
    """Load the model that `settings` names."""
    find_model(settings.model, vision_tower=settings.vision_tower)  # before torch is loaded, which takes seconds
    from m3video.model.m3 import checkpoint

    return checkpoint.load_for(settings)


def refuse_budget(loaded: LoadedModel, settings: Settings, *, question: str) -> None:
    """Raise DoesNotFitError when the budget, all frames' times and an answer exceed the context."""
    from m3video.model.m3 import inputs

    frames = min(settings.surely_frames, settings.budget)
    text = inputs.text_tokens(loaded, question, num_frames=frames, timestamps=settings.timestamps)
    inputs.refuse_beyond(loaded, visual=settings.budget, text=text, answer=settings.max_new_tokens)


def plan_fields(plan: TokenPlan) -> dict[str, Any]:
    """Return the fields of a record that describe a plan."""
    return {
        "visual_tokens": plan.total_tokens,
        "frames": len(plan.frames),
        "shots": len(plan.shots),
        "utility": plan.utility,
        "gap": plan.gap,
    }


def make_task(name: str, settings: Settings, *, formats: Sequence[str] = (), fetch: bool = True) -> VideoTask:
    """Return the task called `name`.

    Args:
        name: one of `TASKS`.
        settings: resolved.
        formats: other formats of the files that `summarize` writes for each video.
        fetch: as for `config_of`.

    Raises:
        UsageError: settings that the task cannot obey.
        CheckpointError: there is no such model.
    """
    if settings.layout == "grid":
        raise UsageError("layout grid is for single questions: use m3video ask")
    if name == "ask" and settings.saliency != "off":
        raise UsageError(f"saliency ({settings.saliency}) plans for single questions: use m3video ask or chat")
    if name != "analyze":
        settings, _ = with_model(settings)
    config = config_of(name, settings, fetch=fetch)
    if name == "summarize":
        refuse_ranges(settings)
        return Summarize(settings, config, formats=tuple(formats))
    kinds: dict[str, type[Analyze] | type[Plan] | type[Ask]] = {"analyze": Analyze, "plan": Plan, "ask": Ask}
    return kinds[name](settings, config)


TASKS = ("summarize", "ask", "analyze", "plan")
