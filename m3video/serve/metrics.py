"""Counts of a server for `GET /metrics`, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m3video.serve.engine import Engine
from m3video.types import Answer


class Metrics:
    """The counts of one application."""

    def __init__(self, engine: Engine) -> None:
        """Count for `engine`, whose queue and sessions are read when they are asked for."""
        self._engine = engine
        registry = self._registry = CollectorRegistry()
        self._requests = Counter("m3video_requests", "Requests", ["path", "status"], registry=registry)
        self._tokens = Counter("m3video_tokens", "Tokens of answers", ["kind"], registry=registry)
        self._stages = Histogram(
            "m3video_stage_seconds",
            "Seconds of each stage of an answer",
            ["stage"],
            buckets=(0.001, 0.01, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
            registry=registry,
        )
        self._frames = Counter("m3video_frames", "Frames of answers", ["from"], registry=registry)
        registry.register(self)

    def collect(self) -> list[Metric]:
        """Return what the engine knows now (called by the registry)."""
        sessions = self._engine.sessions
        used = CounterMetricFamily(
            "m3video_sessions_used", "Requests by whether their video was open", labels=["found"]
        )
        used.add_metric(["open"], sessions.hits)
        used.add_metric(["new"], sessions.misses)
        return [
            GaugeMetricFamily("m3video_waiting_requests", "Accepted, not answered yet", value=self._engine.waiting),
            GaugeMetricFamily("m3video_sessions", "Videos that are kept open", value=len(sessions)),
            GaugeMetricFamily("m3video_sessions_bytes", "Memory of all sessions", value=sessions.num_bytes),
            used,
        ]

    def count_answer(self, answer: Answer) -> None:
        """Count one answer."""
        for kind, count in (
            ("prompt", answer.prompt_tokens),
            ("visual", answer.visual_tokens),
            ("answer", answer.answer_tokens),
            ("reused", answer.reused_tokens),
        ):
            self._tokens.labels(kind).inc(count)
        for stage, seconds in answer.stage_seconds.items():
            self._stages.labels(stage).observe(seconds)
        self._frames.labels("cache").inc(answer.cached_frames)
        self._frames.labels("video").inc(len(answer.plan.frames) - answer.cached_frames)

    def count_request(self, path: str, status: int) -> None:
        """Count one request by the path of its route."""
        self._requests.labels(path, str(status)).inc()

    def text(self) -> bytes:
        """Return all counts as Prometheus reads them."""
        return generate_latest(self._registry)


class CountRequests:
    """ASGI middleware that counts requests by route and status; a path that no route has is one of "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "other")
                self._metrics.count_request(path, message["status"])
            await send(message)

        await self._app(scope, receive, counting if scope["type"] == "http" else send)
