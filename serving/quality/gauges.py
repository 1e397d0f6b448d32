"""Realised quality for monitors: `metrics/quality.prom` in the workspace, whole at any moment, written by each look and served at `/metrics`."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from features.logs import log
from serving.quality.rules import ADVICE
from serving.quality.standing import Standing

FILE = Path("metrics") / "quality.prom"
ENDS = ("value", "low", "high")


class QualityGauges(Collector):
    """Where each prediction stands."""

    def __init__(self, root: Path, standings: Mapping[str, Standing]) -> None:
        self._place, self._standings = str(root), standings

    def collect(self) -> Iterator[Metric]:
        looked = self._family("encore_quality_look_timestamp_seconds", "When encore quality last looked.")
        looked.add_metric([self._place], round(time.time(), 3))
        yield looked
        metrics = self._family("encore_quality_realised", "Metrics of the last run whose time is over; end: value, low or high.", "stratum", "metric", "end")
        promised = self._family("encore_quality_promised", "The same as its scores promised.", "stratum", "metric", "end")
        counts = self._family("encore_quality_positives", "How many did it (actual), and were expected to; what: actual, expected.", "stratum", "what")
        as_of = self._family("encore_quality_as_of_timestamp_seconds", "Date of the features of the last run that was judged.")
        alerts = self._family("encore_quality_alert", "1 where a written rule speaks: quality surely below the expectation then, or drift.", "rule")
        psi = self._family("encore_quality_score_psi", "Population stability index of the scores in service against training.")
        for task, standing in self._standings.items():
            for rule in ADVICE:
                alerts.add_metric([self._place, task, rule], float(any(alert["rule"] == rule for alert in standing.alerts)))
            if standing.drift and (standing.drift.facts.get("score") or {}).get("psi") is not None:
                psi.add_metric([self._place, task], standing.drift.facts["score"]["psi"])
            if standing.last is None:
                continue
            run, judgement = standing.last
            as_of.add_metric([self._place, task], float(calendar.timegm(run.as_of.timetuple())))
            for stratum, told in judgement.facts.items():
                if stratum in ("all", "untreated", "treated"):
                    self._add(metrics, task, stratum, told.get("metrics"))
                    self._add(promised, task, stratum, told.get("promised"))
                    known = {"actual": told.get("actual"), "expected": (told.get("expected") or {}).get("value")}
                    for what, value in known.items():
                        if value is not None:
                            counts.add_metric([self._place, task, stratum, what], value)
        yield from (metrics, promised, counts, as_of, alerts, psi)

    def _family(self, name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
        of = () if name == "encore_quality_look_timestamp_seconds" else ("task",)
        return GaugeMetricFamily(name, meaning, labels=["workspace", *of, *labels])

    def _add(self, family: GaugeMetricFamily, task: str, stratum: str, metrics: Mapping[str, Any] | None) -> None:
        for metric, interval in (metrics or {}).items():
            for end in ENDS:
                if interval[end] is not None:
                    family.add_metric([self._place, task, stratum, metric, end], interval[end])


def write_gauges(root: Path, standings: Mapping[str, Standing]) -> None:
    """Write the file; that it cannot be written is logged and stops nothing."""
    registry = CollectorRegistry()
    registry.register(QualityGauges(root, standings))
    try:
        (root / FILE).parent.mkdir(exist_ok=True)
        write_to_textfile(str(root / FILE), registry)
    except OSError as error:
        log.warning("quality gauges not written", extra={"facts": {"file": str(root / FILE), "reason": str(error)}})
