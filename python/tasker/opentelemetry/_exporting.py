"""`exporting`: the histograms that runners have anyway, given to an exporter of the SDK.

The API has no observable histogram, and the SDK no place for a producer of metrics of its own. But
an exporter gets all metrics of a collection as public data, and one that adds to these is an
exporter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasker._checks import check_runners

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter

    from tasker._runner import Runner


def exporting(exporter: MetricExporter, *runners: Runner[Any]) -> MetricExporter:
    """Wraps an exporter so that it also gets the histograms that runners have anyway.

    They hold every attempt since the runner started, of waiting by priority, of running and of the
    creation of resources, and the sum and count of waiting for the interpreter. Nothing is recorded
    for that, so it costs an attempt nothing. They are cumulative, and go out with the metrics of
    `instrument`: where a collection has no metrics, the SDK exports nothing. Give the result to a
    `PeriodicExportingMetricReader`. Do not use `record_times=True` besides, which has the same
    names.

    Args:
        exporter: Of the SDK, for OTLP, say.
        *runners: Which. None: all that there are at each export.

    Returns:
        The exporter to use in its place.

    Raises:
        ConfigError: One of *runners* is no `Runner`.
        ModuleNotFoundError: The SDK is not installed.
        ValueError: *exporter* wants histograms as differences.

    Example:
        >>> from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
        >>> from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        >>> from tasker.opentelemetry import exporting
        >>> reader = PeriodicExportingMetricReader(exporting(ConsoleMetricExporter()))
        >>> reader.shutdown()
    """
    try:
        # Not at the top: it needs the SDK.
        from tasker.opentelemetry._histograms import WithHistograms  # noqa: PLC0415
    except ModuleNotFoundError as error:
        message = "exporting() needs the SDK of OpenTelemetry: pip install opentelemetry-sdk"
        raise ModuleNotFoundError(message, name=error.name) from error
    check_runners(runners)
    return WithHistograms(exporter, runners)
