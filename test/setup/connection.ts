import pg from 'pg'

/** The same connection string for another database, or with other parts replaced. */
export function withParts(
  url: string,
  parts: { database?: string; user?: string; password?: string; host?: string; port?: number },
): string {
  const result = new URL(url)
  if (parts.database !== undefined) result.pathname = `/${encodeURIComponent(parts.database)}`
  if (parts.user !== undefined) result.username = encodeURIComponent(parts.user)
  if (parts.password !== undefined) result.password = encodeURIComponent(parts.password)
  if (parts.host !== undefined) result.hostname = parts.host
  if (parts.port !== undefined) result.port = String(parts.port)
  return result.href
}

/** Runs `work` on a connection of its own. */
export async function withClient<T>(config: string | pg.ClientConfig, work: (client: pg.Client) => Promise<T>) {
  const client = new pg.Client(config)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** Asks again until `probe` gives something, and fails with `message` after `timeoutMs`. */
export async function poll<T>(
  probe: () => Promise<T | undefined> | T | undefined,
  { message, timeoutMs = 5000, everyMs = 5 }: { message: () => string; timeoutMs?: number; everyMs?: number },
): Promise<T> {
  const end = performance.now() + timeoutMs
  for (;;) {
    const found = await probe()
    if (found !== undefined) return found
    if (performance.now() > end) throw new Error(message())
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}
