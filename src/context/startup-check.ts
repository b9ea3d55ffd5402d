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
  readonly login: string
  /** Roles that could take the protection away, and that the login could become. */
  readonly beyond: readonly string[]
  /** Tenant tables whose policies do not apply to the role. */
  readonly exposed: readonly string[]
  readonly tenantTables: readonly TenantTable[]
}

export interface StartupCheckOptions {
  readonly hasSeal?: boolean | undefined
  readonly allowsPrivilegedLogin?: boolean | undefined
}

/**
 * Refuses to work as a role that row-level security does not hold for. Runs once per pool, before the first
 * transaction; after a failure the next one tries again.
 */
export class StartupCheck {
  readonly #source: ConnectionSource
  readonly #role: string | undefined
  readonly #hasSeal: boolean
  readonly #allowsPrivilegedLogin: boolean
  #facts: StartupFacts | undefined
  #running: Promise<StartupFacts> | undefined

  constructor(source: ConnectionSource, role: string | undefined, options: StartupCheckOptions = {}) {
    this.#source = source
    this.#role = role
    this.#hasSeal = options.hasSeal ?? false
    this.#allowsPrivilegedLogin = options.allowsPrivilegedLogin ?? false
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
      if (facts.sealed && !this.#allowsPrivilegedLogin) assertKeepsSeals(facts)
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

/** `set role` goes back to what the login may be, so injected SQL could read the secret of the seals as another role. */
function assertKeepsSeals({ login, role, beyond }: StartupFacts): void {
  if (beyond.length === 0) return
  throw createRowhouseError(
    'role_not_restricted',
    `The login "${login}" is or may become ${beyond.slice(0, 3).join(', ')}, so injected SQL could break the seals.`,
    {
      hint: `Give requests a login of their own: create role my_app login password '...'; grant ${role} to my_app. Calls of operators go by the option admin.`,
    },
  )
}
