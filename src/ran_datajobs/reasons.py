# SPDX-License-Identifier: Apache-2.0
"""Explains every reason why an operation did not succeed, and derives the reason of a response. Pure.

API, page, commands and docs/reasons.md take their texts from :data:`REASONS`. Sources: ErrorDetail of 3GPP TS
28.572; NcmpResponseStatus of ONAP CPS-NCMP.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec import Struct, structs

from ran_datajobs.model import ErrorDetail, OperationState, Reason, Response


class Explanation(Struct, frozen=True):
    """Explanation of a reason for users: a short title, what happened, and what to do next.

    ``pattern``, a regular expression (ECMA 262): the explanation applies to every reason in which it is
    found, unless another explanation has exactly this reason, or an earlier pattern is found. ``reason`` is
    then a placeholder.
    """

    reason: str
    title: str
    meaning: str
    advice: str
    pattern: str | None = None


_UNTIL_THEN: Final = "a retry is safe, but fails again until then."
_SAME_AGAIN: Final = "a retry is safe, but sends the same again and fails."
_SAME_UNSENT: Final = "a retry is safe, but fails again, because the same is validated again."
_NOTHING_SENT: Final = "a retry is safe, because nothing was sent."
_LOOK_FIRST: Final = "before you retry a write, look at its object, because it may have been changed."
_READS_AT_ONCE: Final = f"Retry reads at once; {_LOOK_FIRST}"


_texts: Final = partial(Explanation, "")
"""An explanation in one of the tables below: its reason is the key."""

OURS: Final = {
    Reason.UNMATCHED: _texts(
        "No CM handle owns the object",
        "No registered CM handle covers the name of the object, so that the operation was not sent.",
        f"Have the CM handle registered and retry, or correct the name in a new job; {_NOTHING_SENT}",
    ),
    Reason.NO_DATA_PRODUCER: _texts(
        "The CM handle has no data producer",
        "A CM handle owns the object, but its registration has no dataProducerIdentifier, or it is followed "
        "from an NCMP and belongs to none of the plugins that are followed, so that the operation was not "
        "sent.",
        f"Have the registration of the CM handle completed, then retry; {_NOTHING_SENT}",
    ),
    Reason.DMI_UNREACHABLE: _texts(
        "The DMI plugin does not answer",
        "The DMI plugin was never reached, or stopped answering, until the time budget was used up.",
        "Have the plugin, and the network to it, checked; a retry of what has FAILED is safe, but before you "
        "retry a write that is UNKNOWN, look at its object, because it may have been changed.",
    ),
    Reason.DMI_REFUSED: _texts(
        "The DMI plugin refused the job",
        "The DMI plugin answered the create with a refusal, and executed nothing of it.",
        f"Act on the refusal, which the detail quotes; {_UNTIL_THEN}",
    ),
    Reason.DMI_LOST_JOB: _texts(
        "The DMI plugin lost the job",
        "The DMI plugin accepted the operation, and later answered 404 or 410: it does not know the job any "
        "more.",
        _READS_AT_ONCE,
    ),
    Reason.OUTCOME_UNKNOWN: _texts(
        "The outcome is unknown",
        "The operation was sent, or was about to be, and no answer says whether it was executed.",
        _READS_AT_ONCE,
    ),
    Reason.RESULT_INCOMPLETE: _texts(
        "The result is incomplete",
        "The DMI plugin reported the end, but its result leaves the operation out, or messages of it are "
        "missing.",
        _READS_AT_ONCE,
    ),
    Reason.RESULT_UNREADABLE: _texts(
        "The result cannot be read",
        "The DMI plugin reported the end, but its result could not be fetched, or has no outcomes; what "
        "came is kept with the results.",
        _READS_AT_ONCE,
    ),
    Reason.MODE_NOT_SUPPORTED: _texts(
        "The DMI plugin does not offer this",
        "The job asks for STOP_ON_ERROR and the DMI plugin is registered without stopOnError, or the read "
        "has a dataNodeSelector and the plugin is registered without selectors, so that the operation was "
        "not sent.",
        "Have the plugin registered with what the detail names and retry, or submit a new job as "
        f"BEST_EFFORT, or with a path and a scope; {_NOTHING_SENT}",
    ),
    Reason.VALIDATION_FAILED: _texts(
        "The class model does not allow it",
        "The job asks for STRICT validation, and the class model of the object does not allow the operation "
        "in a way that TS 28.572 has no word for, so that the operation was not sent.",
        "Correct the operation, as the detail says, in a new job, or submit it with WARN or without "
        f"validation; {_SAME_UNSENT}",
    ),
    Reason.POLICY_DENIED: _texts(
        "The policy executor does not allow it",
        "The policy executor denied the operation, or a request that contained it, or could not be asked for "
        "it, so that the operation was not sent.",
        "Read the detail, which has the message of the policy executor, and settle it with who runs that; a "
        "retry asks again, and is safe, because nothing was sent.",
    ),
    Reason.CHANGED_SINCE: _texts(
        "The object has changed since",
        "The operation came with what it expects of the object, and directly before it the object was "
        "different, so that nothing was changed.",
        "Look at the object, and decide anew on what it is now; a retry is safe, because it is compared "
        "again.",
    ),
    Reason.EFFECT_UNKNOWN: _texts(
        "The effect is not known",
        "A preview read the object and cannot tell what the operation would do: it is an action, or follows "
        "an operation on the same object whose effect is not known, or sets an attribute that the class "
        "model does not know.",
        "Read the detail, and decide with it whether to submit the request; nothing was written, and a "
        "preview has no retry.",
    ),
    Reason.CANCELLED: _texts(
        "The job was cancelled first",
        "The job was cancelled before the operation was started, so that it changed nothing.",
        "Retry it if it is wanted after all; a retry is safe.",
    ),
    Reason.NOT_STARTED: _texts(
        "An earlier failure stopped it",
        "An earlier operation of the same data producer failed, and the rest of the sub-job, this operation "
        "included, was not started; or the policy executor denied another operation and so the whole job.",
        f"Remove the cause of that failure; {_UNTIL_THEN}",
    ),
}
"""The reasons that the service itself gives."""

TS_28572: Final = {
    "NEW_DATA_NODE_NAME_INVALID": _texts(
        "The name is not in the model",
        "The element knows no class or attribute of this name, or the name in the value is another than in "
        "the path.",
        f"Correct the name in a new job; {_SAME_AGAIN}",
    ),
    "NEW_DATA_NODE_VALUE_INVALID": _texts(
        "The value is not allowed",
        "The new value has the wrong type, or is not in the range that the model allows.",
        f"Correct the value, as the detail says, in a new job; {_SAME_AGAIN}",
    ),
    "NEW_DATA_NODE_CONTAINMENT_INVALID": _texts(
        "The object cannot be contained there",
        "The model allows no object of this class below this parent.",
        f"Correct the path of the object in a new job; {_SAME_AGAIN}",
    ),
    "FINAL_DATA_NODE_VALUE_INVALID": _texts(
        "The values do not fit together",
        "The new value is allowed by itself, but not together with the other values that the object has.",
        f"Change the values that belong together in one operation of a new job; {_SAME_AGAIN}",
    ),
    "FINAL_DATA_NODE_UNIQUENESS_INVALID": _texts(
        "A value is twice in a list of distinct values",
        "The change would put a value twice where every value has to be distinct.",
        f"Leave out the value that is there already; {_SAME_AGAIN}",
    ),
    "FINAL_DATA_NODE_MULTIPLICITY_INVALID": _texts(
        "A value is missing, or there are too many",
        "The change would leave an attribute with fewer or more values than the model allows.",
        f"Give as many values as the detail says, in a new job; {_SAME_AGAIN}",
    ),
    "FINAL_DATA_NODE_CARDINALITY_INVALID": _texts(
        "Too few or too many objects of the class",
        "The change would leave the parent with fewer or more objects of this class than the model allows.",
        f"Change the object that is there, or have it removed; {_UNTIL_THEN}",
    ),
    "TARGET_DATA_NODE_NOT_FOUND": _texts(
        "The target does not exist",
        "The element has no such object, or the object has no such attribute.",
        f"Create the target and retry, or correct the name in a new job; {_UNTIL_THEN}",
    ),
    "TARGET_DATA_NODE_PARENT_NOT_FOUND": _texts(
        "The parent does not exist",
        "The object that should contain the new one does not exist at the element.",
        f"Create the parent and retry, or correct the path in a new job; {_UNTIL_THEN}",
    ),
    "TARGET_DATA_NODE_FOUND": _texts(
        "The target exists already",
        "The operation cannot be applied to an object that exists, such as a replace of it as a whole.",
        f"Name an attribute in the path, or merge attributes into the object; {_SAME_AGAIN}",
    ),
    "TARGET_DATA_NODE_NOT_WRITABLE": _texts(
        "The attribute is read-only",
        "The model does not allow this attribute to be written.",
        f"Leave the operation out; {_SAME_AGAIN}",
    ),
    "TARGET_DATA_NODE_INVARIANT": _texts(
        "The attribute can be set at creation only",
        "The model lets this attribute be given with a new object, and never be changed.",
        f"Leave the operation out, or plan to create the object anew; {_SAME_AGAIN}",
    ),
    "TARGET_DATA_NODE_CREATION_NOT_ALLOWED": _texts(
        "The object cannot be created",
        "The element does not let objects of this class be created.",
        f"Ask who maintains the element how such objects are made; {_UNTIL_THEN}",
    ),
    "TARGET_DATA_NODE_DELETION_NOT_ALLOWED": _texts(
        "The target cannot be removed",
        "The object still has children, or the model requires what should be removed.",
        f"Remove the children first, or leave the operation out; {_UNTIL_THEN}",
    ),
    "ACCESS_DENIED": _texts(
        "The element denies access",
        "The account with which the plugin reaches the element may not do this.",
        f"Have the rights of that account checked; {_UNTIL_THEN}",
    ),
    "OTHER": _texts(
        "Another cause: see the detail",
        "The plugin or the element failed the operation for a cause that TS 28.572 has no word for, such as "
        "a test that found another value, an action that was refused, or an element that did not answer.",
        "Read the detail, which gives the cause; a retry of what has FAILED is safe, because it changed "
        "nothing, and what is UNKNOWN may have been executed.",
    ),
}
"""The reasons of ErrorDetail, in the order of TS 28.572, as plugins and elements send them."""

TS_28572_TYPES: Final = {
    "SCHEMA_VALIDATION_ERROR": _texts(
        "The request does not fit the model",
        "The element refused the operation, because a name, a value or a place in it is not in the model.",
        f"Correct the request, as the detail says, in a new job; {_SAME_AGAIN}",
    ),
    "DATA_NODE_TREE_ERROR": _texts(
        "The tree of objects does not allow it",
        "The element refused the operation, because its target or the parent does not exist, or the target "
        "exists already.",
        f"Compare the path with the objects that exist; {_UNTIL_THEN}",
    ),
    "MODIFICATION_NOT_ALLOWED": _texts(
        "The change is not allowed",
        "The element refused the operation, because its target may not be changed so.",
        f"Leave the operation out, or change what prevents it; {_UNTIL_THEN}",
    ),
    "ACCESS_CONTROL_CONFLICT": _texts(
        "Access control forbids it",
        "The element refused the operation, because the account of the plugin may not do this.",
        f"Have the rights of that account checked; {_UNTIL_THEN}",
    ),
    "APPLICATION_LAYER_ERROR": _texts(
        "The application refused it",
        "The element understood the operation, and its application could not do it.",
        f"Read the detail, and have the state of the element checked; {_UNTIL_THEN}",
    ),
    "SERVER_ERROR": _texts(
        "An error inside the element or the plugin",
        "The element or the plugin failed by itself while it executed the operation.",
        f"Have the element and the plugin checked; {_LOOK_FIRST}",
    ),
}
"""The types of ErrorDetail: each is used as the reason of an error that has none. OTHER is both."""

CODES: Final = {
    "STATUS_100": _texts(
        "The DMI plugin knows no such CM handle",
        "The DMI plugin answered the code 100 of ONAP's list: it owns no CM handle for the object.",
        f"Compare the CM handles of the plugin with those that are registered; {_UNTIL_THEN}",
    ),
    "STATUS_102": _texts(
        "The DMI plugin got no answer",
        "The DMI plugin answered the code 102 of ONAP's list: what executes the operation did not respond.",
        f"Have the element and the plugin checked; {_LOOK_FIRST}",
    ),
    "STATUS_103": _texts(
        "The DMI plugin cannot read the data",
        "The DMI plugin answered the code 103 of ONAP's list: the data could not be read.",
        f"Have the name, the element and the plugin checked; {_LOOK_FIRST}",
    ),
    "STATUS_107": _texts(
        "The data producer is busy",
        "The DMI plugin answered the code 107 of ONAP's list: the system behind it is busy.",
        "Retry after a while; a retry is safe, because the operation was not executed.",
    ),
    "STATUS_108": _texts(
        "The DMI plugin gave no cause",
        "The DMI plugin reported a failure without a cause: with code 108 of ONAP's list, or without a code.",
        f"Look into the log of the plugin; {_LOOK_FIRST}",
    ),
    "STATUS_112": _texts(
        "The data is too large",
        "A single object is larger than a message or a result may be: code 112 of ONAP's list.",
        f"Ask for fewer attributes, or for a smaller scope; {_UNTIL_THEN}",
    ),
    "STATUS_<code>": _texts(
        "The DMI plugin gave only a code",
        "The DMI plugin reported a failure, and gave nothing but a status code that is no failure in ONAP's "
        "list.",
        f"Look the code up in the documentation of the plugin; {_LOOK_FIRST}",
        pattern="^STATUS_-?[0-9]+$",
    ),
}
"""Reasons of responses in which the plugin reported only ``statusCode``."""

_PLUGINS_OWN: Final = {
    "<word of the plugin>": _texts(
        "A word of the DMI plugin",
        "The DMI plugin gave a reason of its own, which is in no list of ran-datajobs, 3GPP or ONAP.",
        f"Look the word up in the documentation of the plugin; {_LOOK_FIRST}",
        pattern=r"\S",
    ),
}

REASONS: Final = tuple(
    structs.replace(explanation, reason=reason)
    for reason, explanation in (OURS | TS_28572 | TS_28572_TYPES | CODES | _PLUGINS_OWN).items()
)
"""Every possible reason: the last one explains those that no other entry explains."""

_OF_STATE: Final = {
    OperationState.NOT_STARTED: Reason.NOT_STARTED,
    OperationState.UNKNOWN: Reason.OUTCOME_UNKNOWN,
}
_BY_REASON: Final = {each.reason: each for each in REASONS if each.pattern is None}


def explanation_of(reason: str) -> Explanation:
    """Explanation of ``reason``, which may be any text."""
    by_pattern = (each for each in REASONS if each.pattern and re.search(each.pattern, reason))
    return _BY_REASON.get(reason) or next(by_pattern, REASONS[-1])


def reason_of(response: Response, state: OperationState) -> str:
    """Reason why the operation of ``response`` is in ``state``, which is not SUCCEEDED; never empty.

    The response's reason, else the result of :func:`reason_of_errors`, else NOT_STARTED or OUTCOME_UNKNOWN if
    that is the state, else ``STATUS_<statusCode>``. A blank reason counts as none.
    """
    if reason := response.reason.strip() or reason_of_errors(response.errors):
        return reason
    return _OF_STATE.get(state) or f"STATUS_{response.status_code}"


def reason_of_errors(errors: Sequence[ErrorDetail]) -> str:
    """The reason of the first error, else its type; empty without errors."""
    return (errors[0].reason.strip() or errors[0].type.strip()) if errors else ""


def with_reason(response: Response, state: OperationState) -> Response:
    """``response`` with its reason filled in, unless ``state`` is SUCCEEDED."""
    if state is OperationState.SUCCEEDED or (reason := reason_of(response, state)) == response.reason:
        return response
    return structs.replace(response, reason=reason)
