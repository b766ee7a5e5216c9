import { MUTATIONS_OF_COMPACTION } from "../mutations.ts";
import { catchesEachOf } from "./caught.ts";

catchesEachOf("compaction", MUTATIONS_OF_COMPACTION);
