/**
 * kafkajs, without a warning that is not the user's. It sets timers of negative time (its RequestQueue: -1, "not
 * throttled", less the time of day), which fire at once as they shall; from Node 24 on the first of a process is
 * warned of on standard error. Any other warning is as it was.
 */
const { emitWarning } = process;

process.emitWarning = ((...args: Parameters<typeof emitWarning>): void => {
  const isKafkajs = args.includes("TimeoutNegativeWarning") && new Error().stack?.includes("/kafkajs/");
  if (!isKafkajs) emitWarning.apply(process, args);
}) as typeof emitWarning;

export { Kafka, logLevel } from "kafkajs";
