import { readFile } from 'node:fs/promises'
import type pg from 'pg'
import { backendOf } from '../setup/database.ts'

/** Milliseconds since some point in time. */
export type Clock = () => Promise<number>

/**
 * The processor time of a client's backend, where the server runs on this Linux machine: it leaves out the network, the
 * client, and what other processes take. Elsewhere the time that passes.
 */
export async function serverClock(client: pg.Client): Promise<{ clock: Clock; name: string }> {
  const folder = `/proc/${backendOf(client)}`
  const title = await readFile(`${folder}/cmdline`, 'utf8').catch(() => '')
  if (!title.includes('postgres') || !title.includes(client.database!)) {
    return { clock: async () => performance.now(), name: 'as it passes' }
  }
  return {
    clock: async () => Number((await readFile(`${folder}/schedstat`, 'utf8')).split(' ')[0]) / 1e6,
    name: 'of the processor, in the backend',
  }
}
