import { expect, test } from 'vitest'
import { findIsolationGaps, proveIsolation } from '../../src/testing/index.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase({ migrated: false })

test('a database without rowhouse is no database without gaps', async () => {
  await expect(findIsolationGaps(database.url('owner'))).rejects.toMatchObject({ code: 'not_migrated' })
  await expect(proveIsolation(database.url('owner'))).rejects.toMatchObject({ code: 'not_migrated' })
})
