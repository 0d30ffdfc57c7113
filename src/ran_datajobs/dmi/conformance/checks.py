# SPDX-License-Identifier: Apache-2.0
"""Conformance checks of a DMI plugin, one per promise of its contract with NCMP, over NCMP's own client.

The checks change nothing at an element: they write only empty merges, and attributes of an object that does
not exist. Sources: ONAP CPS-NCMP data-job pages ("NCMP → DMI"), ONAP's DMI OpenAPI; ``Idempotency-Key``,
``activationMode``, guards, before-images and ``DELETE`` are this project's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct, UnsetType, structs

from ran_datajobs.dmi.conformance.reads import read_messages, read_result
from ran_datajobs.dmi.conformance.trial import (
    Ended,
    Fails,
    Finding,
    Holds,
    NotEnded,
    Skipped,
    Trial,
    step_outside,
    with_same_key,
    words,
)
from ran_datajobs.dmi.provmns.error_bodies import TYPES
from ran_datajobs.errors import ServerUnreachable
from ran_datajobs.model import ActivationMode, ObjectState, OperationState, Reason, Response, Status
from ran_datajobs.plugins.port import (
    CancelTaken,
    Created,
    Lost,
    NoOutcomes,
    OnTopic,
    OutcomeUnknown,
    Polled,
    Refused,
    Responses,
    Retryable,
    StatusAnswer,
    UnrecognisedResult,
)
from ran_datajobs.reasons import reason_of

OVERSIZE: Final = 8 * 1024 * 1024
"""Size in bytes of the value in an oversized create."""

LONG: Final = 5_000
"""Number of operations of the job that is cancelled."""

_SUCCEEDED: Final = OperationState.SUCCEEDED
_NO_END: Final = "no job came to an end"
_NO_FDN: Final = "needs --fdn: an object of the data producer"


class Line(Struct, frozen=True):
    """Result of one check."""

    name: str
    promise: str
    finding: Finding


async def check_plugin(trial: Trial) -> AsyncIterator[Line]:
    """Run all checks in order. Raises ServerUnreachable if the plugin does not answer."""
    await _reach(trial)
    for name, (promise, check) in CHECKS.items():
        yield Line(name, promise, await check(trial))


async def _reach(trial: Trial) -> None:
    probe = await trial.plugin.create(trial.call((), encoded=b"[]"))
    if isinstance(probe, Retryable) and not probe.answered:
        raise ServerUnreachable(f"the plugin cannot be reached: {probe.cause}")


async def _create(trial: Trial) -> Finding:
    first = await trial.first_write()
    return first if isinstance(first, Fails) else Holds(f"as {first[0].data_producer_job_id}")


async def _status(trial: Trial) -> Finding:
    match await trial.first_write():
        case Fails():
            return Skipped("no job was created")
        case _, NotEnded(why):
            return Fails(why)
        case _, Ended(_, statuses):
            wrong = step_outside(statuses)
            path = " → ".join(each.value for each in statuses[1:])
            return Fails(f"there is no transition {wrong}") if wrong else Holds(path)


async def _same_end(trial: Trial) -> Finding:
    ended = await _first_end(trial)
    if ended is None:
        return Skipped(_NO_END)
    again = await trial.plugin.status(ended.address)
    if again == Polled(ended.statuses[-1]):
        return Holds()
    return Fails(f"{ended.statuses[-1].value} at first, then {again}")


async def _write_result(trial: Trial) -> Finding:
    ended = await _first_end(trial)
    if ended is None:
        return Skipped(_NO_END)
    expected = [str(each.operation_id) for each in trial.subject.harmless(3)]
    responses = await _responses(trial, ended)
    if isinstance(responses, Fails):
        return responses
    if [str(each.operation_id) for each in responses] != expected:
        return Fails(
            f"operation ids {[str(each.operation_id) for each in responses]}, asked {expected}"[:300]
        )
    return Holds()


async def _written(trial: Trial) -> Finding:
    if not trial.subject.fdn:
        return Skipped(_NO_FDN)
    ended = await _first_end(trial)
    if ended is None:
        return Skipped(_NO_END)
    responses = await _responses(trial, ended)
    if isinstance(responses, Fails):
        return Skipped("there are no responses")
    return _verdict(ended, responses) or _all(responses, _SUCCEEDED)


async def _failure(trial: Trial) -> Finding:
    ended = await trial.run(trial.call([trial.subject.refused()]))
    if isinstance(ended, NotEnded):
        return Skipped(ended.why)
    responses = await _responses(trial, ended)
    if isinstance(responses, Fails):
        return Skipped("there are no responses")
    wrong = _verdict(ended, responses)
    if wrong is not None:
        return wrong
    if [each.state for each in responses] != [OperationState.FAILED]:
        return _all(responses, OperationState.FAILED)
    errors = responses[0].errors
    if not errors:
        return Holds("without an ErrorDetail of TS 28.572")
    unknown = [each.type for each in errors if each.type not in TYPES]
    return Fails(f"type {unknown[0]!r} is not a type of TS 28.572") if unknown else Holds(errors[0].reason)


async def _stop_on_error(trial: Trial) -> Finding:
    operations = [trial.subject.refused("first"), *trial.subject.harmless()]
    ended = await trial.run(trial.call(operations, ActivationMode.STOP_ON_ERROR))
    if isinstance(ended, NotEnded):
        return Skipped(ended.why)
    responses = await _responses(trial, ended)
    if isinstance(responses, Fails):
        return Skipped("there are no responses")
    states = [each.state for each in responses]
    if states == [OperationState.FAILED, OperationState.NOT_STARTED]:
        return Holds()
    return Fails(f"{_names(states)} instead of FAILED, NOT_STARTED: register it without stopOnError")


async def _guards(trial: Trial) -> Finding:
    if not trial.subject.fdn:
        return Skipped(_NO_FDN)
    ended = await trial.run(trial.call(trial.subject.guarded()))
    if isinstance(ended, NotEnded):
        return Skipped(ended.why)
    responses = await _responses(trial, ended)
    if isinstance(responses, Fails):
        return Skipped("there are no responses")
    states = [each.state for each in responses]
    if states[:-1] == [_SUCCEEDED] * 3:
        return Skipped("the plugin does not compare: register it without guards")
    reasons = {reason_of(each, OperationState.FAILED) for each in responses[1:]}
    if states != [_SUCCEEDED, *[OperationState.FAILED] * 3]:
        return Fails(f"{_names(states)} instead of SUCCEEDED and three times FAILED")
    wrong = sorted(reasons - {Reason.CHANGED_SINCE})
    return Fails(f"the reason is {', '.join(wrong)}"[:300]) if wrong else Holds()


async def _before_images(trial: Trial) -> Finding:
    if not trial.subject.fdn:
        return Skipped(_NO_FDN)
    ended = await trial.run(trial.call(trial.subject.harmless(2), images=True))
    if isinstance(ended, NotEnded):
        return Skipped(ended.why)
    responses = await _responses(trial, ended)
    if isinstance(responses, Fails):
        return Skipped("there are no responses")
    images = [each.before for each in responses if not isinstance(each.before, UnsetType)]
    if not images:
        return Skipped("no response has a before that can be read: register it without beforeImages")
    if len(images) < len(responses):
        return Fails(f"{len(images)} of {len(responses)} responses have before")
    if any(msgspec.json.decode(each, type=ObjectState).absent for each in images):
        return Fails("before is an object that does not exist")
    return Holds()


async def _repeat(trial: Trial) -> Finding:
    call = trial.call(trial.subject.harmless())
    one, two = await trial.plugin.create(call), await trial.plugin.create(call)
    if not isinstance(one, Created):
        return Skipped(words(one))
    return Holds() if one == two else Fails(f"{words(two)}: register it without idempotent")


async def _key_conflict(trial: Trial) -> Finding:
    call = trial.call(trial.subject.harmless())
    one = await trial.plugin.create(call)
    if not isinstance(one, Created):
        return Skipped(words(one))
    if await trial.plugin.create(call) != one:
        return Skipped("the plugin does not honour the key")
    two = await trial.plugin.create(with_same_key(call, trial.call(trial.subject.harmless(2))))
    return Holds(two.cause) if isinstance(two, Refused) else Fails(words(two))


async def _another_key(trial: Trial) -> Finding:
    one = await trial.plugin.create(trial.call(trial.subject.harmless()))
    two = await trial.plugin.create(trial.call(trial.subject.harmless()))
    if not isinstance(one, Created) or not isinstance(two, Created):
        return Skipped(words(one if not isinstance(one, Created) else two))
    return Holds() if one != two else Fails(f"both are {one.data_producer_job_id}")


async def _unknown_job(trial: Trial) -> Finding:
    address = trial.elsewhere()
    status, result = await trial.plugin.status(address), await trial.plugin.result(address)
    wrong = [
        f"{name}: {answer}"
        for name, answer in (("status", status), ("result", result))
        if not isinstance(answer, Lost)
    ]
    return Fails("; ".join(wrong)[:300]) if wrong else Holds(status.cause if isinstance(status, Lost) else "")


async def _bad_body(trial: Trial) -> Finding:
    for encoded in (b'[{"op":"copy","path":"/A=1","operationId":"1"}]', b'{"not":"a list"}', b"[{"):
        answer = await trial.plugin.create(trial.call((), encoded=encoded))
        if not isinstance(answer, Refused):
            return Fails(f"{encoded.decode()} is {words(answer)}")
    return Holds()


async def _oversize(trial: Trial) -> Finding:
    answer = await trial.plugin.create(trial.call([trial.subject.refused(size=OVERSIZE)]))
    if isinstance(answer, Retryable | OutcomeUnknown):
        return Fails(words(answer))
    after = await trial.plugin.status(trial.elsewhere())
    return Holds(words(answer)) if isinstance(after, Lost | Polled) else Fails(f"afterwards {after.cause}")


async def _cancel(trial: Trial) -> Finding:
    if await _first_end(trial) is None:
        return Skipped(_NO_END)
    call = trial.call(trial.subject.harmless(LONG))
    created = await trial.plugin.create(call)
    if not isinstance(created, Created):
        return Skipped(words(created))
    address = trial.address(call, created.data_producer_job_id)
    asked = await trial.plugin.cancel(address)
    match asked:
        case CancelTaken():
            pass
        case Refused(cause) if cause.endswith((" 404", " 405", " 501")):
            return Skipped(f"the plugin cannot cancel ({cause}): its jobs run to their end")
        case Refused(cause) if cause.endswith(" 409"):
            return ended_before(await trial.plugin.status(address))
        case _:
            return Fails(asked.cause)
    after = await trial.plugin.status(address)
    ended = await trial.until_ended(address)
    if isinstance(ended, NotEnded):
        return Fails(f"DELETE was accepted, then {ended.why}")
    seen = ended.statuses[1:]
    if isinstance(after, Polled) and after.status is not seen[0]:
        seen = (after.status, *seen)
    if wrong := step_outside((Status.NOT_STARTED, *seen)):
        return Fails(f"there is no transition {wrong}")
    responses = await _responses(trial, ended)
    states = () if isinstance(responses, Fails) else tuple(each.state for each in responses)
    return stopped(seen, states)


async def _bulk_cancel(trial: Trial) -> Finding:
    if await _first_end(trial) is None:
        return Skipped(_NO_END)
    call = trial.call(trial.subject.harmless(LONG))
    created = await trial.plugin.create(call)
    if not isinstance(created, Created):
        return Skipped(words(created))
    match await trial.plugin.cancel_job(call.job_id, is_read=False):
        case CancelTaken():
            pass
        case Refused(cause) if cause.endswith((" 404", " 405", " 501")):
            return Skipped(f"the plugin cannot cancel a whole job ({cause}): register it without bulkCancel")
        case Refused(cause) | Retryable(cause):
            return Fails(cause)
    ended = await trial.until_ended(trial.address(call, created.data_producer_job_id))
    if isinstance(ended, NotEnded):
        return Fails(f"DELETE was accepted, then {ended.why}")
    responses = await _responses(trial, ended)
    states = () if isinstance(responses, Fails) else tuple(each.state for each in responses)
    first = stopped(ended.statuses[1:], states)
    return first if isinstance(first, Fails) else await _later(trial, call.job_id)


async def _later(trial: Trial, job_id: str) -> Finding:
    """Check that a create of a data job that was cancelled before is not executed."""
    call = structs.replace(trial.call(trial.subject.harmless()), job_id=job_id)
    created = await trial.plugin.create(call)
    if isinstance(created, Refused):
        return Holds(f"a later create is {words(created)}")
    if not isinstance(created, Created):
        return Fails(f"a later create: {words(created)}")
    ended = await trial.until_ended(trial.address(call, created.data_producer_job_id))
    if isinstance(ended, NotEnded):
        return Fails(f"a later create is accepted, then {ended.why}")
    status = ended.statuses[-1]
    note = f"a later create is accepted, and is {status.value}"
    return Holds(note) if status is Status.CANCELLED else Fails(f"{note}: register it without bulkCancel")


def ended_before(answer: StatusAnswer) -> Finding:
    """Check, after a DELETE that was answered with 409, that the job has ended."""
    if isinstance(answer, Polled) and answer.status.terminal:
        return Holds(f"409: the job had ended {answer.status.value} before")
    found = answer.status.value if isinstance(answer, Polled) else answer.cause
    return Fails(f"409 to DELETE, yet the job has not ended: {found}")


def stopped(seen: Sequence[Status], outcomes: Sequence[object]) -> Finding:
    """Check that an accepted DELETE took effect. ``seen``: the statuses after it, the last one terminal.

    Allowed are CANCELLED; a final status in the first poll, which the job had before; and a final status
    after CANCELLING, when nothing was left to stop. Without CANCELLED, the ``outcomes`` of the operations, if
    known, must not contain NOT_STARTED.
    """
    path = "DELETE was accepted, then " + " → ".join(each.value for each in seen)
    if seen[-1] is Status.CANCELLED:
        return Holds(path)
    if OperationState.NOT_STARTED in outcomes:
        return Fails(f"{path}, though operations were not started")
    if len(seen) == 1:
        return Holds(f"{path}: the job had ended before")
    if seen[-2] is Status.CANCELLING:
        return Holds(f"{path}: nothing was left to stop")
    return Fails(f"{path}: the DELETE had no effect")


CHECKS: Final[dict[str, tuple[str, Callable[[Trial], Awaitable[Finding]]]]] = {
    "create": ("a create is answered with 200, 201 or 202 and an id", _create),
    "status": ("the status is a known word, follows the transitions, and ends", _status),
    "same-end": ("a job that ended has the same status in a later poll", _same_end),
    "write-result": ("a write's result has a response per operation, in order", _write_result),
    "written": ("a write that changes nothing succeeds, and the status says so", _written),
    "failure": ("a write to no object fails, and the status says so", _failure),
    "stop-on-error": ("under STOP_ON_ERROR nothing follows the first failure", _stop_on_error),
    "guards": ("a write whose expect does not hold fails, CHANGED_SINCE", _guards),
    "before-images": ("the responses to writes have before, where beforeImages asks for it", _before_images),
    "repeat": ("a repeated create with its Idempotency-Key is the same job", _repeat),
    "key-conflict": ("a key that was used with another body is refused", _key_conflict),
    "another-key": ("a create with another key is another job", _another_key),
    "read": ("a read ends, and its result names NCMP's topic or has the responses", read_result),
    "read-messages": ("a read's messages come on its topic, whole and with their headers", read_messages),
    "unknown-job": ("status and result of an unknown job are 404 or 410", _unknown_job),
    "bad-body": ("a create that cannot be read is refused with a 4xx", _bad_body),
    "oversize": (f"a create of {OVERSIZE >> 20} MiB is accepted or refused, not dropped", _oversize),
    "cancel": ("DELETE stops a job, or says that it cannot or that it has ended", _cancel),
    "bulk-cancel": ("DELETE of a whole job stops it and its later creates", _bulk_cancel),
}
"""The checks by name, in order, with the promise of each."""


async def _first_end(trial: Trial) -> Ended | None:
    first = await trial.first_write()
    return None if isinstance(first, Fails) or isinstance(first[1], NotEnded) else first[1]


async def _responses(trial: Trial, ended: Ended) -> tuple[Response, ...] | Fails:
    match await trial.plugin.result(ended.address):
        case Responses(entries) as answer:
            if len(answer.responses) < len(entries):
                return Fails("the result has a response without its operationId or its outcome")
            return answer.responses
        case UnrecognisedResult() | NoOutcomes():
            return Fails("the result has no responses: its outcomes would follow from the status alone")
        case OnTopic(topic):
            return Fails(f"the result of a write names topic {topic}")
        case answer:
            return Fails(answer.cause)


def _verdict(ended: Ended, responses: Sequence[Response]) -> Fails | None:
    """Check that the status matches the outcomes."""
    good = sum(each.state is _SUCCEEDED for each in responses)
    expected = Status.PARTIALLY_FAILED
    if good in (0, len(responses)):
        expected = Status.FINISHED if good else Status.FAILED
    last = ended.statuses[-1]
    if last is expected:
        return None
    return Fails(f"the status is {last.value}, its outcomes are {_names([each.state for each in responses])}")


def _all(responses: Sequence[Response], state: OperationState) -> Finding:
    states = [each.state for each in responses]
    return Holds() if set(states) == {state} else Fails(f"{_names(states)} instead of {state.value}")


def _names(states: Sequence[object]) -> str:
    return ", ".join(str(state) for state in states[:10])
