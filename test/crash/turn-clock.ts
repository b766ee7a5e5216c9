import type { Clock } from "../../src/clock.ts";

const MAX_SCHEDULED_TURNS = 30;

/** Only `now` moves it; what is scheduled comes some turns of the event loop later. */
export function clockOf(now: () => number): Clock {
  const schedule = (callback: () => void, ms: number): (() => void) => {
    let left = Math.min(ms, MAX_SCHEDULED_TURNS);
    let isCancelled = false;
    const turn = (): void => {
      if (isCancelled) return;
      if (left-- > 0) setImmediate(turn);
      else callback();
    };
    setImmediate(turn);
    return () => {
      isCancelled = true;
    };
  };
  return { now, wallTime: now, schedule };
}
