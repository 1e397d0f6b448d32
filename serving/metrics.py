"""What Prometheus reads. Counters add up over worker processes; ages are worked out at the moment they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from serving.current import Current
    from serving.scorer import Scorer

# A folder where each worker process keeps its counters; prometheus_client looks for it once, when it is imported.
SHARED = "PROMETHEUS_MULTIPROC_DIR"

REGISTRY = CollectorRegistry()
REQUESTS = Counter("encore_requests", "Requests by route, method and status.", ["route", "method", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "encore_request_seconds", "Time to answer by route.", ["route"], registry=REGISTRY, buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 2)
)
SCORES = Counter("encore_scores", "Scores given by task, status and model version.", ["task", "status", "version"], registry=REGISTRY)
SWAPS = Counter("encore_release_swaps", "Releases taken up, by all workers together.", registry=REGISTRY)
RELEASES_REFUSED = Counter("encore_releases_refused", "Releases that were not taken up, by all workers together.", registry=REGISTRY)
DROPPED = Counter("encore_log_lines_dropped", "Log lines that could not be written, by log.", ["log"], registry=REGISTRY)


def exposition(current: Current, quality: Path | None = None) -> bytes:
    """Everything in Prometheus' text format.

    Args:
        quality: the file that the last `encore quality` wrote, if it is where the service is.
    """
    registry = CollectorRegistry()
    if SHARED in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    registry.register(ReleaseGauges(current))
    found = b""
    with suppress(OSError):
        found = quality.read_bytes() if quality else b""
    return generate_latest(registry) + found


class ReleaseGauges(Collector):
    """State and ages of what is in service, as the worker sees it that is asked."""

    def __init__(self, current: Current) -> None:
        self._current = current

    def collect(self) -> Iterator[Metric]:
        scorer, now = self._current.loaded, datetime.now(UTC)
        fresh = scorer is not None and not scorer.is_stale(now)
        yield GaugeMetricFamily("encore_ready", "1 when a release is in service and fresh.", value=float(fresh))
        if scorer:
            yield from _ages(scorer, now)


def _ages(scorer: Scorer, now: datetime) -> Iterator[Metric]:
    manifest = scorer.release.manifest
    zone = ZoneInfo(manifest["zone"])
    yield GaugeMetricFamily("encore_release_age_seconds", "Time since the scores in service were made.", value=_since(scorer.scored_at, now))
    features = GaugeMetricFamily("encore_feature_age_seconds", "Time since as_of: what happened after it, no score knows.")
    features.add_metric([], _since(_midnight(manifest["as_of"], zone), now))
    yield features
    models = GaugeMetricFamily("encore_model_age_seconds", "Time since the last cutoff that a model has learned from.", labels=["task", "version"])
    for task, facts in scorer.tasks.items():
        models.add_metric([task, facts["version"]], _since(_midnight(scorer.release.bundles[task].about["last_cutoff"], zone), now))
    yield models
    served = GaugeMetricFamily("encore_release_info", "1 for the release in service.", labels=["release", "as_of"])
    served.add_metric([scorer.release.id, manifest["as_of"]], 1.0)
    yield served


def _midnight(day: str, zone: ZoneInfo) -> datetime:
    return datetime.combine(date.fromisoformat(day), time(), zone)


def _since(moment: datetime, now: datetime) -> float:
    """Seconds; none are below zero, though the clock was put back."""
    return max(0.0, (now - moment).total_seconds())
