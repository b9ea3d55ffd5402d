import { expect, test } from 'vitest'
import { showEntries } from '../../src/cli/commands/audit/show-entries.ts'
import { createProgressBar, progressLine } from '../../src/cli/progress-bar.ts'

/** A terminal, or none, that keeps what is written to it. */
function terminal(isTTY: boolean) {
  const written: string[] = []
  return { written, isTTY, columns: 200, write: (text: unknown) => written.push(String(text)) > 0 }
}

const PROGRESS = { table: 'public.notes', rows: 50_000, totalRows: 200_000 }

test('a line tells share, rows, time and table', () => {
  const line = progressLine(PROGRESS, 4000, 200)
  expect(line).toBe('[######..................]  25 %  50,000 of 200,000 rows, 12.0 s left  public.notes')
  expect(progressLine({ table: 't', rows: 0, totalRows: 0 }, 1, 40)).toHaveLength(39)
  expect(progressLine({ table: 'acme', rows: 1500, unit: 'entries' }, 4000, 200)).toBe('1,500 entries  acme')
})

test('it is drawn and removed where a terminal shows it, and nowhere else', () => {
  for (const [isTTY, environment, options, shown] of [
    [true, {}, {}, true],
    [false, {}, {}, false],
    [true, { TERM: 'dumb' }, {}, false],
    [true, {}, { json: true }, false],
  ] as const) {
    const stream = terminal(isTTY)
    const bar = createProgressBar(stream, { environment, options })
    bar.update(PROGRESS)
    bar.update(PROGRESS)
    bar.end()
    expect(bar.shown).toBe(shown)
    expect(stream.written).toEqual(shown ? [expect.stringContaining('50,000 of 200,000 rows'), '\r\u001b[2K'] : [])
  }
})

test('of audit trails: entries of one, tenants of several', () => {
  const draw = (totalTenants: number) => {
    const stream = terminal(true)
    showEntries(createProgressBar(stream, { environment: {}, options: {} }))({
      tenantId: 'acme',
      entries: 2000,
      totalEntries: 8000,
      tenants: 3,
      totalTenants,
    })
    return stream.written.join('')
  }
  expect(draw(1)).toMatch(/25 % {2}2,000 of 8,000 entries, .* left {2}acme$/)
  expect(draw(4)).toMatch(/75 % {2}3 of 4 tenants, .* left {2}acme, 2,000 of 8,000 entries$/)
})
