import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { compareVersions, packageVersion } from '../../src/migrate/package-version.ts'

test('the version is that of package.json', () => {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  expect(packageVersion()).toBe(manifest.version)
})

test('versions are in the order of semver.org', () => {
  const ordered = [
    '0.1.0-alpha',
    '0.1.0-alpha.1',
    '0.1.0-alpha.beta',
    '0.1.0-beta.2',
    '0.1.0-beta.11',
    '0.1.0-rc-1',
    '0.1.0',
    '0.1.9',
    '0.1.10',
    '0.9.0',
    '0.10.0',
    '1.0.0',
  ]
  for (let left = 0; left < ordered.length; left++) {
    for (let right = 0; right < ordered.length; right++) {
      const sign = Math.sign(compareVersions(ordered[left]!, ordered[right]!))
      expect(sign, `${ordered[left]} and ${ordered[right]}`).toBe(Math.sign(left - right))
    }
  }
  expect(compareVersions('1.0.0+build.1', '1.0.0+build.2')).toBe(0)
})
