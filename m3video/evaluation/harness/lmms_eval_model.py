"""m3video as a chat model of lmms-eval: `--model m3video --model_args model=small,budget=720`.

Source: lmms-eval 0.7.3, `api/model.py`, `api/instance.py`, and the request arguments of `ConfigurableMessagesTask`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger

from m3video.config import load_settings
from m3video.errors import M3VideoError
from m3video.evaluation.harness.messages import OpenVideos, VideoQuestion, cut_at, video_question
from m3video.model.m3 import checkpoint
from m3video.model.m3.default_model import with_model
from m3video.utils.text import first_line

FAILED = "[LMMS_EVAL_REQUEST_FAILED]"
"""What lmms-eval's own classes answer where a request fails: it counts as wrong, and the run goes on."""


class LmmsEvalModel(lmms):
    """Answers each request within the token budget; one process, greedy."""

    is_simple = False

    def __init__(self, batch_size: int | str = 1, device: str | None = None, **settings: Any) -> None:
        """Load the model.

        Args:
            batch_size: of lmms-eval; questions are answered one after the other.
            device: of lmms-eval's `--device`.
            settings: any of `Settings`, as in `--model_args model=small,budget=720`.

        Raises:
            UsageError: an unknown setting, or a wrong value.
            CheckpointError: the model cannot be loaded.
        """
        super().__init__()
        flags = {**settings, **({"device": device} if device else {})}
        flags.pop("max_batch_size", None)  # always handed over by lmms-eval
        decided, notes = with_model(load_settings(flags))
        for note in notes.notes:
            logger.info(f"m3video: {note}")
        self.settings = decided
        self._videos = OpenVideos(decided, checkpoint.load(decided.model, device=decided.device, dtype=decided.dtype))
        self._told: set[str] = set()

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer requests, those about one video after each other; results in the order of the requests."""
        asked: list[tuple[VideoQuestion | M3VideoError, Instance]] = [
            (self._read(request.args[1](self._doc(request))), request) for request in requests
        ]

        def place(number: int) -> tuple[str, int]:
            question = asked[number][0]
            return (question.video if isinstance(question, VideoQuestion) else "", number)

        results: dict[int, GenerationResult] = {}
        for number in sorted(range(len(asked)), key=place):
            question, request = asked[number]
            results[number] = self._answer(question, request.args[2])
            self.cache_hook.add_partial("generate_until", (request.args[0], request.args[2]), results[number].text)
        return [results[number] for number in range(len(asked))]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[list[str]]:
        """Answer requests of several rounds: the task makes each round's messages from the answers before."""
        return [self._rounds(request) for request in requests]

    def _rounds(self, request: Instance) -> list[str]:
        _, to_messages, kwargs, *_ = request.args
        doc = self._doc(request)
        said: list[str] = []
        messages, info = to_messages(doc), None
        while True:
            said.append(self._answer(self._read(messages), kwargs).text)
            after = to_messages(doc, round_idx=len(said), previous_output=list(said), previous_round_info=info)
            if not isinstance(after, tuple) or len(after) != 4 or after[1]:
                return said
            messages, _, _, info = after

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: choose the generating form of a task.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("m3video generates answers: choose the task's form with output_type generate_until")

    def _doc(self, request: Instance) -> Any:
        _, _, _, doc_id, task, split = request.args
        return self.task_dict[task][split][doc_id]

    def _read(self, messages: Sequence[dict[str, Any]]) -> VideoQuestion | M3VideoError:
        try:
            return video_question([part for message in messages for part in message["content"]])
        except M3VideoError as error:
            return error

    def _answer(self, question: VideoQuestion | M3VideoError, kwargs: dict[str, Any]) -> GenerationResult:
        self._tell_ignored(kwargs)
        try:
            if isinstance(question, M3VideoError):
                raise question
            answer = self._videos.ask(question, max_new_tokens=kwargs.get("max_new_tokens"))
        except M3VideoError as error:
            logger.error(f"m3video: {error}")
            return GenerationResult(f"{FAILED} {first_line(error, limit=200)}")
        stops = kwargs.get("until") or []
        counts = TokenCounts(input_tokens=answer.prompt_tokens, output_tokens=answer.answer_tokens)
        return GenerationResult(cut_at(answer.text, [stops] if isinstance(stops, str) else stops), counts)

    def _tell_ignored(self, kwargs: dict[str, Any]) -> None:
        """Say once for each what a task asks for and greedy answers cannot give."""
        asked: dict[str, Callable[[Any], bool]] = {
            "temperature": lambda value: float(value or 0) > 0,
            "do_sample": bool,
            "num_beams": lambda value: int(value or 1) > 1,
        }
        for name, differs in asked.items():
            if name in kwargs and differs(kwargs[name]) and name not in self._told:
                self._told.add(name)
                logger.warning(f"m3video answers greedily: the task's {name} {kwargs[name]} has no effect")

    def clean(self) -> None:
        """Close the videos, and let lmms-eval free the rest."""
        self._videos.close()
        super().clean()
