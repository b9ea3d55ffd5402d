import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { createRowhouseError } from '../errors.ts'

export interface DataFolderLock {
  release(): void
}

const heldByThisProcess = new Set<string>()

/**
 * Makes this process the only user of a data folder. PGlite has no such check of its own: two processes that open the
 * same folder destroy it. The lock is a file next to the folder, `<folder>.lock`, with the process id in it; one whose
 * process is gone is taken over.
 */
export function lockDataFolder(folder: string): DataFolderLock {
  const path = `${folder}.lock`
  mkdirSync(dirname(folder), { recursive: true })
  if (!createLockFile(path)) {
    if (isHeld(path)) {
      throw createRowhouseError(
        'connection_failed',
        `The data folder ${folder} is used by another embedded Postgres.`,
        {
          hint: 'Close the other one, or give this one a folder of its own.',
        },
      )
    }
    rmSync(path, { force: true })
    if (!createLockFile(path)) throw createRowhouseError('connection_failed', `The file ${path} can't be created.`)
  }
  heldByThisProcess.add(path)
  return {
    release() {
      if (heldByThisProcess.delete(path)) rmSync(path, { force: true })
    },
  }
}

function createLockFile(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function isHeld(path: string): boolean {
  if (heldByThisProcess.has(path)) return true
  const pid = Number(readFileSync(path, 'utf8'))
  // In a container every run may have the same process id: our own id in a file that we don't hold is a leftover.
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
