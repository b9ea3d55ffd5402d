// The report of usage as HTML: its structure, its numbers, and that names of tenants and models stay text. Where there is a
// Chromium, it is also looked at: nothing runs, nothing is loaded, nothing sticks out.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { escapeHtml } from '../../src/usage-report/escape-html.ts'
import { formatMoney, formatMoneyTick, niceTicks } from '../../src/usage-report/format-number.ts'
import { usageHtml } from '../../src/usage-report/html-report.ts'
import { spendByModel, type UsageOverview } from '../../src/usage-report/usage-overview.ts'
import { HOSTILE_NAMES, sampleOverview } from './sample.ts'

const NAMES = ['Acme Inc.', 'Globex', 'Initech']
const EMPTY: UsageOverview = { ...sampleOverview({ names: [] }) }
const SAMPLES: Readonly<Record<string, UsageOverview>> = {
  'three tenants': sampleOverview({ names: NAMES }),
  'one tenant': sampleOverview({ names: ['Acme Inc.'], models: ['small-1'], scale: 0.002 }),
  '200 tenants': sampleOverview({
    names: Array.from({ length: 200 }, (_, number) => `Customer ${number + 1}`),
    models: ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'],
    scale: 40,
  }),
  'hostile names': sampleOverview({ names: HOSTILE_NAMES, models: HOSTILE_NAMES }),
  'no tenants': EMPTY,
  'a tenant without usage': {
    ...EMPTY,
    tenants: [{ ...sampleOverview({ names: ['New'] }).tenants[0]!, totals: [], lines: [] }],
  },
  'a year': { ...sampleOverview({ names: NAMES, days: 365 }), period: 'month' },
  'a day': { ...sampleOverview({ names: NAMES, days: 1 }), period: 'hour' },
}

/** Every tag and attribute of a document, by a parser as simple as its HTML. */
function tagsOf(html: string): { name: string; attributes: string[] }[] {
  const tags: { name: string; attributes: string[] }[] = []
  for (const [, name, rest] of html.replace(/<style>[^<]*<\/style>/, '').matchAll(/<([a-zA-Z][\w-]*)([^>]*)/g)) {
    const attributes = rest!.replace(/"[^"]*"/g, '').match(/[^\s=/]+/g) ?? []
    tags.push({ name: name!, attributes })
  }
  return tags
}

describe.each(Object.entries(SAMPLES))('%s', (_, overview) => {
  const html = usageHtml(overview)

  test('is one document that loads and runs nothing', () => {
    expect(html).toMatch(/^<!doctype html>\n<html lang="en">/)
    const tags = tagsOf(html)
    const names = new Set(tags.map(({ name }) => name))
    for (const name of ['script', 'img', 'link', 'iframe', 'object', 'a', 'form', 'foreignObject']) {
      expect(names).not.toContain(name)
    }
    for (const { attributes } of tags) {
      for (const attribute of attributes) expect(attribute).not.toMatch(/^(on|src$|href$|xlink)/i)
    }
    expect(html).not.toMatch(/https?:|url\(|@import/)
    expect(html).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`)
  })

  test('every tag that is opened is closed', () => {
    const open: string[] = []
    for (const [tag, slash, name] of html
      .replace(/<style>[^<]*<\/style>/, '')
      .matchAll(/<(\/?)([a-zA-Z][\w]*)[^>]*>/g)) {
      if (['meta', 'line', 'rect'].includes(name!)) continue
      if (slash === '') open.push(name!)
      else expect({ tag, closes: open.pop() }).toEqual({ tag, closes: name })
    }
    expect(open).toEqual([])
  })

  test('no number went wrong', () => {
    expect(html).not.toMatch(/NaN|Infinity|undefined|null|\[object/)
  })
})

describe('names', () => {
  const html = usageHtml(SAMPLES['hostile names']!)

  test('are text, whatever they contain', () => {
    expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
    expect(html).toContain('&quot;&gt;&lt;img src=x onerror=alert(1)&gt;')
    expect(html).toContain('&amp;lt;b&amp;gt; &amp; Söhne GmbH')
    expect(html).not.toMatch(/[^\P{Cc}\n]|[\u202a-\u202e]/u)
    expect(html).not.toContain("' onmouseover=")
  })

  test('the control: without escaping the checks would notice', () => {
    const raw = html.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"')
    expect(tagsOf(raw).map(({ name }) => name)).toEqual(expect.arrayContaining(['script', 'img']))
  })

  test('escaping keeps everything else', () => {
    expect(escapeHtml('a < b && "c" > \'d\' – 株式会社')).toBe(
      'a &lt; b &amp;&amp; &quot;c&quot; &gt; &#39;d&#39; – 株式会社',
    )
    expect(escapeHtml('half \ud800 of a character')).toBe('half \ufffd of a character')
  })
})

describe('what it shows', () => {
  test('spend by model over time, with axes, units, legend and the numbers as a table', () => {
    const overview = SAMPLES['three tenants']!
    const html = usageHtml(overview)
    const { total, models } = spendByModel(overview, 'USD')
    const cost = overview.tenants.flatMap(({ totals }) => totals).reduce((sum, line) => sum + Number(line.cost), 0)
    expect(total).toBeCloseTo(cost, 2)
    expect(html).toContain(`<dd>${formatMoney(total, 'USD')}</dd>`)
    for (const model of models) expect(html).toContain(`<span class="amount">${formatMoney(model.total, 'USD')}</span>`)
    expect(html.match(/<g class="column">/g)).toHaveLength(30)
    expect(html.match(/<rect /g)).toHaveLength(90)
    expect(html).toMatch(/role="img" aria-label="Spend by model and day: \$[\d,.]+ in all, 3 models; most on/)
    expect(html).toMatch(/class="tick"[^>]*>\$\d/)
    expect(html).toContain('22 Oct')
    expect(html).toContain('<summary>The numbers</summary>')
  })

  test('tenants by spend, p99 and quotas; those at a limit are marked by more than a colour', () => {
    const html = usageHtml(SAMPLES['three tenants']!)
    expect(html).toMatch(/Spend by tenant[\s\S]*Acme Inc\.[\s\S]*Globex[\s\S]*Initech[\s\S]*p99 latency/)
    expect(html).toMatch(/<span class="value">2\.37 s<\/span>/)
    expect(html).toMatch(/class="full"[^>]*>.*101 % ●/)
  })

  test('of many tenants and models the first ones, and all of them in the table', () => {
    const html = usageHtml(SAMPLES['200 tenants']!)
    expect(html).toContain('3 other models')
    expect(html).toContain('The 15 of 200 tenants that spent most.')
    expect(html.match(/<li><span class="name"/g)).toHaveLength(30)
    expect(html).toContain('Customer 200')
  })

  test('an empty state says so', () => {
    expect(usageHtml(EMPTY)).toContain('There is no tenant.')
    const html = usageHtml(SAMPLES['a tenant without usage']!)
    expect(html).toContain('No call was settled in this time.')
    expect(html).toContain('Quota utilization')
  })

  test('currencies apart', () => {
    const [euros, dollars] = [sampleOverview({ names: ['E'], currency: 'EUR' }), sampleOverview({ names: ['D'] })]
    const html = usageHtml({ ...euros, tenants: [...euros.tenants, ...dollars.tenants] })
    expect(html).toContain('Spend by model over time in EUR')
    expect(html).toContain('Spend by model over time in USD')
    expect(html).toContain('<dt>spent in EUR</dt>')
  })

  test.each([
    [0.00042, ['$0.0000', '$0.0001', '$0.0002', '$0.0003', '$0.0004', '$0.0005']],
    [9, ['$0', '$2', '$4', '$6', '$8', '$10']],
    [12_000, ['$0', '$2.5K', '$5K', '$7.5K', '$10K', '$12.5K']],
  ])('the axis up to %s has even steps', (largest, labels) => {
    const ticks = niceTicks(largest)
    expect(ticks.map((tick) => formatMoneyTick(tick, 'USD', ticks[1]!))).toEqual(labels)
  })
})

const chromium = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  process.env.CHROMIUM ?? '',
].find((path) => path !== '' && existsSync(path))
const NO_CHROMIUM = 'needs a Chromium; name one in CHROMIUM'
const options = chromium === undefined ? { skip: true, meta: { skipReason: NO_CHROMIUM } } : {}

describe('looked at', options, () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rowhouse-report-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  const run = async (file: string, ...flags: string[]) => {
    const flagsOfAll = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--hide-scrollbars',
      `--user-data-dir=${folder}/profile`,
    ]
    const { stdout } = await promisify(execFile)(chromium!, [...flagsOfAll, ...flags, pathToFileURL(file).href], {
      timeout: 60_000,
      maxBuffer: 50_000_000,
    })
    return stdout
  }

  test.each(['hostile names', '200 tenants'])('%s', { timeout: 120_000 }, async (name) => {
    const file = join(folder, 'report.html')
    const html = usageHtml(SAMPLES[name]!)
    await writeFile(file, html)
    for (const [scheme, width] of [
      ['1', 1100],
      ['0', 1100],
      ['1', 500],
    ] as const) {
      const picture = join(folder, `${scheme}-${width}.png`)
      await run(
        file,
        `--blink-settings=preferredColorScheme=${scheme}`,
        `--window-size=${width},1600`,
        `--screenshot=${picture}`,
      )
      expect((await stat(picture)).size).toBeGreaterThan(5000)
    }
    // Light and dark are different pictures.
    expect((await readFile(join(folder, '0-1100.png'))).equals(await readFile(join(folder, '1-1100.png')))).toBe(false)
    // What the browser made of it, measured by a script that only this copy has.
    const measure = `<script>addEventListener('load', () => {
      const names = [...document.querySelectorAll('*')].map((element) => element.localName)
      document.title = JSON.stringify({
        wide: document.documentElement.scrollWidth > innerWidth,
        unknown: names.filter((name) => ['script', 'img', 'b', 'iframe'].includes(name)).length,
      })
    })</script>`
    const measured = html
      .replace(/<meta http-equiv="Content-Security-Policy"[^>]*>/, '')
      .replace('</head>', `${measure}</head>`)
    await writeFile(file, measured)
    for (const width of [1100, 500]) {
      const dom = await run(file, `--window-size=${width},1600`, '--virtual-time-budget=1000', '--dump-dom')
      const found = /<title>(\{.*?\})<\/title>/.exec(dom)?.[1]
      expect(JSON.parse(found ?? 'null')).toEqual({ wide: false, unknown: 1 })
    }
  })
})
