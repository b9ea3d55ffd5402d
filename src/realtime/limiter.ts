export interface Limiter {
  <T>(call: () => Promise<T>): Promise<T>
  /** Resolves when no call runs or waits. */
  idle(): Promise<void>
}

/** Runs at most `limit` calls at a time; the others wait in the order in which they came. */
export function createLimiter(limit: number): Limiter {
  const waiting: (() => void)[] = []
  const whenIdle: (() => void)[] = []
  let running = 0
  const limited = async <T>(call: () => Promise<T>): Promise<T> => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve))
    else running++
    try {
      return await call()
    } finally {
      const next = waiting.shift()
      if (next !== undefined) next()
      else if (--running === 0) for (const resolve of whenIdle.splice(0)) resolve()
    }
  }
  const idle = () => (running === 0 ? Promise.resolve() : new Promise<void>((resolve) => whenIdle.push(resolve)))
  return Object.assign(limited, { idle })
}
