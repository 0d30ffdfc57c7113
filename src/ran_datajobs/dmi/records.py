# SPDX-License-Identifier: Apache-2.0
"""Records of a job of the reference plugin, and their transitions (pure)."""

from __future__ import annotations

from msgspec import Struct, structs

from ran_datajobs.errors import DataJobsError
from ran_datajobs.model import ALLOWED, ActivationMode, Status


class AcceptedJob(Struct, frozen=True):
    """An accepted request; immutable.

    ``job_id`` is the data-producer-job id. ``sub_job_id`` is the ``Idempotency-Key``, empty when none was
    given. ``created_at`` is seconds since 1970. ``before_images``: the responses to a write are to have them.
    Private properties are not part of it: the decoder of the body drops them, so that no answer, file or log
    can contain them.
    """

    job_id: str
    request_id: str
    sub_job_id: str
    data_producer_id: str
    destination: str
    accept_type: str
    activation_mode: ActivationMode
    is_read: bool
    total: int
    created_at: float
    before_images: bool = False


class JobState(Struct, frozen=True):
    """Progress of a job, as in the journal.

    Operations before ``done`` have an outcome; those from ``done`` to ``started`` may or may not have been
    executed; those from ``started`` on were not executed. ``stopped``: a failure under STOP_ON_ERROR.
    ``messages``: number of messages of a read, once all are in the journal; ``published``: number of them
    on the bus.
    """

    job: AcceptedJob
    status: Status = Status.NOT_STARTED
    cancel_asked: bool = False
    started: int = 0
    done: int = 0
    succeeded: int = 0
    stopped: bool = False
    messages: int | None = None
    published: int = 0

    @property
    def uncertain(self) -> int:
        """Number of operations that may or may not have been executed."""
        return self.started - self.done

    @property
    def halted(self) -> bool:
        """Whether no further operation may be executed."""
        return self.cancel_asked or self.stopped


def running(state: JobState) -> JobState:
    """``state`` in RUNNING if it is NOT_STARTED; a job in CANCELLING keeps that status."""
    return _moved(state, Status.RUNNING) if state.status is Status.NOT_STARTED else state


def cancelling(state: JobState) -> JobState:
    """``state`` in CANCELLING, with ``cancel_asked``."""
    if state.status is not Status.CANCELLING:
        state = _moved(state, Status.CANCELLING)
    return structs.replace(state, cancel_asked=True)


def ended(state: JobState, not_started: int) -> JobState:
    """``state`` in its final status; ``not_started`` operations were never executed.

    The first rule that applies: every operation succeeded, FINISHED; a cancel left some unexecuted,
    CANCELLED; none succeeded, FAILED; else PARTIALLY_FAILED.
    """
    if state.succeeded == state.job.total:
        verdict = Status.FINISHED
    elif state.cancel_asked and not_started:
        verdict = Status.CANCELLED
    elif state.succeeded == 0:
        verdict = Status.FAILED
    else:
        verdict = Status.PARTIALLY_FAILED
    return _moved(running(state), verdict)


def undeliverable(state: JobState) -> JobState:
    """``state`` of a read whose messages could not be published: FAILED."""
    return _moved(running(state), Status.FAILED)


def _moved(state: JobState, status: Status) -> JobState:
    if status not in ALLOWED[state.status]:
        raise DataJobsError(f"{state.job.job_id}: there is no transition from {state.status} to {status}")
    return structs.replace(state, status=status)
