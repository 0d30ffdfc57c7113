# SPDX-License-Identifier: Apache-2.0
"""Group commit: calls that arrive while a transaction runs are combined into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

Call = TypeVar("Call")
Answer = TypeVar("Answer")


GATHER_FOR: Final = 0.003
"""Delay in seconds before the next run, when a run of several calls leaves others waiting: a transaction of
many calls costs little more than one of a few."""


class Batched(Generic[Call, Answer]):
    """Runs ``flush`` over the calls that arrived since the last run; one run at a time.

    A lone call is flushed at once. An error of ``flush`` is raised to every caller. ``flush`` returns the
    answers in the order of the calls.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Call]], Awaitable[Sequence[Answer]]],
        *,
        most: int = 500,
    ) -> None:
        self._flush = flush
        self._most = most
        self._waiting: list[tuple[Call, asyncio.Future[Answer]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, call: Call) -> Answer:
        """Queue ``call`` for the next run; return its answer."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._answer(batch)
                if len(batch) > 1 and self._waiting:
                    await asyncio.sleep(GATHER_FOR)
        finally:
            self._runner = None

    async def _answer(self, batch: list[tuple[Call, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._flush([call for call, _ in batch])
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
