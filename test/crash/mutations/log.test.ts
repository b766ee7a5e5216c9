import { catchesEachOf } from "./caught.ts";
import { MUTATIONS } from "./log.ts";

catchesEachOf("log", MUTATIONS);
