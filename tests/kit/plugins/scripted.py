# SPDX-License-Identifier: Apache-2.0
"""DMI plugin with scripted misbehaviour per data producer, for tests and demonstrations.

It implements both dialects over real HTTP, executes nothing, and keeps a history of the accepted operations.
It stores nothing on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from ran_datajobs.dmi.bodies import onap_job, seed_job
from ran_datajobs.dmi.jobs import NewJob
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.model import ActivationMode, Operation, OperationState, Response, Status, read_status
from ran_datajobs.plugins import wire

MAX_HISTORY: Final = 100_000
MAX_OPERATIONS: Final = 1_000_000
MAX_KEPT: Final = 500
_MAX_BODY: Final = 512 * 1024 * 1024
_OPERATIONS: Final = msgspec.json.Decoder(list[Operation])
_CODES: Final = {OperationState.SUCCEEDED: 0}
_T = TypeVar("_T")


class Step(enum.StrEnum):
    """Behaviour of one call."""

    OBEY = "obey"  # by the contract
    REFUSE = "refuse"  # 400
    ECHO = "echo"  # 400; its detail repeats the whole request, private properties included
    BUSY = "busy"  # 503 with Retry-After: 1
    ERROR = "error"  # 500
    NOT_IMPLEMENTED = "not implemented"  # 501, like ONAP's plugin
    LOSE = "lose"  # 404
    WRONG_SHAPE = "wrong shape"  # 200 with JSON of no known shape
    NOT_JSON = "not json"  # 200 with bytes that are not JSON
    HUGE = "huge"  # 200 with a body that never ends
    STALL = "stall"  # no answer at all
    DROP = "drop"  # the connection is closed instead of an answer
    CUT = "cut"  # the connection is closed within the answer's body
    GARBAGE = "garbage"  # bytes that are not HTTP
    REDIRECT = "redirect"  # 307 to another path
    NOT_YET = "not yet"  # 202 without a body
    NOTHING = "nothing"  # 204


class Script(Struct, frozen=True):
    """Behaviour of the calls for one data producer.

    Each call consumes one step of its tuple; the last one is reused. ``statuses`` are the status texts of
    the obeyed polls, consumed likewise, for a plugin that is wrong, slow or flapping. ``executes``: a create
    is executed even if its answer misbehaves (but not when refused or busy). ``honours_key``: a repeat with
    the same ``Idempotency-Key`` is the same job, and is refused if its body differs; ``stops``:
    STOP_ON_ERROR is honoured. ``outcome`` is the outcome of every operation in the result, but FAILED if its
    path contains ``refuses`` (not empty); a finished status is then replaced by the resulting one.
    ``result_body`` replaces the obeyed result. ``mark`` is sent before each JSON answer, such as the byte
    order mark of some HTTP stacks.
    """

    create: tuple[Step, ...] = (Step.OBEY,)
    status: tuple[Step, ...] = (Step.OBEY,)
    result: tuple[Step, ...] = (Step.OBEY,)
    cancel: tuple[Step, ...] = (Step.OBEY,)
    statuses: tuple[str, ...] = ("FINSHED",)
    outcome: OperationState = OperationState.SUCCEEDED
    executes: bool = True
    honours_key: bool = True
    stops: bool = True
    refuses: str = ""
    result_body: bytes | None = None
    mark: bytes = b""


class Executed(Struct, frozen=True):
    """An accepted job; the history has them in order of acceptance."""

    data_producer_job_id: str
    request_id: str
    sub_job_id: str
    data_producer_id: str
    operations: tuple[Operation, ...]
    is_read: bool
    activation_mode: ActivationMode = ActivationMode.BEST_EFFORT
    fingerprint: bytes = b""


class Call(Struct, frozen=True):
    """A received call: ``create``, ``status``, ``result`` or ``cancel``; ``cancel all`` has no data producer,
    and the data job in ``sub_job_id``. Of a create also the destination, and the start of its body."""

    kind: str
    data_producer_id: str
    sub_job_id: str = ""
    destination: str = ""
    body: bytes = b""


class Received(Struct, frozen=True):
    """A request as it arrived, before any script."""

    method: str
    path: str
    content_type: str
    authorization: str | None


class Manner(Struct):
    """What a plugin is, for all data producers; it may be changed while the plugin runs.

    ``speaks``: its dialects; a call of another one is answered with ``absent``, a status. ``media_types``:
    those of creates that it takes, others are answered with 415; none: all. ``authorization``: the header
    that it wants, other calls are answered with 401, which repeats the header. ``health``: its ``status``,
    none: 404; DOWN is a 503. ``healthz``: whether it has ``/healthz``. ``modules``: those of every handle, or
    a status.
    """

    speaks: tuple[wire.Dialect, ...] = tuple(wire.Dialect)
    absent: int = 404
    media_types: tuple[str, ...] = ()
    authorization: str | None = None
    health: str | None = None
    healthz: bool = False
    modules: list[dict[str, str]] | int = 404


class _Progress:
    """Remaining steps of the script of one data producer."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._steps = {
            "create": deque(script.create),
            "status": deque(script.status),
            "result": deque(script.result),
            "cancel": deque(script.cancel),
        }
        self._statuses = deque(script.statuses)

    def step(self, kind: str) -> Step:
        return _taken(self._steps[kind])

    def word(self) -> str:
        return _taken(self._statuses)


class ScriptedPlugin:
    """Plugin that :meth:`serving` runs; it records accepted jobs in ``history`` and all calls in ``calls``.

    ``default`` is the script of a data producer that has none. ``changed`` is set after every call.
    ``cancel_all``: one step per DELETE of a whole job; the last one is reused. ``received``: every request.
    """

    def __init__(
        self,
        default: Script | None = None,
        cancel_all: Sequence[Step] = (Step.OBEY,),
        manner: Manner | None = None,
    ) -> None:
        self.manner = manner or Manner()
        self.received: deque[Received] = deque(maxlen=MAX_HISTORY)
        self.asked_modules: list[tuple[str, dict[str, object]]] = []  # handle, and body
        self.history: deque[Executed] = deque(maxlen=MAX_HISTORY)
        self.calls: deque[Call] = deque(maxlen=MAX_HISTORY)
        self.changed = asyncio.Event()
        self._default = default or Script()
        self._progress: dict[str, _Progress] = {}
        self._jobs: dict[str, Executed] = {}
        self._keys: dict[str, str] = {}
        self._cancelled: set[str] = set()  # ids of jobs, and of whole data jobs
        self._cancel_all = deque(cancel_all)
        self._closing = asyncio.Event()

    def script(self, data_producer_id: str, script: Script) -> None:
        """Set the script of a data producer, starting at its first step."""
        self._progress[data_producer_id] = _Progress(script)

    @contextlib.asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Listen for the duration of the block and yield the base address."""
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[self._admit])
        app.add_routes(
            [
                web.post(wire.aiohttp_route(wire.SEED_CREATE), self._create),
                web.post(wire.aiohttp_route(wire.ONAP_CREATE_WRITE), self._create),
                web.post(wire.aiohttp_route(wire.ONAP_CREATE_READ), self._create),
                web.get(wire.aiohttp_route(wire.SEED_STATUS), self._status),
                web.get(wire.aiohttp_route(wire.ONAP_STATUS), self._status),
                web.get(wire.aiohttp_route(wire.SEED_RESULT), self._result),
                web.get(wire.aiohttp_route(wire.ONAP_RESULT), self._result),
                web.delete(wire.aiohttp_route(wire.SEED_JOB), self._cancel),
                web.delete(wire.aiohttp_route(wire.ONAP_JOB), self._cancel),
                web.delete(wire.aiohttp_route(wire.SEED_WHOLE_JOB), self._cancel_whole),
                web.delete(wire.aiohttp_route(wire.ONAP_WHOLE_WRITE_JOB), self._cancel_whole),
                web.delete(wire.aiohttp_route(wire.ONAP_WHOLE_READ_JOB), self._cancel_whole),
                web.post(wire.aiohttp_route(wire.MODULES), self._modules),
                web.get(wire.ACTUATOR_HEALTH, self._health),
                web.get(wire.HEALTHZ, self._healthz),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            bound = runner.addresses[0]
            yield f"http://{host}:{bound[1]}"
        finally:
            self._closing.set()
            await runner.cleanup()

    @web.middleware
    async def _admit(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        manner, authorization = self.manner, request.headers.get("Authorization")
        self.received.append(Received(request.method, request.path, request.content_type, authorization))
        if manner.authorization not in (None, authorization):
            return _problem(401, f"not with {authorization}")
        dialect = _dialect_of(request.path)
        if dialect is not None and dialect not in manner.speaks:
            return _problem(manner.absent, "no such call")
        is_create = request.method == "POST" and dialect is not None
        if is_create and manner.media_types and request.content_type not in manner.media_types:
            return _problem(415, "no such media type")
        return await handler(request)

    async def _modules(self, request: web.Request) -> web.StreamResponse:
        self.asked_modules.append((request.match_info["cm_handle"], await request.json()))
        modules = self.manner.modules
        if isinstance(modules, int):
            return _problem(modules, "by its manner")
        return _json({"schemas": modules}, 200)

    async def _health(self, _: web.Request) -> web.StreamResponse:
        status = self.manner.health
        if status is None:
            return _problem(404, "no such call")
        return _json({"status": status}, 503 if status == "DOWN" else 200)

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return _json({"status": "ok"}, 200) if self.manner.healthz else _problem(404, "no such call")

    async def _create(self, request: web.Request) -> web.StreamResponse:
        try:
            new = await _new_job(request)
        except InvalidRequest as error:
            return _problem(400, error.detail)
        progress = self._of(new.data_producer_id)
        step = progress.step("create")
        begin = (await request.read())[:MAX_KEPT]
        self._called(Call("create", new.data_producer_id, new.sub_job_id, new.destination, begin))
        if step in {Step.REFUSE, Step.ECHO, Step.BUSY, Step.NOT_IMPLEMENTED, Step.LOSE, Step.REDIRECT}:
            return await self._misbehave(request, step, progress.script.mark)
        if self._contradicts(new, progress):
            return _problem(409, "the key belongs to another request")
        job_id = self._take(new, progress) if progress.script.executes or step is Step.OBEY else ""
        if step is not Step.OBEY:
            return await self._misbehave(request, step)
        seed = request.path.startswith("/dmi/v1/dataJob/")
        created = {wire.CREATED_ID[wire.Dialect.SEED if seed else wire.Dialect.ONAP]: job_id}
        return _json(created, 201, progress.script.mark)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        job, step = self._asked("status", request)
        if step is not Step.OBEY or job is None:
            return await self._misbehave(request, step if job else Step.LOSE)
        cancelled = self._is_cancelled(job)
        progress = self._of(job.data_producer_id)
        word = "CANCELLED" if cancelled else progress.word()
        if progress.script.refuses and not cancelled and read_status(word) is Status.FINISHED:
            word = _verdict(_outcomes(job, progress.script), word)
        return _json(wire.StatusBody(word), 200, progress.script.mark)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        job, step = self._asked("result", request)
        if step is not Step.OBEY or job is None:
            return await self._misbehave(request, step if job else Step.LOSE)
        script = self._of(job.data_producer_id).script
        outcomes = _outcomes(job, script)
        if self._is_cancelled(job):
            outcomes = [OperationState.NOT_STARTED] * len(outcomes)
        body = script.result_body
        if body is None:
            body = msgspec.json.encode({"responses": _responses(job.operations, outcomes)})
        return web.Response(body=script.mark + body, content_type=wire.JSON)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        job, step = self._asked("cancel", request)
        if step is not Step.OBEY or job is None:
            return await self._misbehave(request, step if job else Step.LOSE)
        self._cancelled.add(job.data_producer_job_id)
        return _json(wire.StatusBody("CANCELLING"), 202)

    async def _cancel_whole(self, request: web.Request) -> web.StreamResponse:
        request_id, step = request.match_info["request_id"], _taken(self._cancel_all)
        self._called(Call("cancel all", "", request_id))
        if step is not Step.OBEY:
            return await self._misbehave(request, step)
        self._cancelled.add(request_id)
        return _json(wire.StatusBody("CANCELLING"), 202)

    def _is_cancelled(self, job: Executed) -> bool:
        return not self._cancelled.isdisjoint((job.data_producer_job_id, job.request_id))

    def _of(self, data_producer_id: str) -> _Progress:
        return self._progress.setdefault(data_producer_id, _Progress(self._default))

    def _called(self, call: Call) -> None:
        self.calls.append(call)
        self.changed.set()

    def _asked(self, kind: str, request: web.Request) -> tuple[Executed | None, Step]:
        job = self._jobs.get(request.match_info["data_producer_job_id"])
        if job is None:
            return None, Step.LOSE
        self._called(Call(kind, job.data_producer_id, job.sub_job_id))
        return job, self._of(job.data_producer_id).step(kind)

    def _contradicts(self, new: NewJob, progress: _Progress) -> bool:
        earlier = self._keys.get(new.sub_job_id) if new.sub_job_id and progress.script.honours_key else None
        return earlier is not None and self._jobs[earlier].fingerprint != new.fingerprint

    def _take(self, new: NewJob, progress: _Progress) -> str:
        if new.sub_job_id and progress.script.honours_key and new.sub_job_id in self._keys:
            return self._keys[new.sub_job_id]
        job = Executed(
            f"scripted-{len(self._jobs) + 1}",
            new.request_id,
            new.sub_job_id,
            new.data_producer_id,
            tuple(_OPERATIONS.decode(new.operations)),
            new.is_read,
            new.activation_mode,
            new.fingerprint,
        )
        self._jobs[job.data_producer_job_id] = job
        self._keys[new.sub_job_id] = job.data_producer_job_id
        self.history.append(job)
        return job.data_producer_job_id

    async def _misbehave(self, request: web.Request, step: Step, mark: bytes = b"") -> web.StreamResponse:
        match step:
            case Step.REFUSE:
                return _problem(400, "refused by its script", mark=mark)
            case Step.ECHO:
                return _problem(400, (await request.read()).decode(errors="replace"))
            case Step.BUSY:
                return _problem(503, "busy by its script", {"Retry-After": "1"})
            case Step.NOT_IMPLEMENTED:
                return _problem(501, "not implemented")
            case Step.LOSE:
                return _problem(404, "no such job")
            case Step.REDIRECT:
                return web.Response(status=307, headers={"Location": "/elsewhere"})
            case Step.NOT_YET:
                return web.Response(status=202)
            case Step.NOTHING:
                return web.Response(status=204)
            case Step.WRONG_SHAPE:
                return web.Response(body=b'{"verdict":["fine"]}', content_type=wire.JSON)
            case Step.NOT_JSON:
                return web.Response(body=b"\xff\xfe{", content_type=wire.JSON)
            case Step.HUGE:
                return await _endless(request)
            case Step.STALL:
                await self._closing.wait()
            case Step.CUT:
                return await _cut(request)
            case Step.GARBAGE:
                if request.transport is not None:
                    request.transport.write(b"\x00\x01 no such protocol\r\n\r\n")
            case Step.DROP | Step.ERROR | Step.OBEY:
                pass
        if step is Step.ERROR:
            return _problem(500, "failed by its script")
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)


def _dialect_of(path: str) -> wire.Dialect | None:
    if path.startswith("/dmi/v1/dataJob/"):
        return wire.Dialect.SEED
    return wire.Dialect.ONAP if path.startswith("/dmi/v1/cm") else None


def _taken(steps: deque[_T]) -> _T:
    return steps.popleft() if len(steps) > 1 else steps[0]


async def _new_job(request: web.Request) -> NewJob:
    body = await request.read()
    key = request.headers.get(wire.IDEMPOTENCY_KEY, "")
    destination = request.query.get(wire.DESTINATION, "")
    if "request_id" in request.match_info:
        return seed_job(request.match_info["request_id"], destination, key, body, MAX_OPERATIONS)
    is_read = request.path == wire.ONAP_CREATE_READ
    return onap_job(is_read, destination, key, body, MAX_OPERATIONS)


def _outcomes(job: Executed, script: Script) -> list[OperationState]:
    outcomes: list[OperationState] = []
    stop = script.stops and job.activation_mode is ActivationMode.STOP_ON_ERROR
    for operation in job.operations:
        if stop and OperationState.FAILED in outcomes:
            outcomes.append(OperationState.NOT_STARTED)
        else:
            refused = script.refuses and script.refuses in operation.path
            outcomes.append(OperationState.FAILED if refused else script.outcome)
    return outcomes


def _verdict(outcomes: Sequence[OperationState], finished: str) -> str:
    good = outcomes.count(OperationState.SUCCEEDED)
    if good == len(outcomes):
        return finished
    return (Status.PARTIALLY_FAILED if good else Status.FAILED).value


def _responses(operations: Sequence[Operation], outcomes: Sequence[OperationState]) -> list[Response]:
    return [
        Response(
            operation.operation_id, _CODES.get(outcome, 108), f"scripted: {outcome.value}", state=outcome
        )
        for operation, outcome in zip(operations, outcomes, strict=True)
    ]


def _json(body: object, status: int, mark: bytes = b"") -> web.Response:
    return web.Response(body=mark + msgspec.json.encode(body), status=status, content_type=wire.JSON)


def _problem(
    status: int, detail: str, headers: dict[str, str] | None = None, mark: bytes = b""
) -> web.Response:
    body = mark + msgspec.json.encode({"title": "scripted", "status": status, "detail": detail})
    return web.Response(body=body, status=status, headers=headers, content_type=wire.PROBLEM_JSON)


async def _cut(request: web.Request) -> web.StreamResponse:
    """Send less than the announced Content-Length, then close the connection."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": wire.JSON})
    await response.prepare(request)
    await response.write(b'{"status": "FIN')
    if request.transport is not None:
        request.transport.close()
    return response


async def _endless(request: web.Request) -> web.StreamResponse:
    """Send until the peer closes the connection."""
    response = web.StreamResponse(headers={"Content-Type": wire.JSON})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * 1_048_576)
    return response
