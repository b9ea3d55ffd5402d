import { join } from 'node:path'
import { mergeConfig } from 'vitest/config'
import base from '../../../vitest.config.ts'

const root = join(import.meta.dirname, '../../..')

export default mergeConfig(
  { ...base, test: { ...base.test, include: [], exclude: [] } },
  { root, test: { include: ['test/compat/next/*.test.ts'], hookTimeout: 90_000 } },
)
