import { createRowhouseError } from '../errors.ts'
import type { ConnectionSource } from './connection-source.ts'
import { explainPreludeError } from './explain-error.ts'
import { createSessionIdentity } from './session-identity.ts'
import type { TenantTable } from './tenant-predicate.ts'
import { TransactionSession } from './transaction-session.ts'

/** The answer of `rowhouse.startup_check()`. */
export interface StartupFacts {
  /** The version of rowhouse that the database was migrated to. */
  readonly version: string
  /** The role that transactions run as. */
  readonly role: string
  readonly superuser: boolean
  readonly bypassrls: boolean
  /** Whether the database believes a tenant only with a proof. */
  readonly sealed: boolean
  /** Tenant tables whose policies do not apply to the role. */
  readonly exposed: readonly string[]
  readonly tenantTables: readonly TenantTable[]
}

/**
 * Refuses to work as a role that row-level security does not hold for. Runs once per pool, before the first
 * transaction; after a failure the next one tries again.
 */
export class StartupCheck {
  readonly #source: ConnectionSource
  readonly #role: string | undefined
  readonly #hasSeal: boolean
  #facts: StartupFacts | undefined
  #running: Promise<StartupFacts> | undefined

  constructor(source: ConnectionSource, role: string | undefined, { hasSeal = false } = {}) {
    this.#source = source
    this.#role = role
    this.#hasSeal = hasSeal
  }

  /** What the check found; undefined before it passed. */
  get facts(): StartupFacts | undefined {
    return this.#facts
  }

  /** Passes, or throws `role_not_restricted`, `not_migrated`, `missing_privilege` or `connection_failed`. */
  async pass(): Promise<StartupFacts> {
    return this.#facts ?? (await this.reload())
  }

  /** Runs the check again: the tenant tables may have changed. */
  async reload(): Promise<StartupFacts> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
    this.#facts = await this.#running
    return this.#facts
  }

  /** Makes the next transaction run the check again. */
  forget(): void {
    this.#facts = undefined
  }

  async #run(): Promise<StartupFacts> {
    const role = this.#role
    const identity = createSessionIdentity({ role })
    const session = new TransactionSession(this.#source, identity)
    try {
      const { rows } = await session.execute({ sql: 'select rowhouse.startup_check() as facts', parameters: [] })
      const { facts } = rows[0] as { facts: StartupFacts }
      assertRestricted(facts)
      if (facts.sealed && !this.#hasSeal) {
        throw createRowhouseError(
          'tenant_not_sealed',
          'This database believes a tenant only with a proof, and createRowhouse was given no seal.',
        )
      }
      return facts
    } catch (error) {
      throw explainPreludeError(error, role, session.login)
    } finally {
      await session.release()
    }
  }
}

function assertRestricted({ role, superuser, bypassrls, exposed }: StartupFacts): void {
  const reason = superuser
    ? 'is a superuser'
    : bypassrls
      ? 'has BYPASSRLS'
      : exposed.length > 0
        ? `is not held back on ${exposed.slice(0, 3).join(', ')}`
        : undefined
  if (reason === undefined) return
  throw createRowhouseError(
    'role_not_restricted',
    `The role "${role}" ${reason}, so row-level security would not keep tenants apart.`,
  )
}
