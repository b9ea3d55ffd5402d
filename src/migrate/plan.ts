import type { ClientBase } from 'pg'
import { createRowhouseError } from '../errors.ts'
import { compareVersions, packageVersion } from './package-version.ts'
import type { AppliedFile, SqlFileStatus } from './report.ts'
import type { RepeatableFile, SqlFiles } from './sql-files.ts'

/** What the two tables of the migrator say. */
export interface AppliedState {
  readonly migrations: readonly { id: number; name: string; hash: string; appliedAt: string }[]
  readonly functions: readonly { file: string; checksum: string; version: string; appliedAt: string }[]
}

export const NOTHING_APPLIED: AppliedState = { migrations: [], functions: [] }

const APPLIED_STATE = `
select json_build_object(
  'migrations', (
    select coalesce(json_agg(json_build_object(
      'id', m.id, 'name', m.name, 'hash', m.hash,
      'appliedAt', to_char(m.executed_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) order by m.id), '[]')
    from rowhouse.migrations m
    where m.id > 0),
  'functions', (
    select coalesce(json_agg(json_build_object(
      'file', f.file, 'checksum', f.checksum, 'version', f.version,
      'appliedAt', to_char(f.applied_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) order by f.file), '[]')
    from rowhouse.applied_functions f)
)::text as state`

/** Reads what was applied; the current role must be rowhouse_owner. */
export async function readAppliedState(client: ClientBase): Promise<AppliedState> {
  const { rows } = await client.query(APPLIED_STATE)
  return JSON.parse(rows[0].state) as AppliedState
}

/** What has to run so that the database is as the package says. */
export interface Plan {
  readonly files: readonly SqlFileStatus[]
  readonly bootstrap: boolean
  readonly migrations: boolean
  /** All files of functions are applied together, after migrations or when one of them changed. */
  readonly functions: boolean
  /** The files that run, in their order. */
  readonly pending: readonly AppliedFile[]
  readonly installedVersion: string | null
}

/** Compares the package with the database. Throws `database_newer` and, for a changed migration, `not_migrated`. */
export function makePlan(files: SqlFiles, applied: AppliedState): Plan {
  refuseNewerDatabase(files, applied)
  const bootstrap = repeatableStatus(files.bootstrap, applied)
  const migrations = files.migrations.map((file): SqlFileStatus => {
    const row = applied.migrations.find(({ id }) => id === file.id)
    const state = row === undefined ? 'pending' : row.hash === file.hash ? 'applied' : 'changed'
    return { file: file.file, kind: 'migration', state, appliedAt: row?.appliedAt ?? null }
  })
  const functions = files.functions.map((file) => repeatableStatus(file, applied))
  const removed = applied.functions.some(({ file }) => !isKnown(files, file))

  const runBootstrap = bootstrap.state !== 'applied'
  const runMigrations = migrations.some(({ state }) => state === 'pending')
  const runFunctions = runMigrations || removed || functions.some(({ state }) => state !== 'applied')
  return {
    files: [bootstrap, ...migrations, ...functions],
    bootstrap: runBootstrap,
    migrations: runMigrations,
    functions: runFunctions,
    pending: [
      ...(runBootstrap ? [appliedFile(files.bootstrap, 'bootstrap')] : []),
      ...files.migrations
        .filter((_, index) => migrations[index]?.state === 'pending')
        .map((file) => appliedFile(file, 'migration')),
      ...(runFunctions ? files.functions.map((file) => appliedFile(file, 'functions')) : []),
    ],
    installedVersion: newestVersion(applied),
  }
}

/** An applied migration is history: refuses one whose file is not what was applied. */
export function refuseChangedMigrations(plan: Plan): void {
  const changed = plan.files.filter(({ kind, state }) => kind === 'migration' && state === 'changed')
  if (changed.length === 0) return
  throw createRowhouseError(
    'migration_failed',
    `${changed.map(({ file }) => file).join(', ')} changed after it was applied to this database; nothing was run.`,
    {
      hint: 'Install the released package again; a migration that was applied is never edited, the next one is added.',
    },
  )
}

function refuseNewerDatabase(files: SqlFiles, applied: AppliedState): void {
  const version = packageVersion()
  const unknown = applied.migrations.find(({ id }) => id > files.migrations.length)
  const installed = newestVersion(applied)
  if (unknown === undefined && (installed === null || compareVersions(installed, version) <= 0)) return
  const evidence =
    installed !== null && compareVersions(installed, version) > 0
      ? `version ${installed}`
      : `a newer version (it has the migration ${unknown?.id}_${unknown?.name})`
  throw createRowhouseError(
    'database_newer',
    `The database was migrated by rowhouse ${evidence}; this is version ${version}, which would undo it.`,
  )
}

function newestVersion(applied: AppliedState): string | null {
  return applied.functions
    .map(({ version }) => version)
    .reduce<string | null>((newest, version) => {
      return newest === null || compareVersions(version, newest) > 0 ? version : newest
    }, null)
}

function repeatableStatus(file: RepeatableFile, applied: AppliedState): SqlFileStatus {
  const row = applied.functions.find((candidate) => candidate.file === file.file)
  return {
    file: file.file,
    kind: file.file === 'bootstrap.sql' ? 'bootstrap' : 'functions',
    state: row === undefined ? 'pending' : row.checksum === file.checksum ? 'applied' : 'changed',
    appliedAt: row?.appliedAt ?? null,
  }
}

function isKnown(files: SqlFiles, name: string): boolean {
  return name === files.bootstrap.file || files.functions.some(({ file }) => file === name)
}

function appliedFile({ file, sql }: { file: string; sql: string }, kind: AppliedFile['kind']): AppliedFile {
  return { file, kind, sql }
}
