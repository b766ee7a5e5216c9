/** A test that failed half-way leaves no process behind. */
import { afterAll } from "vitest";
import { killAll } from "./process.ts";

afterAll(killAll);
