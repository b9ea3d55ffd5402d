import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadMigrationFiles } from 'postgres-migrations'
import { compileLints } from '../doctor/compile-lints.ts'
import { loadLints } from '../doctor/lint.ts'

/** A numbered file of `sql/migrations`. */
export interface MigrationFile {
  readonly file: string
  readonly id: number
  readonly name: string
  /** SHA-1 of file name and content, as postgres-migrations stores it. */
  readonly hash: string
  readonly sql: string
}

/** A file that is applied again when its content changed. */
export interface RepeatableFile {
  readonly file: string
  /** SHA-256 of the content. */
  readonly checksum: string
  readonly sql: string
}

/** All SQL of the package that migrate applies. */
export interface SqlFiles {
  /** Absolute path of the folder of the numbered migrations. */
  readonly migrationsFolder: string
  readonly bootstrap: RepeatableFile
  /** In the order of their numbers. */
  readonly migrations: readonly MigrationFile[]
  /** In the order of their names; the lints of `sql/doctor` are one function, and come last. */
  readonly functions: readonly RepeatableFile[]
}

/**
 * The folder `sql` of the package; the same two levels up from `src/migrate` and from `dist/migrate`. Not by new URL(),
 * which bundlers take for a file to copy.
 */
export const SQL_FOLDER: string = join(dirname(fileURLToPath(import.meta.url)), '../../sql/')

/** Reads the SQL files below a folder that is laid out like `sql`. */
export async function loadSqlFiles(folder: string = SQL_FOLDER): Promise<SqlFiles> {
  const migrationsFolder = join(folder, 'migrations')
  const [bootstrap, migrations, functionNames] = await Promise.all([
    loadRepeatable(folder, 'bootstrap.sql'),
    loadMigrationFiles(migrationsFolder),
    readdir(join(folder, 'functions')),
  ])
  const functions = await Promise.all(
    functionNames
      .filter((name) => name.endsWith('.sql'))
      .sort()
      .map((name) => loadRepeatable(folder, `functions/${name}`)),
  )
  functions.push(...(await loadDoctor(folder)))
  return {
    migrationsFolder,
    bootstrap,
    // Number 0 is the library's own: the table that the bootstrap made beforehand.
    migrations: migrations.filter(({ id }) => id > 0).map(toMigrationFile),
    functions,
  }
}

function toMigrationFile(migration: { id: number; name: string; hash: string; sql: string; fileName: string }) {
  const { id, name, hash, sql, fileName } = migration
  if (sql.includes('-- postgres-migrations disable-transaction')) {
    throw new Error(`migrations/${fileName} asks to run outside a transaction; all migrations run in one.`)
  }
  return { file: `migrations/${fileName}`, id, name, hash, sql }
}

async function loadRepeatable(folder: string, file: string): Promise<RepeatableFile> {
  return repeatable(file, await readFile(join(folder, file), 'utf8'))
}

/** The lints as one file; none in a folder that has none. */
async function loadDoctor(folder: string): Promise<RepeatableFile[]> {
  const lints = await loadLints(join(folder, 'doctor')).catch((error) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return lints.length === 0 ? [] : [repeatable('doctor', compileLints(lints))]
}

function repeatable(file: string, sql: string): RepeatableFile {
  return { file, checksum: createHash('sha256').update(sql, 'utf8').digest('hex'), sql }
}
