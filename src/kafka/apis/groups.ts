/** The APIs of consumer groups. */
import type { Api } from "../api.ts";

export const groupApis: readonly Api[] = [];
