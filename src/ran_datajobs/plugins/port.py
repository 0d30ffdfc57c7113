# SPDX-License-Identifier: Apache-2.0
"""The port to a DMI plugin: create, status, result, cancel of one data-producer job.

Every call returns a value, also for a bad peer, and raises no exception. Sources: the seed page's DMI calls
(ONAP CPS-NCMP data jobs), ONAP's DMI OpenAPI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct

from ran_datajobs.model import ActivationMode, Response, Status

AUTO: Final = "auto"
"""The dialect of a plugin whose dialect is to be found out."""


IMAGE_BYTES: Final = 4 * 1024
"""Size in bytes that each before-image of a job may have, whatever the number of its operations."""

MAX_IMAGE: Final = 256 * 1024
"""Maximum size in bytes of a before-image."""


class PluginProfile(Struct, frozen=True):
    """The inventory's data of one DMI plugin.

    ``idempotent``: honours ``Idempotency-Key``.
    ``stop_on_error``: honours ``activationMode``. ``bulk_cancel``: can cancel a whole data job by one call.
    ``dialect``: as registered, also :data:`AUTO`; ``found_dialect``: what such a plugin was found to speak.
    ``selectors``: takes reads by data node selector. ``operation_properties``: wants the private properties
    of the CM handle in operations.
    """

    plugin_id: int
    url: str
    dialect: str = "seed"
    idempotent: bool = False
    stop_on_error: bool = False
    bulk_cancel: bool = False
    found_dialect: str | None = None
    selectors: bool = False
    operation_properties: bool = True

    @property
    def spoken_dialect(self) -> str:
        """The dialect of its calls. A plugin whose dialect is not known yet is called in the seed's."""
        return (self.found_dialect or "seed") if self.dialect == AUTO else self.dialect


class CreateCall(Struct, frozen=True):
    """One sub-job to start. ``operations`` is the JSON array that goes into ``data``, already encoded in the
    ``dialect``; empty: in the plugin's.

    ``before_images``: the plugin brings before-images, and is to do so.

    ``may_be_sent`` is asked before the create is sent once more in another dialect or with another media
    type: False when the caller is no longer allowed to send it.
    """

    job_id: str
    sub_job_id: str
    data_producer_id: str
    destination: str
    accept_type: str
    content_type: str
    activation_mode: ActivationMode
    is_read: bool
    operations: bytes
    dialect: str = ""
    before_images: bool = False
    may_be_sent: Callable[[], bool] = lambda: True


class JobAddress(Struct, frozen=True):
    """Address of one data-producer job at its plugin.

    ``operations``: their number in the sub-job, if known; the size limit of the result grows with it, and
    more with ``before_images``.
    ``patience``: read timeout of a fetch of the result in seconds, if there is one.
    """

    job_id: str
    data_producer_id: str
    data_producer_job_id: str
    destination: str
    is_read: bool
    operations: int = 0
    patience: float | None = None
    before_images: bool = False


class Created(Struct, frozen=True):
    """The plugin accepted the sub-job under this id (200, 201 or 202). ``dialect``: in which it did, if that
    is known."""

    data_producer_job_id: str
    dialect: str | None = None


class Refused(Struct, frozen=True):
    """The plugin refuses the call permanently (most 4xx); a refused create executed nothing.

    A plugin that refuses a cancel (also 501) cannot cancel: the sub-job runs to its end.
    """

    cause: str


class Retryable(Struct, frozen=True):
    """No usable answer, and a repeat of the call does no harm: a create provably did not arrive (connection
    refused, 429, 503); every other call may be repeated anyway.

    ``retry_after``: the plugin's ``Retry-After`` in seconds. ``answered``: there was an answer.
    """

    cause: str
    retry_after: float | None = None
    answered: bool = False


class OutcomeUnknown(Struct, frozen=True):
    """Timeout, reset after sending, 500, 502, 504, or a 2xx without a usable id: the create may have arrived.

    ``answered``: there was an answer, but no usable one.
    """

    cause: str
    answered: bool = False


class Polled(Struct, frozen=True):
    """The plugin reported this status."""

    status: Status


class Lost(Struct, frozen=True):
    """404 or 410: the plugin does not have the job (any more)."""

    cause: str


class Entry(Struct, frozen=True):
    """One entry of a plugin's list: the operation that it names and its outcome, if it has them.

    Without an operation, the ``operation_id`` of ``response`` is empty.
    """

    operation_id: str | int | None = None
    response: Response | None = None


class Responses(Struct, frozen=True):
    """The outcomes of the operations, as the plugin listed them."""

    entries: tuple[Entry, ...]

    @property
    def responses(self) -> tuple[Response, ...]:
        """The outcomes of the entries that name their operations."""
        return tuple(
            entry.response
            for entry in self.entries
            if entry.operation_id is not None and entry.response is not None
        )


class OnTopic(Struct, frozen=True):
    """The objects of a read follow as messages on this internal topic."""

    topic: str


class NoOutcomes(Struct, frozen=True):
    """204: the plugin returns no outcomes; its status alone counts."""


class UnrecognisedResult(Struct, frozen=True):
    """A result without anything like an outcome, kept unchanged (NCMP's rule: results are data)."""

    body: bytes


class UnreadableBody(Struct, frozen=True):
    """A result that cannot be read as outcomes, kept unchanged; ``cause``: human-readable."""

    body: bytes
    cause: str


class CancelTaken(Struct, frozen=True):
    """The plugin accepted the DELETE; the status says how the sub-job ends."""


CreateAnswer = Created | Refused | Retryable | OutcomeUnknown
StatusAnswer = Polled | Lost | Retryable
ResultAnswer = (
    Responses | OnTopic | NoOutcomes | UnrecognisedResult | UnreadableBody | Refused | Lost | Retryable
)
CancelAnswer = CancelTaken | Refused | Retryable


class DmiPlugin(Protocol):
    """One DMI plugin in one dialect. Answers are bounded in size and time; redirects are not followed."""

    async def create(self, call: CreateCall) -> CreateAnswer:
        """Start a sub-job. ``Idempotency-Key`` is its id: a repeat is safe where that is honoured."""
        ...

    async def status(self, address: JobAddress) -> StatusAnswer:
        """Ask for the status of a started sub-job."""
        ...

    async def result(self, address: JobAddress) -> ResultAnswer:
        """Fetch the result of a sub-job that is terminal at the plugin."""
        ...

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        """Ask the plugin to stop a started sub-job."""
        ...

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        """Ask the plugin to start nothing more of a whole data job, not even what arrives later."""
        ...
