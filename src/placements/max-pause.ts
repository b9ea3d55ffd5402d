/** How long a move keeps its tenant closed at most, unless it was given more time. */
export const DEFAULT_MAX_PAUSE_MS = 600_000
