import type { ClientBase } from 'pg'
import { packageVersion } from './package-version.ts'
import { describeSqlErrors } from './sql-error.ts'
import type { RepeatableFile } from './sql-files.ts'

/**
 * Applies all files of functions in the current transaction, in the order of their names, and remembers their
 * checksums. All of them, not only the changed ones: a file may drop what another one granted or commented on.
 */
export async function applyFunctions(
  client: ClientBase,
  files: readonly RepeatableFile[],
  keep: readonly string[],
): Promise<void> {
  for (const file of files) {
    await describeSqlErrors(file, () => client.query(file.sql))
    await recordFile(client, file)
  }
  // Files that this version no longer has; what they made is dropped by a migration.
  const known = [...keep, ...files.map(({ file }) => file)]
  await client.query('delete from rowhouse.applied_functions where file <> all ($1::text[])', [known])
}

/** Remembers that this version of the package applied a file. */
export async function recordFile(client: ClientBase, { file, checksum }: RepeatableFile): Promise<void> {
  await client.query(
    `insert into rowhouse.applied_functions (file, checksum, version) values ($1, $2, $3)
     on conflict (file) do update
       set checksum = excluded.checksum, version = excluded.version, applied_at = excluded.applied_at`,
    [file, checksum, packageVersion()],
  )
}
