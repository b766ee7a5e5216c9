import { catchesEachOf } from "./caught.ts";
import { MUTATIONS_ABOVE_THE_LOG } from "./gateway.ts";

catchesEachOf("gateway", MUTATIONS_ABOVE_THE_LOG);
