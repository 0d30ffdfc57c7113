# SPDX-License-Identifier: Apache-2.0
"""Names of managed objects, derived from their keys (:func:`ran_datajobs.nrm.fdn.key`; pure).

A key is the normal form ``Class=value/Class=value``; the empty key is the NRM root.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Final
from urllib.parse import unquote

from ran_datajobs.nrm import fdn

# Contains no reserved character of the comma form.
_PLAIN: Final = re.compile(
    r"[A-Za-z0-9_.:-]+=[A-Za-z0-9_.: ()@&'!-]+(?:/[A-Za-z0-9_.:-]+=[A-Za-z0-9_.: ()@&'!-]+)*"
)
_RESERVED: Final = re.compile(r'[,=+<>#;\\"\x00-\x1f\x7f*/%]')


def parent_of(key: str) -> str:
    """Key of the parent; empty for an object at the root."""
    return key.rpartition("/")[0]


def class_of(key: str) -> str:
    """Class of the object: the part before the ``=`` of the last RDN."""
    return key.rpartition("/")[2].partition("=")[0]


def id_of(key: str) -> str:
    """Id of the object: the value of the last RDN, unescaped."""
    value = key.rpartition("/")[2].partition("=")[2]
    return unquote(value) if "%" in value else value


def child_key(parent: str, class_name: str, object_id: str) -> str:
    """Key of an object from its parent's key, class and id. Raises InvalidFdn."""
    rdn = fdn.render(((class_name, object_id),))
    return fdn.key(f"/{parent}{rdn}" if parent else rdn)


def common_ancestor(keys: Iterable[str]) -> str:
    """Key of the deepest object that is or contains each of these; empty for the root."""
    levels = zip(*(key.split("/") for key in dict.fromkeys(keys)), strict=False)
    return "/".join(rdns[0] for rdns in takewhile(lambda rdns: len(set(rdns)) == 1, levels))


def distinguished_name(key: str) -> str:
    """Name in comma form (3GPP TS 32.300 §7.3), with reserved characters escaped as ``\\2C``."""
    if _PLAIN.fullmatch(key):
        return key.replace("/", ",")
    return ",".join(f"{name}={_RESERVED.sub(_escaped, value)}" for name, value in fdn.parse("/" + key))


def key_of_name(name: str) -> str:
    """Key of an object from its distinguished name in comma or slash form. Raises InvalidFdn."""
    if "/" in name or "," in name:
        return fdn.key(name)
    # A single RDN has no separator that determines the form.
    return fdn.key(f"{name},End=1").removesuffix("/End=1")


def _escaped(found: re.Match[str]) -> str:
    return f"\\{ord(found[0]):02X}"
