import type { SerializedError } from 'vitest'
import type { Reporter, TestCase, TestModule } from 'vitest/node'

/**
 * Closing lines of a run: which tests the engine could not run and why, and the counts in one plain line,
 * `N passed, N failed, N skipped`. A failed hook, a file that can't be loaded and an error outside of any test count as
 * one failure each, and so do a test name that occurs twice in a file and a run without any file.
 */
export default class SummaryReporter implements Reporter {
  #duplicates: string[] = []

  onTestRunStart(): void {
    this.#duplicates = []
  }

  onTestModuleCollected(module: TestModule): void {
    const seen = new Set<string>()
    for (const { fullName } of module.children.allTests()) {
      if (seen.has(fullName)) this.#duplicates.push(`${module.relativeModuleId}: ${fullName}`)
      seen.add(fullName)
    }
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const inState = (state: string) => tests.filter((test) => test.result().state === state)
    const errors = modules
      .flatMap((module) => [module, ...module.children.allSuites()])
      .filter((suite) => suite.errors().length > 0)
    const skipped = [...inState('skipped'), ...inState('pending')]
    for (const line of describeSkipped(skipped)) console.log(line)
    for (const name of this.#duplicates) console.log(`The name of a test occurs twice: ${name}`)
    if (this.#duplicates.length > 0) process.exitCode = 1
    const failed =
      inState('failed').length +
      errors.length +
      unhandledErrors.length +
      this.#duplicates.length +
      Number(modules.length === 0)
    console.log(`${inState('passed').length} passed, ${failed} failed, ${skipped.length} skipped`)
  }
}

/** One line per reason, with the files. */
function describeSkipped(tests: readonly TestCase[]): string[] {
  const byReason = Map.groupBy(tests, (test) => reasonOf(test))
  return [...byReason].sort().map(([reason, group]) => {
    const files = Map.groupBy(group, ({ module }) => module.relativeModuleId)
    const counts = [...files].sort().map(([file, { length }]) => `${file} (${length})`)
    return `Skipped ${group.length}: ${reason}${reason === NO_REASON ? '' : `: ${counts.join(', ')}`}`
  })
}

const NO_REASON = 'left out by a filter, or after a failed hook'

function reasonOf(test: TestCase): string {
  const result = test.result()
  const note = result.state === 'skipped' ? result.note : undefined
  return test.meta().skipReason ?? test.module.meta().skipReason ?? note ?? NO_REASON
}
