import type { MigrationProgress, MigrationReport, MigrationStatus, SqlFileState } from '../migrate/report.ts'
import { formatDuration, type Output, type Style } from './output.ts'

const WAIT_NOTICE_MS = 1000

/** Prints one line for each finished step that changed something, and says when it waits for another run. */
export function createProgressPrinter(output: Output): {
  onProgress(progress: MigrationProgress): void
  stop(): void
} {
  let waiting: NodeJS.Timeout | undefined
  const stop = () => clearTimeout(waiting)
  return {
    onProgress(progress) {
      if (progress.step === 'lock') {
        stop()
        if (progress.state === 'finished') return
        waiting = setTimeout(() => output.line('  … another migration is running, waiting for it'), WAIT_NOTICE_MS)
        return
      }
      if (progress.state === 'started') return
      const duration = output.style('dim', `(${formatDuration(progress.durationMs)})`)
      output.line(`  ${output.style('green', '✓')} ${describeStep(progress)} ${duration}`)
    },
    stop,
  }
}

function describeStep({ step, file }: MigrationProgress): string {
  switch (step) {
    case 'connect':
      return 'connected'
    case 'check':
      return 'checked server and privileges'
    case 'bootstrap':
      return 'roles and schema'
    case 'functions':
      return 'functions, views and policies'
    default:
      return file ?? step
  }
}

export function printSummary(report: MigrationReport, output: Output): void {
  printWarnings(report.warnings, output)
  const where = `${report.database} (PostgreSQL ${report.serverVersion})`
  output.line(
    report.applied.length === 0
      ? `rowhouse ${report.version} is installed in ${where}; there was nothing to do.`
      : `rowhouse ${report.version} is installed in ${where}, in ${formatDuration(report.durationMs)}.`,
  )
}

export function printDryRun(report: MigrationReport, output: Output, verbose: boolean): void {
  const where = `${report.database} (PostgreSQL ${report.serverVersion})`
  printWarnings(report.warnings, output)
  if (report.applied.length === 0 && report.preparations.length === 0) {
    output.line(`rowhouse ${report.version} is installed in ${where}; migrate would do nothing.`)
    return
  }
  output.line(`Dry run for ${where}; nothing was written. rowhouse migrate would:`)
  for (const preparation of report.preparations) output.line(`  - ${preparation}`)
  for (const { file, sql } of report.applied) {
    output.line(`  - apply ${file}`)
    if (verbose) output.line(`\n${sql.trimEnd()}\n`)
  }
}

const STATE_STYLES: Record<SqlFileState, Style> = { applied: 'green', pending: 'yellow', changed: 'red' }

export function printStatus(status: MigrationStatus, output: Output): void {
  const installed = status.installedVersion === null ? 'not installed' : `version ${status.installedVersion}`
  output.line(`${status.database} (PostgreSQL ${status.serverVersion}): ${installed}; package ${status.packageVersion}`)
  const width = Math.max(...status.files.map(({ file }) => file.length))
  for (const { file, state, appliedAt } of status.files) {
    const time = appliedAt === null ? '' : output.style('dim', `  ${appliedAt}`)
    output.line(`  ${output.style(STATE_STYLES[state], state.padEnd(7))}  ${file.padEnd(width)}${time}`.trimEnd())
  }
  for (const preparation of status.preparations) output.line(`  missing: ${preparation}`)
  printWarnings(status.warnings, output)
  output.line(status.upToDate ? 'Up to date.' : 'Run rowhouse migrate to apply what is missing.')
}

function printWarnings(warnings: readonly string[], output: Output): void {
  for (const warning of warnings) output.note(`${output.style('yellow', 'warning:')} ${warning}`)
}
