# SPDX-License-Identifier: Apache-2.0
"""What a broker says of a topic, and what it means for who wants to write."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AclOperation

from ran_datajobs.messaging.kafka import may_write


@pytest.mark.parametrize(
    ("operations", "allowed"),
    [
        (None, True),
        ([], True),
        ([AclOperation.DESCRIBE], False),
        ([AclOperation.READ, AclOperation.DESCRIBE], False),
        ([AclOperation.WRITE, AclOperation.DESCRIBE], True),
        ([AclOperation.ALL], True),
    ],
)
def test_a_broker_that_tells_nothing_forbids_nothing(
    operations: list[AclOperation] | None, allowed: bool
) -> None:
    """One without an authorizer may not tell which operations it allows: then all are."""
    assert may_write(operations) is allowed
