# SPDX-License-Identifier: Apache-2.0
"""Measures the duration of every call of a DMI plugin by kind and result."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Final, TypeVar

from ran_datajobs.plugins.dialects import PluginOf
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CreateAnswer,
    CreateCall,
    DmiPlugin,
    JobAddress,
    Lost,
    NoAnswer,
    NotArrived,
    OutcomeUnknown,
    Refused,
    ResultAnswer,
    StatusAnswer,
    Unfetchable,
    UnreadableBody,
)
from ran_datajobs.telemetry import Metrics

Answer = TypeVar("Answer")

RESULTS: Final = ("ok", "refused", "lost", "unusable", "silent")
"""Results of a call: a usable answer; a permanent refusal; the plugin does not have the job (any more); an
unusable answer, such as 503 or an unreadable one; no answer."""


def result_of(answer: object) -> str:
    """One of :data:`RESULTS`."""
    match answer:
        case Refused() | Unfetchable():
            return "refused"
        case Lost():
            return "lost"
        case NotArrived(answered=answered) | OutcomeUnknown(answered=answered) | NoAnswer(answered=answered):
            return "unusable" if answered else "silent"
        case UnreadableBody():
            return "unusable"
        case _:
            return "ok"


def measured(plugin_of: PluginOf, metrics: Metrics) -> PluginOf:
    """Wrap ``plugin_of``: the calls of its clients are measured."""
    return lambda profile: _MeasuredPlugin(plugin_of(profile), metrics)


class _MeasuredPlugin:
    def __init__(self, plugin: DmiPlugin, metrics: Metrics) -> None:
        self._plugin = plugin
        self._seconds = metrics.plugin_call_seconds

    async def create(self, call: CreateCall) -> CreateAnswer:
        return await self._measure("create", self._plugin.create(call))

    async def status(self, address: JobAddress) -> StatusAnswer:
        return await self._measure("status", self._plugin.status(address))

    async def result(self, address: JobAddress) -> ResultAnswer:
        return await self._measure("result", self._plugin.result(address))

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        return await self._measure("cancel", self._plugin.cancel(address))

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        return await self._measure("cancel_job", self._plugin.cancel_job(job_id, is_read=is_read))

    async def _measure(self, kind: str, made: Awaitable[Answer]) -> Answer:
        begun = time.monotonic()
        answer = await made
        self._seconds.labels(kind, result_of(answer)).observe(time.monotonic() - begun)
        return answer
