/** The consumer group coordinator. */
export class GroupCoordinator {}
