# SPDX-License-Identifier: Apache-2.0
"""Headers of events, names of topics, and the manifest: values alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.messaging import events
from ran_datajobs.messaging.events import PLUGIN, SERVICE, ResultPart, result_headers, status_headers
from ran_datajobs.messaging.topics import (
    INTERNAL_TOPIC,
    POSITION_TOPIC,
    STATUS_TOPIC,
    reserved_topic,
    topic_problem,
)
from ran_datajobs.model import UNMATCHED_PART, OperationCounts, Status
from ran_datajobs.results.objects import manifest_key, part_key, raw_key, valid_key
from ran_datajobs.results.parts import manifest
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.results import FOREIGN_SEQUENCE, Part

AT = datetime(2026, 11, 24, 3, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))


def test_a_result_event_of_the_service() -> None:
    """Every header of the contract is present, with the time in UTC and counts as text."""
    part = ResultPart("job-1", "sub-1", 2, 3, "ems-1", "pj-9", delivery=2)
    headers = result_headers(part, "rapp-topic", SERVICE, AT)
    assert UUID(headers.pop("ce_id"))
    assert headers == {
        "ce_specversion": "1.0",
        "ce_source": "ncmp.job-1",
        "ce_type": "org.onap.cps.ncmp.events.async1_0_0.DataJobEvent",
        "ce_time": "2026-11-24T02:00:00.123Z",
        "ce_dataschema": "urn:cps:org.onap.cps.ncmp.events.async1_0_0.DataJobEvent:1.0.0",
        "content-type": "application/json",
        "ce_correlationid": "job-1",
        "ce_destination": "rapp-topic",
        "ce_subjobid": "sub-1",
        "ce_dataproducerid": "ems-1",
        "ce_dataproducerjobid": "pj-9",
        "ce_sequence": "2",
        "ce_total": "3",
        "ce_delivery": "2",
    }


def test_a_result_event_of_a_plugin() -> None:
    """A plugin is the source of its events and has no delivery. It omits values that it does not have yet."""
    headers = result_headers(ResultPart("job-1", "sub-1", 0), "rapp-topic", PLUGIN, AT)
    assert headers["ce_source"] == "dmi.job-1"
    assert not {"ce_delivery", "ce_total", "ce_dataproducerid", "ce_dataproducerjobid"} & set(headers)


def test_the_id_of_an_event_says_what_it_is() -> None:
    """The same part of the same delivery has the same id. Each other one has another."""

    def id_of(**changes: object) -> str:
        part = msgspec.structs.replace(ResultPart("j", "s", 0), **changes)
        return result_headers(part, "t", SERVICE, AT)["ce_id"]

    assert id_of() == id_of()
    others = [id_of(), id_of(sequence=1), id_of(delivery=2), id_of(sub_job="x"), id_of(job_id="x")]
    assert len(set(others)) == len(others)


def test_a_status_event_has_no_sub_job() -> None:
    """Its type is its own, and each version of a job has a separate event."""
    headers = status_headers("job-1", "rapp-topic", 7, AT)
    assert headers["ce_type"].endswith("DataJobStatusEvent")
    assert headers["ce_correlationid"] == "job-1"
    assert not {"ce_subjobid", "ce_sequence", "ce_total", "ce_delivery"} & set(headers)
    assert headers["ce_id"] != status_headers("job-1", "rapp-topic", 8, AT)["ce_id"]


@given(st.text(max_size=12))
def test_a_count_is_a_small_number_in_ascii_digits(text: str) -> None:
    """Any other value of a header is no count."""
    count = events.count_in({events.SEQUENCE: text}, events.SEQUENCE)
    if count is None:
        assert not (text.isascii() and text.isdigit() and len(text) <= 9)
    else:
        assert 0 <= count < 10**9
        assert count == int(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "a" * 250, "a\n", "a\0"])
def test_what_no_topic_may_be_called(name: str) -> None:
    """Kafka's rule for names, in words."""
    assert topic_problem(name) is not None


@pytest.mark.parametrize("name", [INTERNAL_TOPIC, STATUS_TOPIC, POSITION_TOPIC, "__consumer_offsets"])
def test_topics_that_no_job_may_write_to(name: str) -> None:
    """The service's own topics and Kafka's internal ones are valid names, but reserved."""
    assert topic_problem(name) is None
    assert reserved_topic(name)
    assert not reserved_topic("rapp-topic")


@given(st.uuids(), st.uuids(), st.integers(0, 10**7))
def test_our_keys_are_valid_keys(job_id: UUID, sub_job: UUID, sequence: int) -> None:
    """Every key that the service makes passes its own check."""
    for key in (
        part_key(str(job_id), str(sub_job), sequence),
        part_key(str(job_id), UNMATCHED_PART, sequence),
        raw_key(str(job_id), str(sub_job)),
        raw_key(str(job_id), str(sub_job), sequence),
        manifest_key(str(job_id)),
    ):
        assert valid_key(key)


def job_row() -> JobRow:
    """A stored job, with plain values wherever they do not matter."""
    values = {"job_id": str(uuid4()), "type": "READ", "status": "RUNNING", "delivery_state": "PENDING"}
    plain: dict[str, object] = {}
    for field in msgspec.structs.fields(JobRow):
        kind = str(field.type)
        if field.name in values:
            plain[field.name] = values[field.name]
        elif "datetime" in kind:
            plain[field.name] = datetime(2026, 11, 24, tzinfo=UTC).isoformat()
        elif "OperationCounts" in kind:
            plain[field.name] = {}
        elif "int" in kind:
            plain[field.name] = 1
        elif "bool" in kind:
            plain[field.name] = False
        elif "None" in kind:
            plain[field.name] = None
        else:
            plain[field.name] = ""
    return msgspec.convert(plain, JobRow, strict=False)


def test_the_manifest_lists_every_object_with_its_check_sum() -> None:
    """Status as spelt in JSON, counts, and for each object everything that a reader needs to check it."""
    job = job_row()
    counts = OperationCounts(3, 1, 1, 1, 0, 0, 0)
    listed = [
        Part("sub-1", 0, "j/sub-1/0.json", 100, "aa", 2, 1),
        Part("sub-1", FOREIGN_SEQUENCE, "j/sub-1/plugin-result", 7, "cc", 0, 0),
        Part(UNMATCHED_PART, 0, "j/unmatched/0.json", 50, "bb", 1, 1),
    ]
    body = manifest(job, Status.FINISHED, counts, listed, "FINSHED")
    decoded = msgspec.json.decode(body)
    assert decoded["jobId"] == str(job.job_id)
    assert decoded["status"] == "FINSHED"
    assert decoded["operations"]["total"] == 3
    assert decoded["objects"] == [
        {
            "key": "j/sub-1/0.json",
            "bytes": 100,
            "sha256": "aa",
            "operations": 2,
            "failed": 1,
            "subJobId": "sub-1",
        },
        {
            "key": "j/sub-1/plugin-result",
            "bytes": 7,
            "sha256": "cc",
            "operations": 0,
            "failed": 0,
            "subJobId": "sub-1",
            "foreign": True,
        },
        {"key": "j/unmatched/0.json", "bytes": 50, "sha256": "bb", "operations": 1, "failed": 1},
    ]
    assert msgspec.json.decode(manifest(job, Status.FINISHED, counts, [], "FINISHED"))["status"] == "FINISHED"
