import { MUTATIONS_ABOVE_THE_LOG } from "../mutations.ts";
import { catchesEachOf } from "./caught.ts";

catchesEachOf("gateway", MUTATIONS_ABOVE_THE_LOG);
