import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { ReturningClients } from '../../src/context/returning-clients.ts'

test('a client that is late is not waited for by who returns it, but by the end', async () => {
  const returning = new ReturningClients()
  const cleaned = Promise.withResolvers<void>()
  let isBack = false
  const returned = returning.add(
    cleaned.promise,
    () => {
      isBack = true
    },
    () => {},
  )
  await returned
  expect(isBack).toBe(false)
  let allBack = false
  const end = returning.allBack().then(() => {
    allBack = true
  })
  await sleep(1)
  expect(allBack).toBe(false)
  cleaned.resolve()
  await end
  expect(isBack).toBe(true)
  await returning.allBack()
})
