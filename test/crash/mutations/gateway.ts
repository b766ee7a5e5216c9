import type { Mutation } from "../mutations.ts";

/** Found where the broker and the group coordinator are driven, too. */
export const MUTATIONS_ABOVE_THE_LOG: readonly Mutation[] = [
  {
    name: "acknowledge QoS 0 and 1 before the commit",
    edits: [
      {
        file: "mqtt/broker.ts",
        find: "    this.append(client, publish, false, (error) => {\n      if (error !== null) {",
        replace:
          "    lane.acknowledge(publish);\n    this.append(client, publish, false, (error) => {\n      if (error !== null) {",
      },
      {
        file: "mqtt/broker.ts",
        find: "      lane.acknowledge(publish);\n      if (this.deliveries",
        replace: "      if (this.deliveries",
      },
    ],
  },
  {
    name: "acknowledge QoS 2 before the commit",
    edits: [
      {
        file: "mqtt/broker.ts",
        find: "      this.append(client, packet, false, (error) => {\n        if (error === null) {",
        replace:
          "      queueMicrotask(resolve);\n      this.append(client, packet, false, (error) => {\n        if (error === null) {",
      },
    ],
  },
  {
    name: "take what follows a refused message",
    edits: [
      {
        file: "mqtt/broker.ts",
        find: "if (this.stopping !== undefined || client.isRefused) return 0; // as above",
        replace: "if (this.stopping !== undefined) return 0;",
      },
    ],
  },
  {
    name: "take a PUBREL for one of an unknown id when an earlier one is refused",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: 'if (packet.cmd !== "pubrel") await stored;',
        replace: "await stored;",
      },
    ],
  },
  {
    name: "never write a session whose beginning was refused",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "      if (error !== null) session.isUnwritten = true;\n",
        replace: "      void error;\n",
      },
    ],
  },
  {
    name: "answer a retransmission before the first one is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: 'if (packet.cmd !== "pubrel") await stored;',
        replace: "void packet.cmd;",
      },
    ],
  },
  {
    name: "a QoS 2 packet id in a commit of its own",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: 'add({ entry: this.store.entry("received", key, {}) });',
        replace: 'setImmediate(() => this.store.append([this.store.entry("received", key, {})], () => {}));',
      },
    ],
  },
  {
    name: "forget QoS 2 packet ids at the start",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "else session.incoming.set(key.packetId, null);",
        replace: "else {}",
      },
    ],
  },
  {
    name: "PUBCOMP before the release of its packet id is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "      await released;\n",
        replace: "",
      },
    ],
  },
  {
    name: "retained messages in a commit of their own",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "if (packet.retain) add(this.retained.change(packet));",
        replace:
          "if (packet.retain) {\n          const change = this.retained.change(packet);\n          if (change !== undefined)\n            setImmediate(() => this.store.append([change.entry], (error) => change.settle?.(error === null)));\n        }",
      },
    ],
  },
  {
    name: "queued messages in a commit of their own",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "if (isQueued) add(this.queue.change(packet, this.subscribersOf(packet)));",
        replace:
          "if (isQueued) {\n          const change = this.queue.change(packet, this.subscribersOf(packet));\n          if (change !== undefined)\n            setImmediate(() => this.store.append([change.entry], (error) => change.settle?.(error === null)));\n        }",
      },
    ],
  },
  {
    name: "deliver a queued message before it is on disk",
    edits: [
      {
        file: "mqtt/queue.ts",
        find: "    return { entry, settle: (isDurable) => this.settle(message, isDurable) };",
        replace: "    setImmediate(() => this.settle(message, true));\n    return { entry };",
      },
    ],
  },
  {
    name: "SUBACK before the subscription is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "writes.push(sessions.saveSubscription(session, topic, { qos }));",
        replace: "void sessions.saveSubscription(session, topic, { qos });",
      },
    ],
  },
  {
    name: "SUBACK for a subscription that is asked for again before the first is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "qos === qos && !session.unsaved.has(topic);",
        replace: "qos === qos;",
      },
    ],
  },
  {
    name: "PUBCOMP for a PUBREL that comes again before the first one's release is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "    incoming.set(packetId, released);\n",
        replace: "    incoming.delete(packetId);\n",
      },
    ],
  },
  {
    name: "CONNACK of a clean session before the end of the old one is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "if (session !== undefined) await this.sessions.forget(session);",
        replace: "if (session !== undefined) void this.sessions.forget(session);",
      },
    ],
  },
  {
    name: "UNSUBACK before the subscription's end is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "return sessions.saveSubscription(session, filter, null);",
        replace: "void sessions.saveSubscription(session, filter, null);",
      },
    ],
  },
  {
    name: "PUBREL before its PUBREC is on disk",
    edits: [
      {
        file: "mqtt/queue.ts",
        find: "      this.changed(delivery);\n    }\n    return this.saved(outbox);",
        replace: "      this.changed(delivery);\n    }\n    return Promise.resolve();",
      },
    ],
  },
  {
    name: "forget at the start how far sessions have come",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "for (const [number, value] of progress) byNumber.get(number)?.outbox.restore(value);",
        replace: "",
      },
    ],
  },
  {
    name: "begin deliveries' numbers anew at the start",
    edits: [
      {
        file: "mqtt/outbox.ts",
        find: "    this.nextSequence = Math.max(this.nextSequence, sequence + 1);\n",
        replace: "",
      },
    ],
  },
  {
    name: "use sessions' numbers again",
    edits: [
      {
        file: "mqtt/state-store.ts",
        find: "        this.noteNumbers(fact);\n",
        replace: "",
      },
    ],
  },
  {
    name: "delete a queued message before its acknowledgement is on disk",
    edits: [
      {
        file: "mqtt/queue.ts",
        find: '    if (cmd === "puback") this.noLongerWaits(delivery);',
        replace:
          '    this.deleteLater("queued", { number: delivery.message?.number ?? 0 });\n    if (cmd === "puback") this.noLongerWaits(delivery);',
      },
    ],
  },
  {
    name: "CONNACK before the will is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "await this.sessions.keepWill(client, will);",
        replace: "void this.sessions.keepWill(client, will);",
      },
    ],
  },
  {
    name: "publish a will and delete it in another commit",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: 'add({ entry: this.store.entry("will", { number: will }, null) });',
        replace:
          'setImmediate(() => this.store.append([this.store.entry("will", { number: will }, null)], () => {}));',
      },
    ],
  },
  {
    name: "answer an offset commit before it is on disk",
    edits: [
      {
        file: "groups/coordinator.ts",
        find: "      this.records.append(records,",
        replace: '      resolve("NONE");\n      this.records.append(records,',
      },
    ],
  },
  {
    name: "show committed offsets before they are on disk",
    edits: [
      {
        file: "groups/coordinator.ts",
        find: "    for (const [at] of changes) offsets.begin(at);",
        replace:
          "    for (const [at, committed] of changes) offsets.set(at, committed);\n    for (const [at] of changes) offsets.begin(at);",
      },
    ],
  },
  {
    name: "commit a request's offsets one by one",
    edits: [
      {
        file: "groups/coordinator.ts",
        find: "      this.records.append(records, this.clock.wallTime(), (error) => {",
        replace:
          "      for (const one of records.slice(1))\n        setImmediate(() => this.records.append([one], this.clock.wallTime(), () => {}));\n      this.records.append(records.slice(0, 1), this.clock.wallTime(), (error) => {",
      },
    ],
  },
];
