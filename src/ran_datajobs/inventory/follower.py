# SPDX-License-Identifier: Apache-2.0
"""Follows the inventory of an NCMP: a comparison with all its handles at the start and every ten minutes, and
a look-up of each handle that one of its events names.

Every worker tries to follow; the one whose session has an advisory lock does. It writes in this session, so
that a worker that has lost the lock changes nothing. What it has not looked up yet is in its memory alone:
each worker begins with a comparison, whatever events its predecessor had received.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Raw, structs

from ran_datajobs.config import Settings
from ran_datajobs.errors import BusUnavailable, NcmpUnavailable, StoreUnavailable
from ran_datajobs.inventory.follow import (
    Change,
    Followed,
    Seen,
    Unreadable,
    change_in,
    changes_from,
    differs,
    handle_in,
)
from ran_datajobs.inventory.ncmp import AT_ONCE, Ncmp
from ran_datajobs.inventory.registration import (
    ALREADY_EXISTS,
    CmHandle,
    Failure,
    Registration,
    alternate_keys,
    id_fault,
)
from ran_datajobs.inventory.registry import LONGEST_REGISTRATION, write_changes
from ran_datajobs.messaging.bus import Bus, Received
from ran_datajobs.messaging.topics import LCM_TOPIC
from ran_datajobs.store import inventory as store
from ran_datajobs.store.database import Connection, Database, transaction_of
from ran_datajobs.store.inventory import PluginRow
from ran_datajobs.telemetry import Digest, Logger, Metrics, errors_logged

COMPARE_EVERY: Final = 600.0
"""Interval in seconds of the comparisons: NCMP sends no event of some changes."""

COMPARE_PAUSE: Final = 60.0
"""Minimum interval in seconds between two comparisons, unless NCMP was unavailable."""

LOOK_EVERY: Final = 5.0
"""Interval in seconds at which a worker tries to get the lock, and checks that it still has it."""

GATHER: Final = 2.0
"""Seconds in which the events are gathered that are handled together."""

BATCH: Final = 2000
"""Maximum number of handles that are changed in one transaction; more handles than this that events have
named are not looked up, but lead to a comparison."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Pause in seconds after NCMP did not answer; it doubles with each further failure up to the longest."""

_CONSUMER: Final = "ncmp-inventory"
_EVENTS_PAUSE: Final = 5.0


class _Counts(NamedTuple):
    """Numbers of handles that were changed or refused."""

    created: int = 0
    changed: int = 0
    removed: int = 0
    refused: int = 0

    def plus(self, other: _Counts) -> _Counts:
        return _Counts(*(mine + others for mine, others in zip(self, other, strict=True)))


class Events:
    """What the received events ask for: handles to look up, each with its last change, or a comparison."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.handles: dict[str, Change] = {}
        self.compare: str | None = None
        self._next: dict[int, int] = {}  # offset by partition

    def take(self, batch: Sequence[Received]) -> None:
        for received in batch:
            expected = self._next.get(received.partition, received.offset)
            # A transaction ends with a record that no consumer gets, but which has an offset.
            if received.offset > expected + 1:
                self.ask("a gap in the events")
            self._next[received.partition] = received.offset + 1
            try:
                change = change_in(received.message.value)
            except Unreadable:
                self.ask("an unreadable event")
                continue
            if self.compare is None and id_fault(change.cm_handle) is None:
                before = self.handles.get(change.cm_handle, change)
                may_move = before.may_move or change.may_move
                self.handles[change.cm_handle] = structs.replace(change, may_move=may_move)
        if len(self.handles) > BATCH:
            self.ask("many events")
        self.came.set()

    def ask(self, why: str) -> None:
        """Ask for a comparison, which includes the handles that events have named so far."""
        self.compare = self.compare or why
        self.handles.clear()
        self.came.set()

    def taken(self) -> dict[str, Change]:
        """The handles to look up, once."""
        handles, self.handles = self.handles, {}
        return handles


class Follower:
    """Follows the NCMP that the settings name, in one worker at a time."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        ncmp: Ncmp,
        settings: Settings,
        log: Logger,
        digest: Digest,
        metrics: Metrics,
        *,
        gather: float = GATHER,
        compare_pause: float = COMPARE_PAUSE,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._database = database
        self._bus = bus
        self._ncmp = ncmp
        self._settings = settings
        self._log = log
        self._digest = digest
        self._metrics = metrics
        self._gather = gather
        self._compare_pause = compare_pause
        self._look_every = look_every
        self._failures = 0

    async def run(self) -> None:
        """Run until cancelled, across outages of the database, of the bus and of NCMP."""
        while True:
            pause = self._look_every
            with errors_logged(self._log, "follow", self._followed.url):
                try:
                    async with self._database.session() as connection:
                        if await store.claim_following(connection):
                            pause = self._compare_pause  # after an unexpected error
                            await self._follow(connection)
                except StoreUnavailable:
                    pause = self._look_every
            await asyncio.sleep(pause)

    @property
    def _followed(self) -> Followed:
        return self._ncmp.followed

    async def _follow(self, connection: Connection) -> None:
        """Follow until the session that has the lock ends."""
        self._log.info("follow.started", ncmp=self._followed.url)
        events = Events()
        events.ask("start")
        receiving = asyncio.create_task(self._receive(events))
        try:
            await self._work(connection, events)
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            self._metrics.follow_failing.set(0)
            self._failures = 0

    async def _receive(self, events: Events) -> None:
        """Take the events, whose positions the bus keeps."""
        while True:
            try:
                async with contextlib.aclosing(self._bus.receive(LCM_TOPIC, _CONSUMER)) as batches:
                    async for batch in batches:
                        events.take(batch)
            except StoreUnavailable:
                pass
            except BusUnavailable as error:
                self._digest.warning("bus.unavailable", {"cause": str(error)}, tries=1)
            except Exception as error:
                self._log.error(
                    "task.failed", kind="follow", subject=LCM_TOPIC, cause=repr(error), exc_info=True
                )
            await asyncio.sleep(_EVENTS_PAUSE)

    async def _work(self, connection: Connection, events: Events) -> None:
        now = asyncio.get_running_loop().time
        next_comparison, not_before = now() + COMPARE_EVERY, now()
        while True:
            await store.check_session(connection)
            if now() >= next_comparison:
                events.ask("time")
            try:
                if events.compare is not None and now() >= not_before:
                    await self.compare(connection, events)
                    next_comparison, not_before = now() + COMPARE_EVERY, now() + self._compare_pause
                elif events.handles:
                    await self.look_up(connection, events)
            except NcmpUnavailable as error:
                events.ask("NCMP was unavailable")
                not_before = max(not_before, now() + self._unanswered(error))
            events.came.clear()
            if not events.handles:
                wake_at = next_comparison if events.compare is None else not_before
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(wake_at, now() + self._look_every)):
                        await events.came.wait()
                        await asyncio.sleep(self._gather)

    async def compare(self, connection: Connection, events: Events) -> None:
        """Compare all handles of NCMP with the registered ones, and change those that differ.

        A handle that the search lacks is removed if NCMP does not find it by its id either: NCMP reads the
        two in different places. Raises NcmpUnavailable; what was changed until then stays.
        """
        why, events.compare = events.compare, None
        started = time.monotonic()
        counts, there = _Counts(), set[str]()
        unowned = unreadable = 0
        waiting: list[Seen] = []
        taken: list[Seen] = []
        with await self._ncmp.handles() as found:
            owners = await self._ncmp.owners()
            plugins = await self._plugins(connection)
            for items in found.batches(BATCH):
                handles, ids, bad = await asyncio.to_thread(_read, items)
                there.update(ids)
                unreadable += bad
                seen = [Seen(each, plugins.get(owners.get(each.cm_handle, ""))) for each in handles]
                unowned += sum(each.plugin_id is None for each in seen)
                waiting += await self._differing(connection, seen)
                if len(waiting) >= BATCH:
                    counts, waiting = counts.plus(await self._change(connection, waiting, (), taken)), []
        missing = [each for each in await store.followed_ids(connection) if each not in there]
        looked_up = await self._looked_up(missing)
        waiting += [
            Seen(each, plugins.get(owners.get(each.cm_handle, ""))) for each in looked_up.values() if each
        ]
        gone = [cm_handle for cm_handle in missing if looked_up.get(cm_handle, 0) is None]
        for start in range(0, max(len(gone), 1), BATCH):
            some = gone[start : start + BATCH]
            counts, waiting = counts.plus(await self._change(connection, waiting, some, taken)), []
        if taken:  # alternate ids that others may have left since
            counts = counts.plus(await self._change(connection, taken, (), None))
        self._answered()
        self._count(counts)
        self._log.info(
            "follow.compared",
            ncmp=self._followed.url,
            why=why,
            handles=len(there),
            created=counts.created,
            changed=counts.changed,
            removed=counts.removed,
            refused=counts.refused + unreadable,
            without_plugin=unowned,
            seconds=round(time.monotonic() - started, 3),
        )

    async def look_up(self, connection: Connection, events: Events) -> None:
        """Look up the handles that events have named, and change those that differ.

        One that NCMP does not find is removed if the event said so; else a comparison tells. The plugins of
        handles that are new, also again, are asked for together. Raises NcmpUnavailable.
        """
        asked = events.taken()
        looked_up = await self._looked_up(asked)
        known = await store.handles_by_id(connection, asked)
        missing = [cm_handle for cm_handle, handle in looked_up.items() if handle is None]
        if any(not asked[each].deleted and each in known and known[each].followed for each in missing):
            events.ask("a CM handle that NCMP does not find")
        handles = [handle for handle in looked_up.values() if handle is not None]
        settled = {
            name: row.plugin_id
            for name, row in known.items()
            if row.followed and row.plugin_id and not asked[name].may_move
        }
        owners: Mapping[str, str] = {}
        if any(each.cm_handle not in settled for each in handles):
            owners = await self._ncmp.owners()
        plugins = await self._plugins(connection)
        seen = [
            Seen(each, plugins.get(owners.get(each.cm_handle, ""), settled.get(each.cm_handle)))
            for each in handles
        ]
        gone = [cm_handle for cm_handle in missing if asked[cm_handle].deleted and cm_handle in known]
        self._count(await self._change(connection, await self._differing(connection, seen), gone, None))
        self._answered()

    async def _looked_up(self, ids: Iterable[str]) -> dict[str, CmHandle | None]:
        """The handles with these ids; None for one that NCMP does not have. One that cannot be read is left
        out."""
        found: dict[str, CmHandle | None] = {}
        each = iter(ids)
        while some := list(itertools.islice(each, AT_ONCE)):
            answers = await asyncio.gather(*map(self._ncmp.look_up, some), return_exceptions=True)
            for cm_handle, answer in zip(some, answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                handle = None if answer is None else handle_in(answer)
                if not isinstance(handle, Failure):
                    found[cm_handle] = handle
        return found

    async def _differing(self, connection: Connection, seen: Sequence[Seen]) -> list[Seen]:
        known = await store.handles_by_id(connection, [each.handle.cm_handle for each in seen])

        def compared() -> list[Seen]:
            keys = _keys(seen)
            return [each for each in seen if differs(each, keys, known.get(each.handle.cm_handle))]

        return await asyncio.to_thread(compared)

    async def _change(
        self, connection: Connection, seen: Sequence[Seen], gone: Collection[str], taken: list[Seen] | None
    ) -> _Counts:
        """Write changes in one transaction. Handles whose alternate ids others have are added to ``taken``,
        or are refused if that is None."""
        if not seen and not gone:
            return _Counts()
        async with transaction_of(connection, idle=LONGEST_REGISTRATION):
            version = await store.lock_inventory(connection)
            keys = await asyncio.to_thread(_keys, seen)
            known = await store.handles_by_id(connection, [*gone, *(each.handle.cm_handle for each in seen)])
            holders = await store.holders_of(connection, keys.values())
            changes = await asyncio.to_thread(changes_from, seen, gone, keys, known, holders)
            await write_changes(connection, changes, known, version, self._settings.inventory_events_topic)
        failed = {each.cm_handle: each for each in changes.outcome.failed_created_cm_handles}
        if taken is not None:
            again = {name for name, each in failed.items() if each.error_code == ALREADY_EXISTS}
            taken += [each for each in seen if each.handle.cm_handle in again]
            failed = {name: each for name, each in failed.items() if name not in again}
        changed = sum(row.cm_handle in known for row in changes.save)
        return _Counts(len(changes.save) - changed, changed, len(changes.remove), len(failed))

    async def _plugins(self, connection: Connection) -> dict[str, int]:
        """The ids of the followed plugins by their addresses."""
        found = {url: await store.plugin_by_url(connection, url) for url in self._followed.plugins}
        plugins = {url: stored.plugin_id for url, stored in found.items() if stored}
        if new := [url for url in found if url not in plugins]:
            async with transaction_of(connection):
                version = await store.lock_inventory(connection)
                for url in new:
                    plugin = PluginRow(url, dialect=self._settings.dmi_dialect)
                    plugins[url] = await store.save_plugin(connection, plugin, version)
        return plugins

    def _count(self, counts: _Counts) -> None:
        for change, number in counts._asdict().items():
            self._metrics.follow_changes.labels(change).inc(number)

    def _answered(self) -> None:
        if self._failures:
            self._log.info("follow.available", ncmp=self._followed.url)
        self._failures = 0
        self._metrics.follow_failing.set(0)

    def _unanswered(self, error: NcmpUnavailable) -> float:
        """Log the first of several failures. Returns the pause."""
        if not self._failures:
            self._log.warning("follow.unavailable", ncmp=self._followed.url, cause=str(error))
        self._failures += 1
        self._metrics.follow_failing.set(1)
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (min(self._failures, 16) - 1))


def _read(items: Sequence[Raw]) -> tuple[list[CmHandle], list[str], int]:
    """The handles of a search, the ids of all items, and the number of those that cannot be read."""
    handles: list[CmHandle] = []
    ids: list[str] = []
    unreadable = 0
    for item in items:
        try:
            found = handle_in(item)
        except Unreadable:
            unreadable += 1
            continue
        ids.append(found.cm_handle)
        if isinstance(found, Failure):
            unreadable += 1
        else:
            handles.append(found)
    return handles, ids, unreadable


def _keys(seen: Sequence[Seen]) -> dict[str, str]:
    return alternate_keys(Registration(created_cm_handles=[each.handle for each in seen]))
