"""Metric of when certificates end, read from their files at each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.errors import FedForgetError
from common.platform.keys.certificates import load_certificate


class CertificateCollector(Collector):
    """The end of each certificate, by a name that says its use. One that cannot be read has no metric: see `doctor`."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads no file."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metric as the files are now, so that a rotation shows without a restart."""
        ends = GaugeMetricFamily(
            "fedforget_certificate_expires_seconds", "End of the certificate, Unix time.", labels=["certificate"]
        )
        for name, path in self._files.items():
            try:
                ends.add_metric([name], load_certificate(path).not_valid_after_utc.timestamp())
            except FedForgetError:
                continue

        return (ends,)
