import { MUTATIONS } from "../mutations.ts";
import { catchesEachOf } from "./caught.ts";

catchesEachOf("log", MUTATIONS);
