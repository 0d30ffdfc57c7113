# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, a Kafka broker and an S3 service on this machine, for trying things out: `make services`.

The tests start the same programs. Their data is removed when Ctrl-C stops them.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.peers.kafka import JARS, KafkaBroker
from tests.peers.s3 import S3Service

from ran_datajobs.local.postgres import EmbeddedPostgres

TOPIC = "rapp-topic"


def main() -> int:
    """Run all three until a signal. Returns the exit status."""
    if shutil.which("java") is None or not list(JARS.glob("kafka_*.jar")):
        print("Apache Kafka is not installed: run `make deps`", file=sys.stderr)  # noqa: T201 - for people
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ran-datajobs-services-") as folder:
        for name in ("kafka", "s3", "postgres"):
            Path(folder, name).mkdir()
        kafka, s3 = KafkaBroker(Path(folder, "kafka")), S3Service(Path(folder, "s3"))
        try:
            kafka.start()
            kafka.create_topic(TOPIC)
            s3.start()
            asyncio.run(_until_interrupted(kafka, s3, EmbeddedPostgres(Path(folder, "postgres"))))
        except KeyboardInterrupt:
            return 0
        finally:
            s3.stop()
            kafka.stop()
    return 0


async def _until_interrupted(kafka: KafkaBroker, s3: S3Service, postgres: EmbeddedPostgres) -> None:
    try:
        url = await postgres.start()
        print(  # noqa: T201 - for people
            "PostgreSQL, Kafka and S3 are running. In another terminal:\n"
            f"  export DATAJOBS_DATABASE_URL='{url}'\n"
            f"  export DATAJOBS_KAFKA_BOOTSTRAP={kafka.bootstrap}\n"
            f"  export DATAJOBS_S3_ENDPOINT={s3.endpoint}\n"
            f"  export AWS_ACCESS_KEY_ID={s3.access_key_id}\n"
            f"  export AWS_SECRET_ACCESS_KEY={s3.secret_access_key}\n"
            f"  datajobs serve                        # results go to the bucket {s3.bucket}\n"
            f"  datajobs dmi --dmi-kafka-bootstrap {kafka.bootstrap}    # a plugin over a simulated network\n"
            f"The topic {TOPIC} and the bucket {s3.other_bucket} exist as destinations.\n"
            "Ctrl-C stops them.",
            flush=True,
        )
        await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.shield(postgres.stop())


if __name__ == "__main__":
    sys.exit(main())
