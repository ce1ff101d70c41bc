"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from audioml.serving.model import LoadedModel

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
CLIPS = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "audioml_requests", "HTTP requests by path and status", ["path", "status"], registry=self.registry
        )
        self.request_s = Histogram(
            "audioml_request_seconds",
            "From a request's headers to the end of its answer",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.predictions = Counter(
            "audioml_predictions",
            "Recordings that were answered, by the version's role and number",
            ["role", "version"],
            registry=self.registry,
        )
        self.unreadable = Counter(
            "audioml_unreadable", "Recordings that could not be read, by reason", ["reason"], registry=self.registry
        )
        self.audio_s = Counter("audioml_audio_seconds", "Of audio that was answered", registry=self.registry)
        self.batch_clips = Histogram(
            "audioml_batch_clips", "Recordings that were answered together", buckets=CLIPS, registry=self.registry
        )
        self.shadow = Counter(
            "audioml_shadow",
            "What the shadow said beside the served version: same, different, failed, or skipped under load",
            ["outcome"],
            registry=self.registry,
        )
        self._of_requests: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        known = self._of_requests.get((path, status))
        if known is None:
            # Looking labels up takes longer than counting.
            known = self.requests.labels(path, str(status)), self.request_s.labels(path)
            self._of_requests[path, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def watch(self, models: Callable[[], Mapping[str, LoadedModel]], refused: Callable[[], Iterable[str]]) -> None:
        """Have each reading say which versions serve, and in which roles another one is refused."""
        self.registry.register(_Models(models, refused))

    def watch_value(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Have each reading ask for a value."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        rendered: bytes = generate_latest(self.registry)
        return rendered


class _Models(Collector):
    def __init__(self, models: Callable[[], Mapping[str, LoadedModel]], refused: Callable[[], Iterable[str]]) -> None:
        self._models, self._refused = models, refused

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the gauges as they are now."""
        serving = GaugeMetricFamily("audioml_model_version", "Version that serves", labels=["role", "name"])
        models = self._models()
        for role, model in models.items():
            serving.add_metric([role, model.name], model.version)
        yield serving
        refused = GaugeMetricFamily(
            "audioml_model_refused", "1 while the version that an alias names is refused", labels=["role"]
        )
        roles = set(self._refused())
        for role in sorted({*models, *roles}):
            refused.add_metric([role], role in roles)
        yield refused
