/**
 * Resolves when everything that waits for promises which settle now has run. Whoever has just got an answer often asks
 * again at once: what is collected after this has those calls too.
 */
export function afterPromises(): Promise<void> {
  // The first step leaves the code that runs now; ticks come when no promise has anything left to run.
  return new Promise((resolve) => queueMicrotask(() => process.nextTick(resolve)))
}
