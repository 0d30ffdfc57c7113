# SPDX-License-Identifier: Apache-2.0
"""The body of an answer to a read of ProvMnS, from the responses of its job. Pure.

A read of several data producers, and a large one, has several responses, each with a complete document. A
plugin may have answered in the other form than it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.http.json_body import elements_decoder, members_decoder
from ran_datajobs.model import Response
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import class_of, distinguished_name, id_of, key_of_name
from ran_datajobs.nrm.resources import to_flat, to_hierarchical
from ran_datajobs.plugins.wire import TREE_FLAT


class UnreadableResult(Exception):
    """A result is no document of managed objects; the argument says why."""


class _Flat(Struct, frozen=True, rename="camel"):
    object_instance: str
    attributes: Raw = Raw(b"{}")


class _Asked(Struct, frozen=True):
    path: str = ""


_flat_decoder: Final = msgspec.json.Decoder(list[_Flat])
_asked_decoder: Final = msgspec.json.Decoder(_Asked)


def document_of(responses: Sequence[Response], base: str, media_type: str, by_selector: bool) -> bytes:
    """The selected objects as one document in ``media_type``; empty if there are none.

    ``base``: key of the target, the empty one for the NRM root. A selector can select objects that are not
    below the target: they are left out. Raises UnreadableResult.
    """
    results = [bytes(each.result) for each in responses if not isinstance(each.result, UnsetType)]
    flat = media_type == TREE_FLAT
    if not by_selector and flat and all(result[:1] == b"[" for result in results):
        items = [item for result in results for item in elements_decoder.decode(result)]
        return msgspec.json.encode(items) if items else b""
    if not by_selector and not flat and len(results) == 1 and results[0][:1] == b"{":
        return b"" if members_decoder.decode(results[0]) == {} else results[0]
    found: list[dict[str, Any]] = []
    try:
        for response in responses:
            for key, attributes in _objects_in(response):
                if not by_selector or f"{key}/".startswith(f"{base}/" if base else ""):
                    found.append(_shown(key, attributes))
        if not found:
            return b""
        return msgspec.json.encode(found if flat else to_hierarchical(found, base))
    except (msgspec.DecodeError, InvalidFdn, TypeError, LookupError, RecursionError) as error:
        raise UnreadableResult(f"the result of the DMI plugin has no managed objects: {error}") from error


def _objects_in(response: Response) -> Iterator[tuple[str, Any]]:
    """Key and attributes of each object of a response."""
    if isinstance(response.result, UnsetType):
        return
    if bytes(response.result)[:1] == b"[":
        for each in _flat_decoder.decode(response.result):
            yield key_of_name(each.object_instance), each.attributes
        return
    base = fdn.split_path(_asked_decoder.decode(response.request).path)[0]
    for one in to_flat(msgspec.json.decode(response.result), "" if base == "/" else base):
        yield key_of_name(one["objectInstance"]), one["attributes"]


def _shown(key: str, attributes: Any) -> dict[str, Any]:
    return {
        "id": id_of(key),
        "objectClass": class_of(key),
        "objectInstance": distinguished_name(key),
        "attributes": attributes,
    }
