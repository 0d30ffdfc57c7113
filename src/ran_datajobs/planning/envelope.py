# SPDX-License-Identifier: Apache-2.0
"""The envelope of a submit body: everything but the operations.

Its keys are matched case-insensitively, because the published examples differ. The handling of unknown keys
is described in :mod:`ran_datajobs.planning.keys`. The list of operations is not decoded here.
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.json_body import NESTED_TOO_DEEPLY, got, malformed
from ran_datajobs.model import ActivationMode
from ran_datajobs.planning.keys import ENVELOPE, STANDS_TWICE, UnknownKeys
from ran_datajobs.planning.problems import Problems
from ran_datajobs.plugins.wire import ACCEPT_TYPES, CONTENT_TYPES, JSON_PATCH_3GPP, TREE_HIERARCHICAL

MAX_ENVELOPE: Final = 1024 * 1024
"""Maximum size of an envelope without its operations, in bytes."""

MAX_NAME: Final = 256
MAX_AFTER: Final = 1000
DEFAULT_PRIORITY: Final = 4
HIGHEST_PRIORITY: Final = 9
ATOMIC: Final = "ATOMIC"
"""The activation mode of TS 28.572 that is recognised but not offered."""

_SPELLINGS_OF_DATA: Final = ["".join(way) for way in itertools.product(*((c, c.upper()) for c in "data"))]
# Decodes only "data", in any case, and skips everything else.
_Data: Final = msgspec.defstruct(
    "_Data",
    [
        (f"spelt_{word}", Raw | UnsetType, msgspec.field(default=UNSET, name=word))
        for word in _SPELLINGS_OF_DATA
    ],
    frozen=True,
)
_data_decoder: Final = msgspec.json.Decoder(_Data)


class Envelope(Struct, frozen=True):
    """The fields of a submit that concern the job as a whole."""

    accept_type: str = TREE_HIERARCHICAL
    content_type: str = JSON_PATCH_3GPP
    activation_mode: ActivationMode = ActivationMode.BEST_EFFORT
    name: str | None = None
    priority: int = DEFAULT_PRIORITY
    after: tuple[uuid.UUID, ...] = ()


# The usual form of a body around its operations: plain fields, before and after. Both patterns match only
# well-formed JSON, so a body is well formed if they match and the list between them is well formed.
_BLANKS: Final = rb"[ \t\n\r]*+"
_TEXT: Final = rb'"[^"\\\x00-\x1f]*+"'
_PLAIN_VALUE: Final = rb"(?:%b|(?:0|[1-9][0-9]{0,17}+)(?![0-9.eE])|null)" % _TEXT
_PLAIN_FIELD: Final = _BLANKS.join((_TEXT, rb":", _PLAIN_VALUE, b""))
_HEAD: Final = re.compile(
    rb'%b\{%b(?:%b,%b)*?"data"%b:%b\[' % (_BLANKS, _BLANKS, _PLAIN_FIELD, _BLANKS, _BLANKS, _BLANKS)
)
_TAIL: Final = re.compile(rb"\]%b(?:,%b%b)*+\}%b" % (_BLANKS, _BLANKS, _PLAIN_FIELD, _BLANKS))
_LONGEST_END: Final = 4096


class BodyLayout(Struct, frozen=True):
    """The position of the operations in an undecoded body: ``[start:end]``, without their brackets.

    ``envelope`` is the rest, with an empty list for ``data``. It is one JSON object, and so is the body *if*
    ``[start:end]`` is the inside of a JSON list.
    """

    envelope: bytes
    start: int
    end: int


def locate_operations(body: bytes) -> BodyLayout | None:
    """Locate the operations of a body of the usual form; None for every other body."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return None
    head = _HEAD.match(body, 0, _LONGEST_END)
    end = body.rfind(b"]", -_LONGEST_END)
    if head is None or end < head.end() or _TAIL.fullmatch(body, end) is None:
        return None
    return BodyLayout(body[: head.end()] + body[end:], head.end(), end)


def open_envelope(body: bytes, problems: Problems, unknown: UnknownKeys) -> tuple[Envelope, bytes | None]:
    """The envelope, and the undecoded JSON value of ``data`` (None when it is missing).

    Invalid fields are added to ``problems``, what is not known or not offered to ``unknown``. Raises
    InvalidRequest when ``body`` is not one JSON object in UTF-8, or when its envelope is longer than
    MAX_ENVELOPE.
    """
    data = _data_of(body)
    return read_envelope(_without(data, body), problems, unknown), data


def read_envelope(text: bytes, problems: Problems, unknown: UnknownKeys) -> Envelope:
    """The envelope from a body without its ``data``. Invalid fields are added to ``problems``, what is not
    known or not offered to ``unknown``.

    Raises InvalidRequest when ``text`` is longer than MAX_ENVELOPE.
    """
    fields = _fields_of(text, problems, unknown)
    return Envelope(
        accept_type=_one_of(fields, "dataAcceptType", ACCEPT_TYPES, TREE_HIERARCHICAL, problems),
        content_type=_one_of(fields, "dataContentType", CONTENT_TYPES, JSON_PATCH_3GPP, problems),
        activation_mode=_activation_mode(fields, problems, unknown),
        name=_name(fields, problems),
        priority=_priority(fields, problems),
        after=_after(fields, problems),
    )


def _data_of(body: bytes) -> bytes | None:
    try:
        if not body.isascii():
            body.decode()
        found = _data_decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise InvalidRequest(NESTED_TOO_DEEPLY) from None
    except msgspec.ValidationError:
        raise InvalidRequest(f"the body must be a JSON object; it is {got(Raw(body.lstrip()))}") from None
    except msgspec.DecodeError as error:
        raise malformed(body, error) from None
    values = (getattr(found, f"spelt_{word}") for word in _SPELLINGS_OF_DATA)
    return next((bytes(value) for value in values if not isinstance(value, UnsetType)), None)


def _without(data: bytes | None, body: bytes) -> bytes:
    if data is None:
        return body
    # The first occurrence of this text is "data" itself, or "data" is no list of operations anyway.
    start = body.find(data[:_LONGEST_END])
    if not body.startswith(data, start):
        start = body.find(data)
    return body[:start] + b"null" + body[start + len(data) :]


def _fields_of(rest: bytes, problems: Problems, unknown: UnknownKeys) -> dict[str, Any]:
    """The fields by their spelling in the contract, without those that are ``null``."""
    if len(rest) > MAX_ENVELOPE:
        raise InvalidRequest(
            f"the body has {len(rest)} bytes beside its data, at most {MAX_ENVELOPE} are read"
        )
    try:
        pairs = cast("list[tuple[str, Any]]", json.loads(rest, object_pairs_hook=_Pairs))
    except RecursionError:
        raise InvalidRequest(NESTED_TOO_DEEPLY) from None
    except ValueError as error:
        raise InvalidRequest(f"JSON is malformed: {error}") from None
    fields: dict[str, Any] = {}
    for spelt, value in pairs:
        key = ENVELOPE.get(spelt.lower())
        if key is None:
            continue
        if key in fields:
            problems.add(f"#/{key}", STANDS_TWICE)
        fields[key] = value
    if len(pairs) > len(fields):
        unknown.in_envelope(pairs)
    return {key: value for key, value in fields.items() if value is not None}


def _got(value: object) -> str:
    return "an object" if isinstance(value, _Pairs) else got(value)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its (key, value) pairs, in order, with duplicates."""


def _one_of(
    fields: dict[str, Any], key: str, allowed: frozenset[str], default: str, problems: Problems
) -> str:
    value = fields.get(key, default)
    if isinstance(value, str) and value in allowed:
        return value
    problems.add(f"#/{key}", f"must be one of {', '.join(sorted(allowed))}; it is {_got(value)}")
    return default


def _activation_mode(fields: dict[str, Any], problems: Problems, unknown: UnknownKeys) -> ActivationMode:
    value = fields.get("activationMode", ActivationMode.BEST_EFFORT)
    if isinstance(value, str) and value in ActivationMode.__members__:
        return ActivationMode(value)
    allowed = ", ".join(ActivationMode)
    if value == ATOMIC:
        unknown.not_offered.add("#/activationMode", f"ATOMIC is not offered: use one of {allowed}")
    else:
        problems.add("#/activationMode", f"must be one of {allowed}; it is {_got(value)}")
    return ActivationMode.BEST_EFFORT


def _name(fields: dict[str, Any], problems: Problems) -> str | None:
    value = fields.get("name")
    if value is None:
        return None
    if not isinstance(value, str):
        problems.add("#/name", f"must be a string; it is {_got(value)}")
    elif len(value) > MAX_NAME:
        problems.add("#/name", f"has {len(value)} characters, at most {MAX_NAME} are kept")
    elif not value.isprintable():
        odd = next(letter for letter in value if not letter.isprintable())
        problems.add("#/name", f"has the character U+{ord(odd):04X}, which cannot be printed")
    else:
        return value
    return None


def _priority(fields: dict[str, Any], problems: Problems) -> int:
    value = fields.get("priority", DEFAULT_PRIORITY)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST_PRIORITY:
        return value
    problems.add("#/priority", f"must be an integer from 0 to {HIGHEST_PRIORITY}; it is {_got(value)}")
    return DEFAULT_PRIORITY


def _after(fields: dict[str, Any], problems: Problems) -> tuple[uuid.UUID, ...]:
    value = fields.get("after", [])
    if isinstance(value, _Pairs) or not isinstance(value, list):
        problems.add("#/after", f"must be a list of job ids; it is {_got(value)}")
        return ()
    if len(value) > MAX_AFTER:
        problems.add("#/after", f"has {len(value)} job ids, at most {MAX_AFTER} are read")
        return ()
    jobs: dict[uuid.UUID, None] = {}
    for position, text in enumerate(value):
        try:
            jobs[uuid.UUID(text)] = None
        except (ValueError, AttributeError, TypeError):
            problems.add(f"#/after/{position}", f"must be a job id (a UUID); it is {_got(text)}")
    return tuple(jobs)
