import type { CompiledQuery, Log } from 'kysely'

/** Runs a query and logs it as Kysely does. */
export async function logged<T>(log: Log, query: CompiledQuery, isStream: boolean, run: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  const event = () => ({ query, queryDurationMillis: performance.now() - begun })
  let result: T
  try {
    result = await run()
  } catch (error) {
    if (log.isLevelEnabled('error')) await log.error(() => ({ level: 'error', error, ...event() }))
    throw error
  }
  if (log.isLevelEnabled('query')) {
    await log.query(() => ({ level: 'query', ...(isStream ? { isStream } : {}), ...event() }))
  }
  return result
}
