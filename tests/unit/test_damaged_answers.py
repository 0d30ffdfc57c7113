# SPDX-License-Identifier: Apache-2.0
"""Results of plugins, well-formed and then damaged: an operation that failed never counts as succeeded.

A result is generated with the true outcome of each operation, and then damaged: types, encodings, byte order
marks, cuts, two documents, order, contradicting doubles, lost, misspelt, wrapped and added members,
contradicting codes and states, size. Damage that no reader could detect is excluded: no damage erases all
signs of a failure *and* adds a success in its place, and none moves entries that have no names.
"""

from __future__ import annotations

import enum
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from ran_datajobs.messaging.bus import Message, Received
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import JobType, Op, Operation, OperationState, Response, Status
from ran_datajobs.plugins.answers import result_answer
from ran_datajobs.plugins.client import Answered
from ran_datajobs.plugins.port import Responses, UnreadableBody, UnrecognisedResult
from ran_datajobs.plugins.wire import Dialect
from ran_datajobs.results import outcomes
from ran_datajobs.results.read_results import read_message
from ran_datajobs.results.responses import documents
from ran_datajobs.store.results import Arrived

EXAMPLES: Final = max(300, settings.default.max_examples)  # type: ignore[union-attr]
"""A sample in `make test`; `make nightly` runs more."""

SUCCEEDED: Final = OperationState.SUCCEEDED
FAILURES: Final = [OperationState.FAILED, OperationState.NOT_STARTED, OperationState.UNKNOWN]
MARK: Final = b"\xef\xbb\xbf"
KEPT: Final = "job/sub-job/plugin-result"

OUTCOME: Final = ("statusCode", "state")
OTHER: Final = ("statusMessage", "request", "errors", "result", "reason")


class Harm(enum.Enum):
    """Damage to the entries of one operation that failed."""

    NONE = enum.auto()
    CONTRADICTED = enum.auto()  # a success is added; the true outcome is still there
    ERASED = enum.auto()  # the true outcome is lost, in part or as a whole; nothing contradicts it


@dataclass
class Entry:
    """One response before it is written: names and JSON texts, so that a name can occur twice."""

    operation: Operation
    members: list[tuple[str, str]]
    whole: str | None = None  # replaces the entry
    named: bool = True
    has_data: bool = True

    @property
    def is_read(self) -> bool:
        return self.operation.op is Op.READ

    def text(self) -> str:
        if self.whole is not None:
            return self.whole
        return "{" + ",".join(f"{name}:{value}" for name, value in self.members) + "}"

    def find(self, name: str) -> list[int]:
        return [place for place, (each, _) in enumerate(self.members) if each == quoted(name)]


@dataclass
class Damaged:
    """A body, the true outcomes, and what remains of them."""

    operations: list[Operation]
    truth: dict[str, OperationState]
    body: bytes
    reported: Status
    is_read: bool
    readable: bool  # whether a list of responses can still be found
    intact: set[str] = field(default_factory=set)  # operations whose one entry is undamaged
    without_data: set[str] = field(default_factory=set)  # reads whose result is no data any more
    all_named: bool = True
    stray: bool = False  # whether one of the entries belongs to no operation

    def __repr__(self) -> str:
        truth = {name: state.value for name, state in self.truth.items()}
        shown = self.body if len(self.body) < 2000 else self.body[:2000] + b"..."
        return f"{truth} {self.reported.value} {'read' if self.is_read else 'write'} {shown!r}"


def quoted(text: str) -> str:
    return json.dumps(text)


def escaped(name: str) -> str:
    """The same member name, with one letter written as an escape."""
    return f'"{name[:2]}\\u{ord(name[2]):04x}{name[3:]}"'


json_values = st.recursive(
    st.sampled_from([None, True, False, 0, 108, -1, 0.5, "", "0", "SUCCEEDED", "FAILED", "é"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["a", "state", "statusCode", "responses", "result"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)

# --- well-formed -------------------------------------------------------------------------------------


def operation_ids(dialect: Dialect) -> st.SearchStrategy[list[str | int]]:
    ids = st.text(st.sampled_from("ab1é /"), min_size=1, max_size=3)
    some: st.SearchStrategy[str | int] = ids if dialect is Dialect.ONAP else ids | st.integers(0, 30)
    return st.lists(some, min_size=1, max_size=5, unique_by=str)


@st.composite
def well_formed(draw: st.DrawFn, operation: Operation, state: OperationState) -> Entry:
    """A response that gives ``state`` by its code, by its state or by both."""
    code = draw(st.sampled_from([0, 1, 99]) if state is SUCCEEDED else st.sampled_from([100, 108, 199, 500]))
    given_by = draw(st.sampled_from(["both", "state", "code"]))
    if given_by == "code" and state not in {SUCCEEDED, OperationState.FAILED}:
        given_by = "both"
    members: dict[str, Any] = {"operationId": operation.operation_id}
    if given_by != "state":
        members["statusCode"] = code
    if given_by != "code":
        members["state"] = state.value
    extra: dict[str, Any] = {
        "statusMessage": draw(st.sampled_from(["applied", "no", "é", ""])),
        "request": {"op": operation.op, "path": operation.path},
    }
    if operation.op is Op.READ and state is SUCCEEDED:
        extra["result"] = [{"id": "1", "attributes": {"state": "x", "error": 1}}]
    if state is not SUCCEEDED:
        extra["errors"] = [{"type": "OTHER", "badDataNode": operation.path, "reason": "OTHER"}]
        extra["reason"] = "R"
    left_out = draw(st.sets(st.sampled_from(["statusMessage", "request", "errors", "reason"])))
    members |= {name: value for name, value in extra.items() if name not in left_out}
    ascii_only = draw(st.booleans())
    return Entry(
        operation,
        [(quoted(name), json.dumps(value, ensure_ascii=ascii_only)) for name, value in members.items()],
    )


# --- damage to one entry -----------------------------------------------------------------------------

SAME_CODE: Final[list[Callable[[str], str]]] = [
    lambda text: f"{text}.0",
    lambda text: f'"{text}"',
    lambda text: f'" {text}.0 "',
    lambda text: f"{text}e0",
]
ODD: Final = ["null", "true", "false", "0.5", "1e999", '"abc"', '""', "[]", "{}", "[0]", '{"value":0}', "-"]
HALF: Final = '"a\\ud83d"'
"""A text that was cut within a character: half of a surrogate pair."""
MISSPELT: Final[list[Callable[[str], str]]] = [
    str.lower,
    str.upper,
    str.title,
    lambda name: name[0].upper() + name[1:],
    lambda name: "".join(f"_{c.lower()}" if c.isupper() else c for c in name) + "_" * name.islower(),
    lambda name: "".join(f"-{c.lower()}" if c.isupper() else c for c in name) + " " * name.islower(),
    lambda name: f" {name}",
]
BROKEN: Final[list[Callable[[str], str]]] = [lambda name: name[:-1], lambda name: name + name[-1]]


def spoil_other(draw: st.DrawFn, entry: Entry) -> None:
    """A member without the outcome is odd, lost, misspelt or doubled."""
    name = draw(st.sampled_from([each for each in OTHER if each != "result" or not entry.is_read]))
    value = draw(st.sampled_from([*ODD[:-1], "17", '"none"', '[{"type":5},7]', '{"op":1}', HALF]))
    places = entry.find(name)
    match draw(st.sampled_from(["odd", "lost", "misspelt", "doubled"])):
        case "odd" if places:
            entry.members[places[0]] = (quoted(name), value)
        case "lost" if places:
            del entry.members[places[0]]
        case "misspelt" if places:
            entry.members[places[0]] = (quoted(draw(st.sampled_from(MISSPELT))(name)), value)
        case _:
            entry.members.append((quoted(name), value))


def lose_data(draw: st.DrawFn, entry: Entry) -> None:
    """The result of a read has a type that no data has, occurs twice, or has a misspelt name."""
    for place in entry.find("result"):
        entry.has_data = False
        how = draw(st.sampled_from(["odd", "twice", "misspelt"]))
        if how == "misspelt" and entry.members[place][1] != "null":
            entry.members[place] = (
                quoted(draw(st.sampled_from(MISSPELT[1:]))("result")),
                entry.members[place][1],
            )
        elif how == "odd":
            odd = draw(st.sampled_from(["true", "17", '""', '"[]"', "0.5"]))
            entry.members[place] = (quoted("result"), odd)
        else:
            entry.members.append((draw(st.sampled_from([quoted("result"), escaped("result")])), "[]"))


def respell(draw: st.DrawFn, entry: Entry) -> None:
    """The same outcome and the same name in another type."""
    for place in entry.find("statusCode"):
        code = entry.members[place][1]
        if code.isdigit():
            entry.members[place] = (quoted("statusCode"), draw(st.sampled_from(SAME_CODE))(code))
    for place in entry.find("state"):
        state = entry.members[place][1]
        if state.strip('"') not in list(OperationState):
            continue
        written = draw(st.sampled_from([state.lower(), state.title(), f'" {state[1:-1]} "', state]))
        entry.members[place] = (draw(st.sampled_from([quoted("state"), escaped("state")])), written)
    for place in entry.find("operationId"):
        given_id = entry.operation.operation_id
        if isinstance(given_id, int):
            texts = [f'"{given_id}"', f"{given_id}.0"]
        else:
            texts = [given_id] if given_id.isdigit() and str(int(given_id)) == given_id else []
        if texts:
            entry.members[place] = (quoted("operationId"), draw(st.sampled_from(texts)))


def add_member(draw: st.DrawFn, entry: Entry) -> None:
    """An unknown member, before or after the others."""
    name = draw(
        st.sampled_from(["status", "code", "error", "responses", "data", "Result", "x", "statusText"])
    )
    member = (quoted(name), json.dumps(draw(json_values)))
    entry.members.insert(draw(st.sampled_from([0, len(entry.members)])), member)


def contradict(draw: st.DrawFn, entry: Entry) -> None:
    """A success in addition to the failure: as a double, misspelt, or by the other of code and state."""
    name = draw(st.sampled_from(OUTCOME))
    good = draw(
        st.sampled_from(["0", '"0"', "0.0"] if name == "statusCode" else ['"SUCCEEDED"', '"succeeded"'])
    )
    spelt = draw(
        st.sampled_from([quoted(name), escaped(name), quoted(draw(st.sampled_from(MISSPELT))(name))])
    )
    entry.members.insert(draw(st.sampled_from([0, len(entry.members)])), (spelt, good))


def erase(draw: st.DrawFn, entry: Entry) -> None:
    """Remove a part of the entry, or all of it, or the name of its operation."""
    name = draw(st.sampled_from(["operationId", *OUTCOME, *OUTCOME]))
    how = draw(st.sampled_from(["odd", "lost", "misspelt", "broken", "wrapped", "wrapped whole", "junk"]))
    if name == "operationId" or how in {"wrapped whole", "junk"}:
        entry.named = False
    if how == "junk":
        entry.whole = draw(st.sampled_from(["null", "5", '"x"', "[]", "{}", f"[{entry.text()}]"]))
        return
    if how == "wrapped whole":
        wrapping = draw(st.sampled_from(["response", "outcome", "statusCode", "data"]))
        entry.whole = f'{{"{wrapping}":{entry.text()}}}'
        return
    for place in entry.find(name):
        value = entry.members[place][1]
        match how:
            case "odd":
                # A number is a usable name, and 0 would be a success that the test invented.
                entry.members[place] = (
                    quoted(name),
                    draw(st.sampled_from(ODD[:-1] if name != "state" else ODD[1:-1])),
                )
            case "lost":
                entry.members[place] = (quoted("lost"), "1")
            case "misspelt":
                entry.members[place] = (quoted(draw(st.sampled_from(MISSPELT))(name)), value)
            case "broken":
                entry.members[place] = (quoted(draw(st.sampled_from(BROKEN))(name)), value)
            case _:
                entry.members[place] = (quoted(name), f'{{"{name}":{value}}}')


# --- damage to the document and its bytes ------------------------------------------------------------


def looks_like_an_entry(text: str) -> bool:
    """Whether it has a member named like an operation's id or like a member of its outcome."""
    names = json.loads(text, object_pairs_hook=lambda pairs: {name for name, _ in pairs})
    spelt = (
        {"".join(filter(str.isalnum, name)).lower() for name in names} if isinstance(names, set) else set()
    )
    return bool(spelt & {"operationid", "statuscode", "state"})


@st.composite
def document(draw: st.DrawFn, texts: list[str]) -> tuple[str, bool]:
    """The entries in a document, and whether a list of responses can be found in it."""
    listed = f"[{','.join(texts)}]"
    good = [
        f'{{"responses":{listed}}}',
        f'{{"data":{{"responses":{listed}}}}}',
        f'{{"error":1,"errors":[],"responses":{listed},"status":500,"title":"t","state":"SUCCEEDED"}}',
        f'{{"result":[],"data":{{"state":"SUCCEEDED","responses":{listed},"statusCode":0}},"responsesOf":7}}',
        f"{{{escaped('responses')}:{listed}}}",
        f' \r\n{{ "responses" :\t{listed} }}\n',
        f'{{"responses":[],"responses":{listed}}}',
        f'{{"responses":{listed},"data":{{"responses":[]}}}}',
        f'{{"data":{{"responses":{listed}}},"data":null}}',
    ]
    if any(map(looks_like_an_entry, texts)):
        good.append(listed)
    if len(texts) == 1 and texts[0].startswith('{"operationId"'):
        good.append(f'{{"responses":{texts[0]}}}')
    bad = [
        f'{{"payload":{{"responses":{listed}}}}}',
        f'{{"data":{{"data":{{"responses":{listed}}}}}}}',
        f'{{"data":[{{"responses":{listed}}}]}}',
        f'{{"Responses":{listed}}}',
        f'{{"response":{listed}}}',
        f'{{"RESPONSES":{listed}}}',
        f'{{"responses":{quoted(listed)}}}',
        f'{{"responses":{{"list":{listed}}}}}',
        f'{{"responses":{listed},"responses":"none"}}',
        f'{{"responses":null,"results":{listed}}}',
        f'{{"error":{{"responses":{listed}}}}}',
        f'{{"a":{{"responses":{listed}}},"a":1}}',
        quoted(listed),
        "{}",
        '{"error":"the result is gone"}',
        '{"type":"about:blank","title":"Internal Server Error","status":500}',
        "null",
        "0",
        "true",
    ]
    readable = draw(st.sampled_from([True, True, True, False]))
    return draw(st.sampled_from(good if readable else bad)), readable


def all_good(operations: list[Operation]) -> bytes:
    """A document in which everything succeeded: reading it instead of the other is an error."""
    return msgspec.json.encode(
        {"responses": [{"operationId": o.operation_id, "statusCode": 0, "result": []} for o in operations]}
    )


@st.composite
def bytes_of(draw: st.DrawFn, text: str, operations: list[Operation]) -> tuple[bytes, bool]:
    """The document as bytes, and whether they are still one JSON document in UTF-8."""
    body, good = text.encode(), all_good(operations)
    match draw(
        st.sampled_from(["", "", "", "", "mark", "size", "depth", "encoding", "bytes", "cut", "two", "other"])
    ):
        case "mark":
            return MARK + body, True
        case "size" if body.lstrip().startswith(b"{"):
            large = b'{"large":"%b",' % (b"x" * draw(st.sampled_from([1_000, 70_000, 400_000])))
            stripped = body.lstrip()
            return large + stripped[1:], stripped[1:2] != b"}"
        case "depth" if body.lstrip().startswith(b"{"):
            deep = draw(st.sampled_from([50, 5_000]))
            stripped = body.lstrip()
            nested = b'{"deep":%b,' % (b"[" * deep + b"]" * deep)
            return nested + stripped[1:], deep == 50 and stripped[1:2] != b"}"
        case "encoding":
            names = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"]
            name = draw(st.sampled_from(names))
            if name == "utf-8-sig":
                return MARK + MARK + body, False
            return text.encode(name), False
        case "bytes":
            place = draw(st.integers(0, len(body)))
            bad = draw(st.sampled_from([b"\xff", b"\xc3", b"\x80", b"\xed\xa0\x80", b"\xc0\xae"]))
            return body[:place] + bad + body[place:], False
        case "cut":
            return body[: draw(st.integers(0, max(0, len(body.rstrip()) - 1)))], False
        case "two":
            between = draw(st.sampled_from([b"", b"\n", b",", b"\n\n", MARK]))
            return draw(st.sampled_from([body + between + good, good + between + body])), False
        case "other":
            others = [b"", b" ", MARK, gzip.compress(body), b"<html>" + body, body + b"]", b"data: " + body]
            return draw(st.sampled_from([*others, body + b"\0", b"\0" + body, b"'" + body + b"'"])), False
        case _:
            return body, True


# --- all together ------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, dialect: Dialect, kind: JobType) -> Damaged:
    """A result in which some operations failed, with up to a handful of damages."""
    is_read = kind is JobType.READ
    op = Op.READ if is_read else Op.MERGE
    ids = draw(operation_ids(dialect))
    operations = [Operation(op, f"/A={number}", name) for number, name in enumerate(ids)]
    states = draw(st.lists(st.sampled_from([SUCCEEDED, *FAILURES]), min_size=len(ids), max_size=len(ids)))
    assume(any(state is not SUCCEEDED for state in states))
    truth = {operation.id_text: state for operation, state in zip(operations, states, strict=True)}
    entries = [draw(well_formed(o, truth[o.id_text])) for o in operations]
    harm = {
        o.id_text: draw(st.sampled_from(Harm)) if truth[o.id_text] is not SUCCEEDED else Harm.ERASED
        for o in operations
    }
    intact = set(truth)
    for entry in list(entries):
        name = entry.operation.id_text
        damages = draw(st.integers(0, 3))
        if damages:
            intact.discard(name)
        for _ in range(damages):
            choices = [spoil_other, respell, add_member]
            if is_read:
                choices.append(lose_data)
            if harm[name] is Harm.CONTRADICTED:
                choices += [contradict, contradict, contradict]
            if harm[name] is Harm.ERASED:
                choices += [erase, erase, erase]
            if entry.whole is None:
                draw(st.sampled_from(choices))(draw, entry)
    for entry in list(entries):
        name = entry.operation.id_text
        if harm[name] is Harm.CONTRADICTED and draw(st.booleans()):  # a second entry contradicts it
            intact.discard(name)
            entries.insert(draw(st.integers(0, len(entries))), draw(well_formed(entry.operation, SUCCEEDED)))
        elif truth[name] is SUCCEEDED and not draw(st.integers(0, 5)):  # a second entry says that it failed
            intact.discard(name)
            entries.insert(
                draw(st.integers(0, len(entries))), draw(well_formed(entry.operation, FAILURES[0]))
            )
        elif harm[name] is Harm.ERASED and not draw(st.integers(0, 5)):
            intact.discard(name)
            entries.remove(entry)
    texts, moved = [entry.text() for entry in entries], False
    all_named = all(entry.named for entry in entries)
    order = draw(st.permutations(range(len(entries))))
    if all_named and draw(st.booleans()):
        texts, moved = [texts[place] for place in order], True
    stray = not moved and not draw(st.integers(0, 4))  # no entry, or one that names another operation
    if stray:
        strays = ["null", "7", "{}", '{"operationId":"zz","statusCode":0}', '{"note":1}']
        texts.insert(draw(st.integers(0, len(texts))), draw(st.sampled_from(strays)))
    without_data = {e.operation.id_text for e in entries if e.whole is None and not e.has_data}
    text, found = draw(document(texts))
    body, decodable = draw(bytes_of(text, operations))
    reported = draw(st.sampled_from([Status.FINISHED, Status.FINISHED, *(s for s in Status if s.terminal)]))
    return Damaged(
        operations,
        truth,
        body,
        reported,
        is_read,
        found and decodable,
        intact,
        without_data,
        all_named,
        stray,
    )


def of_result(case: Damaged) -> tuple[outcomes.Outcome, object]:
    answer = result_answer(Answered(200, case.body, "application/json"), case.is_read)
    assert isinstance(answer, Responses | UnrecognisedResult | UnreadableBody)
    outcome = outcomes.of_result(case.operations, answer, case.reported, is_read=case.is_read, kept_as=KEPT)
    return outcome, answer


def states_of(outcome: outcomes.Outcome) -> dict[str, list[OperationState]]:
    """The states of each operation in the result objects."""
    reported: dict[str, list[OperationState]] = {}
    for document_ in documents(outcome.responses):
        for response in msgspec.json.decode(document_.body)["responses"]:
            state = OperationState(response["state"])
            assert (state is SUCCEEDED) is (0 <= response["statusCode"] <= 99)
            assert state is SUCCEEDED or response["reason"], "a reason is never empty"
            reported.setdefault(str(response["operationId"]), []).append(state)
    return reported


@pytest.mark.parametrize("kind", [JobType.READ, JobType.WRITE])
@pytest.mark.parametrize("dialect", Dialect)
@settings(max_examples=EXAMPLES // 8, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_operation_that_failed_counts_as_succeeded(
    dialect: Dialect, kind: JobType, data: st.DataObject
) -> None:
    """Whatever the damage: no exception is raised, no failure becomes a success, each operation has an
    outcome with a reason, intact entries are used, and an unreadable body is kept and named."""
    case = data.draw(damaged(dialect, kind))
    outcome, answer = of_result(case)
    reported = states_of(outcome)
    failed = {name for name, state in case.truth.items() if state is not SUCCEEDED}
    assert set(reported) == set(case.truth)
    assert not [name for name in failed if all(state is SUCCEEDED for state in reported[name])]
    assert not [name for name in case.without_data if all(state is SUCCEEDED for state in reported[name])]
    assert outcome.counts.total == len(case.operations)
    assert outcome.counts.succeeded <= len(case.truth) - len(failed | case.without_data)
    assert outcome.status is not Status.FINISHED
    event(f"{type(answer).__name__}, {'readable' if case.readable else 'damaged as a whole'}")
    if case.readable:
        assert isinstance(answer, Responses)
        for name in case.intact:
            expected = {case.truth[name]}
            if case.truth[name] is SUCCEEDED and not case.all_named:
                expected |= {OperationState.UNKNOWN, OperationState.FAILED}
            assert reported[name][-1] in expected
    else:
        assert isinstance(answer, UnreadableBody)
        assert answer.body == case.body
        assert outcome.error.endswith(f"kept as {KEPT}")
        assert outcome.counts.succeeded == outcome.counts.not_started == 0
        assert all(isinstance(r, Response) and r.reason == "RESULT_UNREADABLE" for r in outcome.responses)


@pytest.mark.parametrize("dialect", Dialect)
@settings(max_examples=EXAMPLES // 8, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_message_makes_a_failed_read_a_success(dialect: Dialect, data: st.DataObject) -> None:
    """The same for the only message of a read: the message is kept, and no read finishes without its data."""
    case = data.draw(damaged(dialect, JobType.READ))
    headers = {"ce_sequence": "0", "ce_total": "1"}
    message = read_message(Received(INTERNAL_TOPIC, 0, Message("k", headers, case.body)))
    unreadable = int(message.fault is not None)
    outcome = outcomes.from_messages(case.operations, Arrived(1, 1, 0, unreadable, 1, [message.outcomes]))
    assert outcome.status is not Status.FINISHED
    assert outcome.counts.total == len(case.operations)
    added, states = states_of(outcome), outcomes.unpack_outcomes([message.outcomes])
    for name, state in case.truth.items():
        if state is not SUCCEEDED or name in case.without_data:
            assert name in added or states[name] is not SUCCEEDED
    if not case.readable:
        assert (unreadable, message.documents) == (1, ())
        assert {r.reason for r in outcome.responses} == {"RESULT_UNREADABLE"}
    else:
        assert not unreadable or not case.all_named or case.stray
        for name in case.intact:
            assert states[name] is case.truth[name]
