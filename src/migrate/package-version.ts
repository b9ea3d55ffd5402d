import { readFileSync } from 'node:fs'

let cached: string | undefined

/** Version of this package, from its package.json (two folders up, from `src` and from `dist`). */
export function packageVersion(): string {
  cached ??= (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string })
    .version
  return cached
}

/**
 * Compares two semantic versions: negative when `a` is older, 0 when equal, positive when newer. A pre-release is older
 * than its release; build metadata (`+...`) doesn't count.
 */
export function compareVersions(a: string, b: string): number {
  const left = parse(a)
  const right = parse(b)
  for (let index = 0; index < 3; index++) {
    const difference = (left.numbers[index] ?? 0) - (right.numbers[index] ?? 0)
    if (difference !== 0) return difference
  }
  return comparePreReleases(left.preRelease, right.preRelease)
}

function parse(version: string): { numbers: number[]; preRelease: string[] } {
  const [core = '', ...rest] = (version.split('+')[0] ?? '').split('-')
  const preRelease = rest.join('-')
  return {
    numbers: core.split('.').map((part) => Number.parseInt(part, 10) || 0),
    preRelease: preRelease === '' ? [] : preRelease.split('.'),
  }
}

function comparePreReleases(a: string[], b: string[]): number {
  if (a.length === 0 || b.length === 0) return b.length - a.length
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const left = a[index]
    const right = b[index]
    if (left === undefined) return -1
    if (right === undefined) return 1
    if (left === right) continue
    const leftIsNumber = /^\d+$/.test(left)
    const rightIsNumber = /^\d+$/.test(right)
    if (leftIsNumber && rightIsNumber) return Number(left) - Number(right)
    if (leftIsNumber !== rightIsNumber) return leftIsNumber ? -1 : 1
    return left < right ? -1 : 1
  }
  return 0
}
