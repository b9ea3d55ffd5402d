/** Work that goes on after its caller has gone, and that only the end waits for. */
export class BackgroundWork {
  readonly #running = new Set<Promise<void>>()

  /** A failure is the caller's to report. */
  add(work: Promise<unknown>): void {
    const settled: Promise<void> = work.then(ignore, ignore).then(() => void this.#running.delete(settled))
    this.#running.add(settled)
  }

  /** Resolves when nothing runs any more, also of what was added meanwhile. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
  }
}

function ignore(): void {}
