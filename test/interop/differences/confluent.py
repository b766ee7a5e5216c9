"""librdkafka's judge, through Python's confluent-kafka: run with the bootstrap servers; prints what it saw, a
section a step. What depends on time or chance is left out here, not by the comparison."""

import sys
import threading
import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

brokers = sys.argv[1]
quiet = {"bootstrap.servers": brokers, "log_level": 0}
admin = AdminClient(quiet)
START = 1_700_000_000_000


def section(name):
    print(f"## confluent: {name}", flush=True)


def error_name(error):
    error = error.args[0] if isinstance(error, KafkaException) else error
    return error.name() if isinstance(error, KafkaError) else type(error).__name__


def outcome(future, show=lambda result: result):
    try:
        return show(future.result(20))
    except KafkaException as error:
        return error_name(error)


def each(futures, show=lambda result: result):
    for name, future in sorted(futures.items(), key=lambda item: str(item[0])):
        print(getattr(name, "name", name), outcome(future, show))


def produce(topic, records, **settings):
    """Sends (partition, key, value, headers, timestamp) in turn; prints what was refused, and the offsets."""
    delivered = []
    producer = Producer({**quiet, "linger.ms": 20, **settings})
    for partition, key, value, headers, timestamp in records:
        producer.produce(
            topic,
            value,
            key,
            partition,
            timestamp=timestamp,
            headers=headers,
            on_delivery=lambda error, message: delivered.append(
                (message.partition(), error.name() if error else message.offset())
            ),
        )
    left = producer.flush(20)
    print("delivered", len(delivered), "left", left, "last", sorted(set(delivered), key=str)[-2:])


def consume(topic, count, group, positions=None, **settings):
    consumer = Consumer({
        **quiet,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        **settings,
    })
    if positions is None:
        consumer.subscribe([topic])
    else:
        consumer.assign(positions)
    messages = []
    deadline = time.monotonic() + 20
    while len(messages) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            print("error", message.error().name())
            break
        messages.append(message)
    return consumer, messages


def show(message):
    kind, stamp = message.timestamp()
    stamp = stamp - START if kind == TIMESTAMP_CREATE_TIME and abs(stamp - START) < 10_000_000 else "now"
    return (message.partition(), message.offset(), kind, stamp, message.key(), message.value(), message.headers())


def topics():
    section("topics, create")
    each(admin.create_topics([
        NewTopic("cf-one", 1, 1),
        NewTopic("cf-four", 4, 1, config={"cleanup.policy": "delete", "retention.ms": "86400000"}),
        NewTopic("cf-default", -1, -1),
        NewTopic("cf-appended", 1, 1, config={"message.timestamp.type": "LogAppendTime"}),
    ]))
    section("topics, create badly")
    each(admin.create_topics([
        NewTopic("cf-one", 1, 1),
        NewTopic("cf bad", 1, 1),
        NewTopic("cf-replicas", 1, 3),
        NewTopic("cf-odd", 1, 1, config={"no.such": "1"}),
        NewTopic("cf-none", 0, 1),
    ]))
    section("topics, validate only")
    each(admin.create_topics([NewTopic("cf-tried", 1, 1)], validate_only=True))
    print("cf-tried" in admin.list_topics(timeout=10).topics)
    section("topics, add partitions")
    each(admin.create_partitions([NewPartitions("cf-four", 6)]))
    each(admin.create_partitions([NewPartitions("cf-four", 2)]))
    each(admin.create_partitions([NewPartitions("cf-nowhere", 2)]))
    # Kafka answers before every broker has heard of it.
    print(until(lambda: len(admin.list_topics("cf-four", timeout=10).topics["cf-four"].partitions) == 6))
    section("topics, describe")
    futures = admin.describe_topics(
        TopicCollection(["cf-four", "cf-default", "cf-nowhere"]), include_authorized_operations=True
    )
    each(futures, lambda d: (
        d.name, d.is_internal, [(p.id, p.leader.id, [n.id for n in p.replicas], [n.id for n in p.isr]) for p in d.partitions],
        sorted(operation.name for operation in d.authorized_operations),
    ))
    section("topics, metadata")
    metadata = admin.list_topics("cf-four", timeout=10)
    print(metadata.controller_id, sorted(metadata.brokers), len(metadata.topics["cf-four"].partitions))
    section("cluster")
    cluster = admin.describe_cluster(include_authorized_operations=True).result(10)
    print(len(cluster.cluster_id), cluster.controller.id, [node.id for node in cluster.nodes])
    print(sorted(operation.name for operation in cluster.authorized_operations))


def configs():
    section("configs, describe")
    wanted = {"cleanup.policy", "retention.ms", "message.timestamp.type", "max.message.bytes"}
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in ("cf-four", "cf-nowhere")]
    each(admin.describe_configs(resources), lambda entries: sorted(
        (name, entry.value, entry.is_default, entry.is_read_only) for name, entry in entries.items() if name in wanted
    ))

    def alter(name, value, operation):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.TOPIC, "cf-four", incremental_configs=[entry])
        print(name, value, operation.name, outcome(admin.incremental_alter_configs([resource])[resource]), flush=True)
        time.sleep(0.3)  # as above

    section("configs, alter")
    alter("retention.ms", "3600000", AlterConfigOpType.SET)
    alter("cleanup.policy", "compact", AlterConfigOpType.APPEND)
    alter("cleanup.policy", "compact", AlterConfigOpType.SUBTRACT)
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    alter("retention.ms", "soon", AlterConfigOpType.SET)
    alter("no.such", "1", AlterConfigOpType.SET)
    section("configs, alter all at once")
    resource = ConfigResource(ConfigResource.Type.TOPIC, "cf-four", set_config={"retention.bytes": "5000000"})
    print(outcome(admin.alter_configs([resource])[resource]))
    section("configs, describe after")
    each(admin.describe_configs(resources[:1]), lambda entries: sorted(
        (name, entry.value, entry.is_default) for name, entry in entries.items() if name in wanted
    ))


def records():
    plain = [
        (0, b"k", b"v", [("h", b"1"), ("h", b"2"), ("empty", b""), ("null", None)], START),
        (0, None, b"no key", None, START + 5),
        (0, b"", b"", [], START + 3),
        (0, b"tombstone", None, None, START + 10),
    ]
    section("records, produce")
    produce("cf-one", plain)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        section(f"records, produce {codec}")
        some = [(0, b"k%d" % n, (b"%s %d " % (codec.encode(), n)) * 20, None, START + 100 + n) for n in range(50)]
        produce("cf-one", some, **{"compression.type": codec})
    section("records, idempotent")
    produce("cf-one", [(0, None, b"once %d" % n, None, START + 1000 + n) for n in range(200)],
            **{"enable.idempotence": True, "batch.num.messages": 7})
    for acks in (0, 1, -1):
        section(f"records, acks {acks}")
        produce("cf-one", [(0, None, b"acks", None, START + 2000)], acks=acks)
        time.sleep(0.2)
    section("records, the broker's time")
    produce("cf-appended", [(0, b"k", b"v", None, START)])
    section("records, too large")
    produce("cf-one", [(0, None, b"x" * 2_000_000, None, START)], **{"message.max.bytes": 10_000_000})
    section("records, to a partition that is not there")
    produce("cf-one", [(9, None, b"x", None, START)], **{"message.timeout.ms": 3000})
    section("records, all of them")
    consumer, messages = consume("cf-one", 457, "cf-all", [TopicPartition("cf-one", 0, OFFSET_BEGINNING)],
                                 **{"check.crcs": True})
    consumer.close()
    for message in messages:
        print(*show(message))
    section("records, read committed")
    consumer, messages = consume("cf-one", 457, "cf-all", [TopicPartition("cf-one", 0, OFFSET_BEGINNING)],
                                 **{"isolation.level": "read_committed"})
    print(len(messages))
    section("records, watermarks and times")
    print(consumer.get_watermark_offsets(TopicPartition("cf-one", 0), timeout=10))
    for stamp in (0, START + 101, START + 1000, START + 5000):
        found = consumer.offsets_for_times([TopicPartition("cf-one", 0, stamp)], timeout=10)
        print(stamp - START, found[0].offset)
    consumer.close()
    section("records, the broker's time is read")
    consumer, messages = consume("cf-appended", 1, "cf-all", [TopicPartition("cf-appended", 0, OFFSET_BEGINNING)])
    consumer.close()
    for message in messages:
        print(*show(message))
    for reset in ("earliest", "latest", "error"):
        section(f"records, from beyond the end, {reset}")
        consumer, messages = consume("cf-appended", 1 if reset != "latest" else 0, "cf-all",
                                     [TopicPartition("cf-appended", 0, 1000)], **{"auto.offset.reset": reset})
        consumer.close()
        print([message.offset() for message in messages])
    section("records, created by producing")
    produce("cf-created", [(-1, b"k", b"v", None, START)])
    print(len(admin.list_topics("cf-created", timeout=10).topics["cf-created"].partitions))


def offsets():
    section("offsets, list")
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.max_timestamp(), OffsetSpec.for_timestamp(START + 1000)):
        for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
            future = admin.list_offsets({TopicPartition("cf-one", 0): spec}, isolation_level=level)
            each(future, lambda info: (info.offset, info.timestamp - START if info.timestamp > 0 else info.timestamp))
    section("offsets, of what is not there")
    each(admin.list_offsets({TopicPartition("cf-nowhere", 0): OffsetSpec.latest()}, request_timeout=4))
    section("offsets, delete records")
    each(admin.delete_records([TopicPartition("cf-one", 0, 60)]), lambda deleted: deleted.low_watermark)
    each(admin.delete_records([TopicPartition("cf-one", 0, 6000)]))
    section("offsets, what is left")
    consumer, messages = consume("cf-one", 1, "cf-all", [TopicPartition("cf-one", 0, 10)])
    print([message.offset() for message in messages], consumer.get_watermark_offsets(TopicPartition("cf-one", 0), timeout=10))
    consumer.close()


class Member(threading.Thread):
    """One of a group: reads until it is told to stop."""

    def __init__(self, group, **settings):
        super().__init__(daemon=True)
        self.consumer = Consumer({**quiet, "group.id": group, "auto.offset.reset": "earliest",
                                  "session.timeout.ms": 6000, "heartbeat.interval.ms": 200, **settings})
        self.read = []
        self.share = set()
        self.running = True
        self.start()

    def assigned(self, _, partitions):
        self.share |= {partition.partition for partition in partitions}

    def revoked(self, _, partitions):
        self.share -= {partition.partition for partition in partitions}

    def run(self):
        self.consumer.subscribe(["cf-four"], on_assign=self.assigned, on_revoke=self.revoked)
        while self.running:
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.read.append((message.partition(), message.offset()))
        self.consumer.close()

    def stop(self):
        self.running = False
        self.join(20)


def until(condition, seconds=25):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def groups():
    section("groups, fill")
    produce("cf-four", [(n % 6, b"k", b"%d" % n, None, START + n) for n in range(120)])
    for strategy in ("range", "roundrobin", "cooperative-sticky"):
        section(f"groups, {strategy}")
        group = f"cf-{strategy}"
        members = [Member(group, **{"partition.assignment.strategy": strategy}) for _ in range(2)]

        def share():
            return [len(member.share) for member in members]

        print("shared", until(lambda: share() == [3, 3]))
        members.append(Member(group, **{"partition.assignment.strategy": strategy}))
        print("shared by three", until(lambda: share() == [2, 2, 2]))
        members.pop().stop()
        print("shared again", until(lambda: share() == [3, 3]))
        print("read", until(lambda: len({place for member in members for place in member.read}) == 120))
        if strategy == "range":
            description = admin.describe_consumer_groups([group])[group].result(10)
            print(description.state.name, description.partition_assignor, description.is_simple_consumer_group,
                  description.coordinator.id, [(m.client_id, m.host, len(m.assignment.topic_partitions)) for m in description.members])
            print("delete", outcome(admin.delete_consumer_groups([group])[group]))
        for member in members:
            member.stop()
    section("groups, static members")
    members = [Member("cf-static", **{"group.instance.id": f"fixed-{n}"}) for n in range(2)]
    print("shared", until(lambda: all(len(member.share) == 3 for member in members)))
    description = admin.describe_consumer_groups(["cf-static"])["cf-static"].result(10)
    print(sorted(m.group_instance_id for m in description.members))
    before = set(members[0].share)
    members[0].stop()
    members[0] = Member("cf-static", **{"group.instance.id": "fixed-0"})
    print("has its own again", until(lambda: members[0].share == before))
    for member in members:
        member.stop()
    section("groups, commit and fetch")
    consumer, messages = consume("cf-four", 120, "cf-committed")
    print(len(messages))
    print(sorted((p.partition, p.offset) for p in consumer.commit(asynchronous=False)))
    consumer.commit(offsets=[TopicPartition("cf-four", 0, 7, metadata="a note")], asynchronous=False)
    print([(p.partition, p.offset, p.metadata) for p in consumer.committed([TopicPartition("cf-four", 0), TopicPartition("cf-four", 5)], timeout=10)])
    consumer.close()
    section("groups, list")
    listed = admin.list_consumer_groups().result(10)
    print(sorted((g.group_id, g.state.name, g.is_simple_consumer_group) for g in listed.valid if g.group_id.startswith("cf-")), listed.errors)
    section("groups, offsets by the administrator")
    asked = ConsumerGroupTopicPartitions("cf-committed")
    each(admin.list_consumer_group_offsets([asked]), lambda result: sorted((p.topic, p.partition, p.offset, p.metadata) for p in result.topic_partitions))
    changed = ConsumerGroupTopicPartitions("cf-committed", [TopicPartition("cf-four", 1, 3)])
    each(admin.alter_consumer_group_offsets([changed]), lambda result: [(p.partition, p.offset, p.error and p.error.name()) for p in result.topic_partitions])
    each(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("cf-nobody")]), lambda result: result.topic_partitions)
    section("groups, describe what is not there")
    each(admin.describe_consumer_groups(["cf-nobody"]), lambda d: (d.state.name, d.members))
    section("groups, delete")
    each(admin.delete_consumer_groups(["cf-committed", "cf-nobody"]))


def rest():
    section("transactions")
    producer = Producer({**quiet, "transactional.id": "cf"})
    try:
        producer.init_transactions(10)
        print("begun")
    except KafkaException as error:
        print(error_name(error), "fatal", error.args[0].fatal(), "retriable", error.args[0].retriable())
    section("acls")
    from confluent_kafka.admin import AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType
    everything = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
    print(outcome(admin.describe_acls(everything)))
    section("topics, delete")
    each(admin.delete_topics(["cf-one", "cf-nowhere"]))
    print(until(lambda: "cf-one" not in admin.list_topics(timeout=10).topics))


for part in (topics, configs, records, offsets, groups, rest):
    part()
