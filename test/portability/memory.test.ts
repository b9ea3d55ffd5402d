// A tenant of any size goes through a process of constant memory.

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const ROWS = Number(process.env.ROWHOUSE_PORTABLE_ROWS ?? 300_000)

test('300,000 rows, and 100 MB, with a heap of 48 MB', { timeout: 300_000, ...needs('parallelBackends') }, async () => {
  const owner = await database.connect('owner')
  await owner.query(
    'create table readings (tenant_id text not null, id bigint, at timestamptz, place text, value float8, note text, primary key (tenant_id, id))',
  )
  await protect(owner, 'readings')
  await provision(owner, 'acme')
  await owner.query(`begin; set local role rowhouse_app; set local app.tenant_id = 'acme';
    insert into readings select 'acme', g, timestamptz '2026-01-01' + g * interval '1 second', md5(g::text), random(), repeat(md5(g::text), 9)
      from generate_series(1, ${ROWS}) g; commit`)
  const folder = await mkdtemp(join(tmpdir(), 'rowhouse-export-'))
  try {
    const program = join(import.meta.dirname, 'export-process.ts')
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--max-old-space-size=48',
      program,
      database.url('owner'),
      'acme',
      join(folder, 'acme.tar.gz'),
      'copy',
    ])
    const result = JSON.parse(stdout)
    expect(result).toMatchObject({ same: true })
    expect(result.rows).toBeGreaterThanOrEqual(ROWS)
    expect(result.memory).toBeLessThan(400e6)
    const rate = (ms: number) => Math.round(result.rows / (ms / 1000)).toLocaleString('en')
    console.info(
      `exported ${rate(result.exportMs)} rows/s, imported ${rate(result.importMs)} rows/s, ${Math.round(result.memory / 1e6)} MB`,
    )
  } finally {
    await rm(folder, { recursive: true })
  }
})
