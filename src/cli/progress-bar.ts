import type { CommandContext } from './command.ts'
import { formatDuration } from './output.ts'

const WIDTH = 24
/** Often enough to look alive. */
const REDRAW_MS = 100

export interface BarProgress {
  /** What is worked on. */
  readonly table: string
  readonly rows: number
  /** Undefined where nobody knows. */
  readonly totalRows?: number | undefined
  /** What is counted. Default `rows`. */
  readonly unit?: string | undefined
}

/** A line on standard error that shows how far a work is. Nothing where no terminal shows it. */
export interface ProgressBar {
  /** Whether anybody sees it. */
  readonly shown: boolean
  update(progress: BarProgress): void
  /** Removes the line. */
  end(): void
}

/** The bar of a command. With --json nobody watches. */
export function createProgressBar(
  stream: Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>,
  { environment, options }: Pick<CommandContext, 'environment' | 'options'>,
): ProgressBar {
  const shown = stream.isTTY === true && environment.TERM !== 'dumb' && options.json !== true
  const started = performance.now()
  let last = Number.NEGATIVE_INFINITY
  return {
    shown,
    update(progress) {
      const now = performance.now()
      if (!shown || now - last < REDRAW_MS) return
      last = now
      stream.write(`\r\u001b[2K${progressLine(progress, now - started, stream.columns ?? 80)}`)
    },
    end() {
      if (shown) stream.write('\r\u001b[2K')
    },
  }
}

/** For example: `[######..................]  25 %  50,000 of 200,000 rows, 12 s left  public.invoices`. */
export function progressLine(
  { table, rows, totalRows, unit = 'rows' }: BarProgress,
  elapsedMs: number,
  columns: number,
): string {
  const done = rows.toLocaleString('en')
  if (totalRows === undefined) return `${done} ${unit}  ${table}`.slice(0, columns - 1)
  const share = totalRows === 0 ? 1 : Math.min(1, rows / totalRows)
  const full = Math.round(share * WIDTH)
  const left = share > 0 ? `, ${formatDuration((elapsedMs / share) * (1 - share))} left` : ''
  const bar = `[${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}]`
  const percent = `${Math.floor(share * 100)} %`.padStart(5)
  return `${bar} ${percent}  ${done} of ${totalRows.toLocaleString('en')} ${unit}${left}  ${table}`.slice(
    0,
    columns - 1,
  )
}
