import { catchesEachOf } from "./caught.ts";
import { MUTATIONS_OF_COMPACTION } from "./compaction.ts";

catchesEachOf("compaction", MUTATIONS_OF_COMPACTION);
