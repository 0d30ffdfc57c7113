#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Consume the results of data jobs from a Kafka topic, and verify that they are complete.

An rApp in one file: it uses confluent-kafka and the standard library, and no code of the service. It shows
the three tasks of a consumer:

1. Read committed messages only, and drop duplicates. The key of a message is (ce_correlationid, ce_subjobid,
   ce_sequence, ce_delivery).
2. Detect that all messages have arrived: ce_sequence counts from 0 in each sub-job, and ce_total is the
   number of its messages.
3. Compare the messages with the manifest of the job: there are as many messages as objects, and each has the
   SHA-256 of its object.

    python examples/consume_results.py --bootstrap 127.0.0.1:9092 --topic my-results \\
        --server http://127.0.0.1:8080 JOB_ID [JOB_ID ...]

Exit status: 0 when all jobs are complete, 1 when a message is missing or different after --patience seconds.
The token is read from DATAJOBS_TOKEN, if the service requires one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Message

TERMINAL = {"FINSHED", "FINISHED", "FAILED", "PARTIALLY_FAILED", "CANCELLED"}
RESULT = "org.onap.cps.ncmp.events.async1_0_0.DataJobEvent"
UNMATCHED = "unmatched"


@dataclass
class Received:
    """The messages of one delivery of one job: the digest of each, by sub-job and sequence."""

    digests: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    totals: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    duplicates: int = 0

    def take(self, message: Message) -> None:
        """Store a new message; count a duplicate."""
        headers = headers_of(message)
        sub_job, sequence = headers["ce_subjobid"], int(headers["ce_sequence"])
        if sequence in self.digests[sub_job]:
            self.duplicates += 1
            return
        document = json.loads(message.value())["data"]
        self.digests[sub_job][sequence] = digest_of(message.value(), document)
        self.operations += len(document.get("responses", ()))
        if "ce_total" in headers:
            self.totals[sub_job] = int(headers["ce_total"])

    def missing(self, manifest: dict[str, Any]) -> list[str]:
        """Returns the differences from the manifest as sentences; none when the job is complete."""
        objects: dict[str, list[str]] = defaultdict(list)
        for entry in manifest["objects"]:  # of each sub-job in the order of its messages
            if not entry.get("foreign"):
                objects[entry.get("subJobId", UNMATCHED)].append(entry["sha256"])
        problems = [f"sub-job {name} is not in the manifest" for name in self.digests.keys() - objects.keys()]
        for sub_job, expected in objects.items():
            got = self.digests.get(sub_job, {})
            if sorted(got) != list(range(len(expected))):
                problems.append(f"sub-job {sub_job}: {len(got)} of {len(expected)} messages")
            elif [got[sequence] for sequence in range(len(expected))] != expected:
                problems.append(f"sub-job {sub_job}: a message differs from the manifest")
            elif self.totals.get(sub_job) != len(expected):
                problems.append(f"sub-job {sub_job}: ce_total is {self.totals.get(sub_job)}")
        return problems


def headers_of(message: Message) -> dict[str, str]:
    """The headers of a message as text."""
    return {name: (value or b"").decode() for name, value in message.headers() or ()}


def digest_of(value: bytes, document: dict[str, Any]) -> str:
    """SHA-256 of the result object in a message.

    The object is the message without its envelope. An object that is too large for a message is referenced by
    its address (``dataref``) and its SHA-256; a consumer that fetches it compares the SHA-256.
    """
    if "dataref" in document:
        return str(document["sha256"])
    for response in document["responses"]:
        result = response.get("result")
        if isinstance(result, dict) and "dataref" in result:
            return str(result["sha256"])
    return hashlib.sha256(value.removeprefix(b'{"data":').removesuffix(b"}")).hexdigest()


def get(address: str) -> Any:
    """Fetch a JSON document from the service."""
    request = urllib.request.Request(address)
    if token := os.environ.get("DATAJOBS_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def problems_of(server: str, job_id: str, deliveries: dict[int, Received]) -> list[str]:
    """Returns what is missing of a job; nothing when one of its deliveries is complete."""
    job = get(f"{server}/ranoam/cm/v1/dataJob/{job_id}")
    if job["status"] not in TERMINAL:
        return [f"it is {job['status']}"]
    if not deliveries:
        return ["no message has arrived"]
    manifest = get(job["resultsuri"])
    return min((each.missing(manifest) for each in deliveries.values()), key=len)


def consume(arguments: argparse.Namespace, kafka: dict[str, str]) -> int:
    """Read until every job is complete or the time is over. Returns the exit status."""
    jobs: dict[str, dict[int, Received]] = {job_id: defaultdict(Received) for job_id in arguments.jobs}
    open_jobs = set(jobs)
    consumer = Consumer(
        {
            **kafka,
            "bootstrap.servers": arguments.bootstrap,
            "group.id": arguments.group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,  # an rApp commits after it has stored the messages
        }
    )
    consumer.subscribe([arguments.topic])
    deadline = time.monotonic() + arguments.patience
    try:
        while open_jobs and time.monotonic() < deadline:
            messages = consumer.consume(500, timeout=1.0)
            for message in messages:
                if message.error():
                    continue
                headers = headers_of(message)
                job_id = headers.get("ce_correlationid", "")
                if headers.get("ce_type") == RESULT and job_id in jobs:
                    jobs[job_id][int(headers["ce_delivery"])].take(message)
            if not messages:
                open_jobs = {each for each in open_jobs if problems_of(arguments.server, each, jobs[each])}
    finally:
        consumer.close()
    for job_id, deliveries in jobs.items():
        count = sum(len(sub_job) for each in deliveries.values() for sub_job in each.digests.values())
        outcomes = sum(each.operations for each in deliveries.values())
        again = sum(each.duplicates for each in deliveries.values())
        problems = problems_of(arguments.server, job_id, deliveries) if job_id in open_jobs else []
        state = "; ".join(problems) or "complete"
        print(f"{job_id}: {count} messages, {outcomes} outcomes, {again} duplicates: {state}")
    return 1 if open_jobs else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT", help="Kafka servers")
    parser.add_argument("--topic", required=True, help="the destination of the jobs")
    parser.add_argument("--server", default="http://127.0.0.1:8080", help="address of the service")
    parser.add_argument("--group", default="consume-results-example", help="name of the consumer group")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds after which it stops waiting")
    parser.add_argument("--kafka", action="append", default=[], metavar="NAME=VALUE", help="Kafka settings")
    parser.add_argument("jobs", nargs="+", metavar="JOB_ID")
    arguments = parser.parse_args()
    arguments.server = arguments.server.rstrip("/")
    return consume(arguments, dict(setting.partition("=")[::2] for setting in arguments.kafka))


if __name__ == "__main__":
    sys.exit(main())
