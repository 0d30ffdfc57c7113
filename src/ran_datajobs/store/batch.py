# SPDX-License-Identifier: Apache-2.0
"""Group commit: calls that arrive while a transaction runs are combined into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

Call = TypeVar("Call")
Answer = TypeVar("Answer")


MOST: Final = 500
"""Maximum number of calls in one run."""


class Batched(Generic[Call, Answer]):
    """Runs ``flush`` over the calls that arrived since the last run; one run at a time.

    A lone call is flushed at once. An error of ``flush`` is raised to every caller. ``flush`` returns the
    answers in the order of the calls.
    """

    def __init__(self, flush: Callable[[Sequence[Call]], Awaitable[Sequence[Answer]]]) -> None:
        self._flush = flush
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
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            await self._answer(batch)
        self._runner = None

    async def _answer(self, batch: list[tuple[Call, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._flush([call for call, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
