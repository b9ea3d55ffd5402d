import { expect } from 'vitest'

/** A hole, how it is closed, and how to see that the probe would notice it. */
export interface ClosedHole {
  /** Attacks. What it returns is the evidence of a leak; nothing when the hole is closed. */
  readonly probe: () => Promise<readonly unknown[]>
  /** Takes the protection away: from here on the probe must leak, or it proves nothing. */
  readonly removeProtection: () => Promise<unknown>
  /** Puts the protection back. */
  readonly restoreProtection: () => Promise<unknown>
}

/** The probe finds nothing; without the protection it does (the negative control); with it again it doesn't. */
export async function expectClosed({ probe, removeProtection, restoreProtection }: ClosedHole): Promise<void> {
  expect(await probe(), 'the hole is open').toEqual([])
  await removeProtection()
  try {
    const evidence = await probe()
    expect(evidence.length, 'negative control: without the protection the probe must leak').toBeGreaterThan(0)
  } finally {
    await restoreProtection()
  }
  expect(await probe(), 'the hole is open after the protection was put back').toEqual([])
}

/** What `attack` returns; nothing when the server refuses it with one of these SQLSTATEs. Other errors are errors. */
export async function unlessRefused<T>(
  sqlstates: string | readonly string[],
  attack: () => Promise<readonly T[]>,
): Promise<readonly T[]> {
  try {
    return await attack()
  } catch (error) {
    const { code } = error as { code?: unknown }
    if (typeof code === 'string' && sqlstates.includes(code)) return []
    throw error
  }
}

/** Permission denied, and a row that a policy refuses. */
export const REFUSED = '42501'
