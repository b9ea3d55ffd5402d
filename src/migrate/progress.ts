import type { MigrationStep, ProgressListener } from './report.ts'

/** Measures steps and reports them. */
export interface Progress {
  /** Reports that a step began; the returned function reports its end. */
  start(step: MigrationStep, file?: string): () => void
  run<T>(step: MigrationStep, work: () => Promise<T>, file?: string): Promise<T>
}

export function createProgress(listener: ProgressListener = () => {}): Progress {
  const start = (step: MigrationStep, file?: string) => {
    const begun = performance.now()
    const named = file === undefined ? { step } : { step, file }
    listener({ ...named, state: 'started', durationMs: 0 })
    return () => listener({ ...named, state: 'finished', durationMs: performance.now() - begun })
  }
  return {
    start,
    async run(step, work, file) {
      const finish = start(step, file)
      const result = await work()
      finish()
      return result
    },
  }
}
