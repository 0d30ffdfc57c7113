# SPDX-License-Identifier: Apache-2.0
"""A real Apache Kafka broker (KRaft, one node) for the tests that need one."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.peers.program import Program, free_ports, not_installed

JARS = Path(__file__).parents[2] / ".deps" / "kafka"

_JAVA = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_{user}="{password}";
listener.name.sasl.ssl.keystore.type=PKCS12
listener.name.sasl.ssl.keystore.location={folder}/broker.p12
listener.name.sasl.ssl.keystore.password={password}
listener.name.sasl.ssl.key.password={password}
log.dirs={folder}/data
num.partitions=3
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
group.min.session.timeout.ms=500
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


class KafkaBroker:
    """One broker. It creates a topic that a client requests, as brokers do by default.

    ``sasl_bootstrap`` is the address of a second listener, which uses TLS with ``certificate`` (PEM) and
    accepts only the user below. That user has every permission until :meth:`allow_only` restricts it; all
    others have every permission.
    """

    user = "tests"
    password = "only-for-tests"

    def __init__(self, folder: Path) -> None:
        port, sasl, controller = free_ports(3)
        self.sasl_bootstrap = f"127.0.0.1:{sasl}"
        self.bootstrap = f"127.0.0.1:{port}"
        self.certificate = folder / "broker.pem"
        self._make_certificate(folder / "broker.p12")
        properties = folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                port=port,
                sasl=sasl,
                controller=controller,
                folder=folder,
                user=self.user,
                password=self.password,
            )
        )
        java = ("java", *_JAVA, "-cp", f"{JARS}/*")
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)],
            check=True,
            capture_output=True,
        )
        self._program = Program([*java, "kafka.Kafka", str(properties)], folder, {})
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _make_certificate(self, store: Path) -> None:
        """A key for this machine with a self-signed certificate."""
        common = ["-alias", "broker", "-keystore", str(store), "-storepass", self.password]
        new = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1"]
        for command in (new, ["-exportcert", "-rfc", "-file", str(self.certificate)]):
            subprocess.run(["keytool", *command, *common], check=True, capture_output=True)

    def start(self) -> None:
        """Start it. After :meth:`kill` or :meth:`stop` it keeps its data."""
        self._program.start(self.answers)

    def launch(self) -> None:
        """Start it without waiting: :meth:`answers` says when it is available."""
        self._program.launch()

    def stop(self) -> None:
        """Stop it in order."""
        self._program.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._program.kill()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until it exists."""
        topic = NewTopic(name, partitions, 1, config=dict(config or {}))
        self._admin.create_topics([topic])[name].result(30)
        while not self._is_known(name):  # the broker's metadata lags its controller's
            pass

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it does not exist any more."""
        self._admin.delete_topics([name])[name].result(30)

    def allow_only(self, topic: str, operation: AclOperation) -> None:
        """From now on the user may do nothing but ``operation`` with a topic. Returns once the broker applies
        this."""
        rule = AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            f"User:{self.user}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        self._admin.create_acls([rule])[rule].result(30)
        of_user = AdminClient(
            {"bootstrap.servers": self.sasl_bootstrap, "log_level": 0, **self.sasl_settings}
        )
        asked = TopicCollection([topic])
        while True:
            described = of_user.describe_topics(asked, include_authorized_operations=True)[topic]
            if described.result(30).authorized_operations == [operation]:
                return

    @property
    def sasl_settings(self) -> dict[str, str]:
        """The settings of a client for ``sasl_bootstrap``."""
        return {
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": str(self.certificate),
            "sasl.mechanism": "PLAIN",
            "sasl.username": self.user,
            "sasl.password": self.password,
        }

    def _is_known(self, topic: str) -> bool:
        try:
            self._admin.describe_topics(TopicCollection([topic]))[topic].result(30)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return False
            raise
        return True

    def answers(self) -> bool:
        """True when it serves clients."""
        try:
            return bool(self._admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False


@contextlib.contextmanager
def running_broker() -> Iterator[KafkaBroker]:
    """A broker during the block. If Kafka is not installed, the test is skipped."""
    if shutil.which("java") is None or not list(JARS.glob("kafka_*.jar")):
        not_installed("Apache Kafka (a JDK and the broker's jars)")
    folder = Path(tempfile.mkdtemp(prefix="ran-datajobs-kafka-"))
    try:
        broker = KafkaBroker(folder)
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """A running broker of this test process."""
    with running_broker() as broker:
        yield broker
