/** One member of a consumer group, as a process that can be killed: prints what it gets as JSON lines. */
import { kafkaClient } from "./kafka.ts";

const [brokers = "", groupId = "", stream = ""] = process.argv.slice(2);
const say = (line: object): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`);
};

const consumer = kafkaClient(brokers).consumer({
  groupId,
  sessionTimeout: 6_000,
  rebalanceTimeout: 6_000,
  heartbeatInterval: 300,
  maxWaitTimeInMs: 200,
});
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  say({ partitions: payload.memberAssignment[stream] ?? [] });
});
consumer.on(consumer.events.CRASH, ({ payload }) => say({ crash: payload.error.message }));
await consumer.connect();
await consumer.subscribe({ topic: stream, fromBeginning: true });
await consumer.run({
  autoCommitInterval: 100,
  eachMessage: async ({ message }) => {
    say({ value: message.value?.toString() ?? null });
  },
});
process.on("SIGTERM", async () => {
  await consumer.disconnect();
  process.exit(0);
});
