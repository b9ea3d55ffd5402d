// What a refused call is told: the numbers that the database has, without the noise of floating point.
import { expect, test } from 'vitest'
import { denialError } from '../../src/budgets/denial.ts'

test.each([
  [{ limit: 5.3, used: 5, reserved: 0, requested: 1 }, 'asks for 1 of "money", which has 0.3 of 5.3 left'],
  [{ limit: 1_000_000.1, used: 1_000_000, reserved: 0, requested: 2.5 }, 'which has 0.1 of 1000000.1 left'],
  [{ limit: 0.3, used: 0.1, reserved: 0.1, requested: 0.2 }, 'which has 0.1 of 0.3 left'],
  [
    { limit: 5, used: 0, reserved: 4.9999999, requested: 0.000001 },
    'asks for 0.000001 of "money", which has 0.0000001 of 5',
  ],
  [
    { limit: 100_000, used: 90_000, reserved: 0, requested: 20_000 },
    'asks for 20000 of "money", which has 10000 of 100000',
  ],
  [{ limit: 1e15, used: 0, reserved: 0, requested: 1e15 }, 'which has 1000000000000000 of 1000000000000000 left'],
  [{ limit: 10, used: 30, reserved: 0, requested: 1 }, 'which has 0 of 10 left'],
])('%j', (amounts, text) => {
  const error = denialError({
    reason: 'budget_exceeded',
    quota: 'money',
    metric: 'money',
    retryAfterMs: null,
    ...amounts,
  })
  expect(error.message).toContain(text)
})
