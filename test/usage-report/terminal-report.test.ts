// The chart of usage in the terminal: fits into its width, has no colours unless it is asked, and prints no control characters.
import { describe, expect, test } from 'vitest'
import { createOutput } from '../../src/cli/output.ts'
import { usageLines } from '../../src/usage-report/terminal-report.ts'
import { HOSTILE_NAMES, sampleOverview } from './sample.ts'

const plain = (_: unknown, text: string) => text
const THREE = sampleOverview({ names: ['Acme Inc.', 'Globex', 'Initech'] })

test('bars are as long as what they stand for', () => {
  const lines = usageLines(THREE, { width: 80, style: plain })
  const bar = (label: string) => /[█▏▎▍▌▋▊▉]+/.exec(lines.find((line) => line.startsWith(`  ${label} `))!)![0].length
  expect(bar('large')).toBeGreaterThan(2 * bar('small'))
  expect(bar('small')).toBeGreaterThan(bar('embed'))
  expect(lines.join('\n')).toMatch(/Spend by day\n {2}[▁▂▃▄▅▆▇█]{30}\n {2}22 Oct to 20 Nov; most on/)
  expect(lines.find((line) => line.includes('Acme Inc.'))).toMatch(/\$\d.*K.*M.*900 ms.*101 % money_per_month/)
})

test.each([40, 60, 80, 120, 300])('a chart fits into %s columns', (width) => {
  const overview = sampleOverview({ names: HOSTILE_NAMES, models: HOSTILE_NAMES, days: 365 })
  const chart = usageLines(overview, { width, style: plain })
  const table = chart.findIndex((line) => line.startsWith('  tenant'))
  for (const line of chart.slice(0, table)) expect([...line].length).toBeLessThanOrEqual(Math.max(width, 80))
  for (const line of chart.slice(2, table)) {
    if (/[█▏]/.test(line)) expect([...line].length).toBeLessThanOrEqual(Math.min(width, 120))
  }
})

test('colours on a terminal only, and never with NO_COLOR', () => {
  const terminal = { isTTY: true, write: () => true } as never
  const coloured = (environment: Record<string, string>) =>
    usageLines(THREE, { width: 80, style: createOutput(terminal, terminal, environment).style }).join('\n')
  expect(coloured({})).toContain('\u001b[')
  expect(coloured({ NO_COLOR: '1' })).not.toContain('\u001b[')
  expect(coloured({ NO_COLOR: '1' })).toBe(usageLines(THREE, { width: 80, style: plain }).join('\n'))
})

describe('names', () => {
  test('move no cursor', () => {
    const overview = sampleOverview({
      names: ['\u001b[2Jwiped', 'a\rb', '\u202eevil'],
      models: ['\u001b]0;title\u0007'],
    })
    const text = usageLines(overview, { width: 80, style: plain }).join('\n')
    expect(text).not.toMatch(/[^\P{Cc}\n]|\u202e/u)
    expect(text).toContain('[2Jwiped')
  })
})

test('without usage it says so', () => {
  const { tenants, ...empty } = THREE
  expect(usageLines({ ...empty, tenants: [] }, { width: 80, style: plain })).toContain('There is no tenant.')
  const idle = tenants.map((tenant) => ({ ...tenant, totals: [], lines: [] }))
  expect(usageLines({ ...empty, tenants: idle }, { width: 80, style: plain })).toContain(
    'No call was settled in this time.',
  )
})

test('of many tenants the first twenty', () => {
  const many = sampleOverview({ names: Array.from({ length: 200 }, (_, number) => `Customer ${number + 1}`) })
  const lines = usageLines(many, { width: 100, style: plain })
  expect(lines).toContain('The 20 of 200 tenants that spent most')
  expect(lines.filter((line) => line.startsWith('  Customer'))).toHaveLength(20)
})
