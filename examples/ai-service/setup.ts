/** What an operator does once: everything here may be repeated. */
import type { Rowhouse } from '../../src/index.ts' // in your project: 'rowhouse'
import { DIMENSIONS, quotingModel } from './model.ts'

export async function setUp(rowhouse: Rowhouse): Promise<void> {
  await rowhouse.migrate()
  await rowhouse.collections.create('handbook', { dimensions: DIMENSIONS, metric: 'cosine', language: 'english' })

  // What calls cost (for a million tokens), and what tenants of a tier may spend and do.
  await rowhouse.prices.set(quotingModel.name, { inputTokens: '3.00', outputTokens: '15.00' })
  await rowhouse.quotas.setDefault('free', 'money_per_month', { limit: 0.05, softLimit: 0.04 })
  await rowhouse.quotas.setDefault('professional', 'money_per_month', { limit: 100, softLimit: 80 })
  await rowhouse.rateLimits.setDefault('*', 'requests', [{ limit: 60, windowMs: 60_000 }])
}

/** A customer signs up. The key is shown once. */
export async function signUp(rowhouse: Rowhouse, tenantId: string, name: string, tier: string): Promise<string> {
  await rowhouse.tenants.provision(tenantId, { name, tier })
  const { key } = await rowhouse.apiKeys.issue(tenantId, { name: 'first key' })
  return key
}
