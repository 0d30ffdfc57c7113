# SPDX-License-Identifier: Apache-2.0
"""The metadata that a broker returns for a topic, and its meaning for a producer."""

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
    """A broker without an authorizer may not return the allowed operations: then all are allowed."""
    assert may_write(operations) is allowed
