# SPDX-License-Identifier: Apache-2.0
"""A JSON body decoded at the border: into typed values, or an error that points at the place. Pure."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from ran_datajobs.errors import InvalidRequest

_PATH_STEP: Final = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")

_Body = TypeVar("_Body")


def decoded(body: bytes, decoder: msgspec.json.Decoder[_Body]) -> _Body:
    """``body`` as what ``decoder`` reads. Raises InvalidRequest, for a wrong shape or type with the JSON
    pointer of the first fault."""
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except msgspec.ValidationError as error:
        pointer, detail = _fault(error)
        raise InvalidRequest(f"{pointer}: {detail}", ((pointer, detail),)) from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(str(error)) from None


def _fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """Where and what. msgspec's ``$.createdCmHandles[0].alternateId`` becomes a pointer; the key of a free
    form object stays unsaid."""
    detail, _, place = str(error).partition(" - at `")
    steps = [name or number for name, number in _PATH_STEP.findall(place.rstrip("`"))]
    if missing := _MISSING.fullmatch(detail):
        steps.append(missing[1])
        detail = "is missing"
    return "#" + "".join(f"/{step}" for step in steps if step != "..."), detail
