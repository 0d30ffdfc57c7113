# SPDX-License-Identifier: Apache-2.0
"""OpenAPI document of the simulated network (pure)."""

from __future__ import annotations

from typing import Any, Final

from ran_datajobs.model import ScopeType
from ran_datajobs.simulator import wire
from ran_datajobs.simulator.faults import LONGEST_STALL, Fault

_LDN: Final = {
    "name": "ldn",
    "in": "path",
    "required": True,
    "description": "the object: Class=id/Class=id, with slashes unescaped",
    "schema": {"type": "string"},
    "allowReserved": True,
}

_RESOURCE: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "objectClass": {"type": "string"},
        "objectInstance": {"type": "string"},
        "attributes": {"type": "object"},
    },
}

_ERROR: Final = {
    "type": "object",
    "required": ["status", "type"],
    "properties": {
        "status": {"type": "string"},
        "type": {"type": "string"},
        "reason": {"type": "string"},
        "title": {"type": "string"},
        "badOp": {"type": "string"},
        "badObjects": {"type": "array", "items": {"type": "string"}},
        "badAttributes": {"type": "array", "items": {"type": "string"}},
        "badQueryParams": {"type": "array", "items": {"type": "string"}},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}

_PATCH: Final = {
    "type": "array",
    "maxItems": wire.MAX_OPERATIONS,
    "items": {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"type": "string"},
            "path": {"type": "string"},
            "from": {"type": "string"},
            "value": {},
        },
    },
}

_SCRIPTS: Final = {
    "type": "object",
    "required": ["scripts"],
    "properties": {
        "scripts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["element", "steps"],
                "properties": {
                    "element": {"type": "string", "description": "FDN of a ManagedElement, or *"},
                    "repeat": {"type": "boolean"},
                    "steps": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["fault"],
                            "properties": {
                                "fault": {"type": "string", "enum": [fault.value for fault in Fault]},
                                "times": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                                "seconds": {"type": "number", "minimum": 0, "maximum": LONGEST_STALL},
                                "reason": {"type": "string", "maxLength": 100},
                                "applied": {"type": "boolean"},
                            },
                        },
                    },
                },
            },
        }
    },
}


_CONSUMER: Final = {
    "type": "object",
    "required": ["consumer"],
    "properties": {
        "consumer": {"type": "string", "description": "an address on this machine: http://127.0.0.1:PORT/…"}
    },
}


def document() -> dict[str, Any]:
    """Create the document."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Simulated radio network",
            "version": "1",
            "description": "ProvMnS (3GPP TS 28.532); the filter is Class/attributes/name op literal, "
            "dataNodeSelector is Jex basic (TS 32.161) with // and contains(id,...)",
        },
        "paths": {
            wire.PROVMNS + "/{ldn}": _object_paths(),
            wire.FAULTS: {
                "get": _operation("The active fault scripts", ok={"200": _json("Scripts", _SCRIPTS)}),
                "post": _operation(
                    "Activate fault scripts", body={wire.JSON: {"schema": _SCRIPTS}}, ok=_EMPTY
                ),
                "delete": _operation("End all fault scripts", ok=_EMPTY),
            },
            wire.NOTIFICATIONS: {
                "get": _operation("The consumer of notifications", ok={"200": _json("Consumer", _CONSUMER)}),
                "put": _operation(
                    "Notify a consumer on this machine of every change (notifyMOIChanges)",
                    body={wire.JSON: {"schema": _CONSUMER}},
                    ok=_EMPTY,
                ),
                "delete": _operation("Remove the consumer", ok=_EMPTY),
            },
            wire.HEALTHZ: {"get": _operation("Alive", ok={"200": _json("Alive", {"type": "object"})})},
        },
    }


_EMPTY: Final = {"204": {"description": "Done"}}


def _object_paths() -> dict[str, Any]:
    created = {"201": _json("Created", _RESOURCE)}
    done = {"200": _json("The object", _RESOURCE), **_EMPTY}
    patches = (*wire.THREE_GPP_PATCHES, wire.JSON_PATCH)
    bodies: dict[str, Any] = {kind: {"schema": _PATCH} for kind in patches}
    bodies[wire.MERGE_PATCH] = {"schema": _RESOURCE}
    resource = {wire.JSON: {"schema": _RESOURCE}}
    read = {
        "200": {
            "description": "The selected objects",
            "content": {
                wire.JSON: {"schema": {"type": "object"}},
                wire.HIERARCHICAL: {"schema": {"type": "object"}},
                wire.FLAT: {"schema": {"type": "array", "items": _RESOURCE}},
            },
        },
        "204": {"description": "Nothing is selected"},
        "304": {"description": "Not changed"},
    }
    return {
        "parameters": [_LDN],
        "get": _operation("Read objects", ok=read, query=_query()),
        "put": _operation("Create an object or replace its attributes", body=resource, ok=created | done),
        "patch": _operation("Change objects: all of the document or nothing", body=bodies, ok=done),
        "post": _operation("Create an object below", body=resource, ok=created),
        "delete": _operation("Delete a leaf object", ok=_EMPTY),
    }


def _query() -> list[dict[str, Any]]:
    text = {"type": "string"}
    parameters = {
        "scopeType": {"type": "string", "enum": [kind.value for kind in ScopeType]},
        "scopeLevel": {"type": "integer", "minimum": 0, "maximum": 64},
        "scope": text,
        "filter": text,
        "attributes": text,
        "fields": text,
        "dataNodeSelector": text,
    }
    return [{"name": name, "in": "query", "schema": schema} for name, schema in parameters.items()]


def _operation(
    summary: str,
    ok: dict[str, Any],
    body: dict[str, Any] | None = None,
    query: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {**ok, "default": _json("Refused", _ERROR)},
    }
    if query:
        operation["parameters"] = query
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {wire.JSON: {"schema": schema}}}
