import { formatDuration } from './output.ts'

const WIDTH = 24
/** Often enough to look alive. */
const REDRAW_MS = 100

/** A line on standard error that shows how far a work is. Nothing where no terminal shows it. */
export interface ProgressBar {
  update(progress: { readonly table: string; readonly rows: number; readonly totalRows: number }): void
  /** Removes the line. */
  end(): void
}

export function createProgressBar(stream: NodeJS.WriteStream, environment: NodeJS.ProcessEnv | object): ProgressBar {
  const shown = stream.isTTY === true && (environment as { TERM?: string }).TERM !== 'dumb'
  const started = performance.now()
  let last = Number.NEGATIVE_INFINITY
  return {
    update({ table, rows, totalRows }) {
      const now = performance.now()
      if (!shown || now - last < REDRAW_MS) return
      last = now
      stream.write(`\r\u001b[2K${progressLine({ table, rows, totalRows }, now - started, stream.columns ?? 80)}`)
    },
    end() {
      if (shown) stream.write('\r\u001b[2K')
    },
  }
}

/** For example: `[######..................]  25 %  50,000 of 200,000 rows, 12 s left  public.invoices`. */
export function progressLine(
  { table, rows, totalRows }: { readonly table: string; readonly rows: number; readonly totalRows: number },
  elapsedMs: number,
  columns: number,
): string {
  const share = totalRows === 0 ? 1 : Math.min(1, rows / totalRows)
  const full = Math.round(share * WIDTH)
  const left = share > 0 ? `, ${formatDuration((elapsedMs / share) * (1 - share))} left` : ''
  const bar = `[${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}]`
  const percent = `${Math.floor(share * 100)} %`.padStart(5)
  const count = `${rows.toLocaleString('en')} of ${totalRows.toLocaleString('en')} rows`
  return `${bar} ${percent}  ${count}${left}  ${table}`.slice(0, columns - 1)
}
