import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { runDemo } from '../../src/demo/demo.ts'

test('plays the whole story on an embedded Postgres', { timeout: 120_000 }, async () => {
  const lines: string[] = []
  const exitCode = await runDemo({ output: (line) => lines.push(line) })

  expect(lines.filter((line) => line.includes('FAILED'))).toEqual([])
  expect(exitCode).toBe(0)
  expect(lines.filter((line) => /^\d+\. /.test(line))).toEqual([
    '1. Install rowhouse into a Postgres',
    '2. Provision three tenants',
    '3. Ingest documents',
    '4. Search',
    "5. Protect a table of the application's own",
    '6. Attacks, as the tenant lincoln',
    '7. A runaway tenant',
    '8. What it cost',
    '9. Erase a tenant',
    '10. Verify the audit trails',
  ])
  expect(lines.at(-1)).toMatch(/^All \d+ claims held, in \d+\.\d s\.$/)
  expect(lines.filter((line) => line.startsWith('   ok  ')).length).toBeGreaterThanOrEqual(40)
})

test('fits on a terminal of 100 columns, without colours unless it is one', { timeout: 60_000 }, () => {
  const output = execFileSync(process.execPath, ['src/cli/main.ts', 'demo'], { encoding: 'utf8', env: withoutUrl() })
  expect(output).not.toContain('\u001b')
  expect(output.split('\n').filter((line) => line.length > 100)).toEqual([])
})

function withoutUrl(): NodeJS.ProcessEnv {
  const { DATABASE_URL: _, ...environment } = process.env
  return environment
}
