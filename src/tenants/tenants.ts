import { sql } from 'kysely'
import * as z from 'zod'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { parseOptions, parseTenantId } from '../context/context-options.ts'
import { HOME } from '../context/placements.ts'
import { RowhouseError } from '../errors.ts'
import type { AdminDirectory } from '../placements/admin-directory.ts'
import { cancelMove, moveTenant } from '../placements/move-tenant.ts'
import type { MoveOptions, MoveReceipt } from '../placements/move-types.ts'
import { exportTenant } from '../portability/export-tenant.ts'
import { importTenant } from '../portability/import-tenant.ts'
import { parseExportOptions, parseImportOptions } from '../portability/portability-options.ts'
import type { ExportOptions, ExportReceipt, ImportOptions, ImportReceipt } from '../portability/portability-types.ts'
import { type EraseOptions, eraseOptions, rowsErased } from './erase-progress.ts'
import type { ErasurePreview, ErasureReceipt, VerifiedErasure } from './erasure-receipt.ts'
import { demoteTenant, type MovedTenant, promoteTenant, type RelocationOptions } from './relocate-tenant.ts'
import { type Tenant, type TenantStatus, toTenant } from './tenant.ts'
import { findTenant, readTenants, selectTenants } from './tenant-registry.ts'

export interface ProvisionOptions {
  /** Name for people, up to 200 characters. Default: the id. */
  readonly name?: string | undefined
  /** Default `free`. */
  readonly tier?: string | undefined
  readonly settings?: Readonly<Record<string, unknown>> | undefined
}

export interface ListTenantsOptions {
  readonly status?: TenantStatus | undefined
  readonly tier?: string | undefined
  /** The id of the last tenant of the page before. */
  readonly after?: string | undefined
  /** Tenants a page, 1 to 1000. Default 100. */
  readonly limit?: number | undefined
}

/** Tenants a page, where all are read. */
const PAGE = 500

/** Of the call that waits for transactions of the tenant. */
const ERASE_ATTEMPTS = 3

const tier = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}$/, 'is 1 to 32 lower-case letters, digits, underscores or hyphens')
const status = z.enum([
  'active',
  'suspended',
  'inactive',
  'relocating',
  'importing',
  'moving',
  'moved',
  'erasing',
  'erased',
])
const provisionOptions = z.strictObject({
  name: z.string().min(1).max(200).optional(),
  tier: tier.optional(),
  settings: z.record(z.string(), z.unknown()).optional(),
})
const listOptions = z.strictObject({
  status: status.optional(),
  tier: tier.optional(),
  after: z.string().optional(),
  limit: z.int().min(1).max(1000).optional(),
})
const callback = z.custom<(...args: any[]) => void>((value) => typeof value === 'function', 'is not a function')
const moveOptions = z.strictObject({
  maxPauseMs: z.int().min(1).max(86_400_000).optional(),
  onStep: callback.optional(),
  onProgress: callback.optional(),
})
const reasonOptions = z.strictObject({ reason: z.string().max(500).optional() })

/**
 * The life of tenants, for operators: runs as `rowhouse_admin`, in no tenant.
 *
 * @example
 * ```ts
 * await rowhouse.tenants.provision('acme', { name: 'Acme Inc.', tier: 'professional' })
 * await rowhouse.tenants.suspend('acme', { reason: 'unpaid' })
 * const receipt = await rowhouse.tenants.erase('acme')
 * ```
 */
export class Tenants {
  readonly #admin: AdminExecutor
  readonly #directory: AdminDirectory

  /** @internal */
  constructor(admin: AdminExecutor, directory: AdminDirectory) {
    this.#admin = admin
    this.#directory = directory
  }

  /**
   * Creates the tenant, or returns the one that has this id, unchanged; `created` tells which.
   *
   * SQL: `select * from rowhouse.provision_tenant('acme', 'Acme Inc.', 'professional', '{}')`
   *
   * Errors: `invalid_tenant_id`; `tenant_inactive` when a tenant of this id was erased: ids are never used again.
   */
  async provision(tenantId: string, options: ProvisionOptions = {}): Promise<Tenant & { readonly created: boolean }> {
    const id = parseTenantId(tenantId)
    const { name = id, tier: tierName = 'free', settings = {} } = parseOptions(provisionOptions, options)
    return this.#admin.transaction(async (db) => {
      const provisioned = await sql<{ created: boolean }>`
        select created from rowhouse.provision_tenant(${id}, ${name}, ${tierName}, ${JSON.stringify(settings)}::jsonb)`.execute(
        db,
      )
      const row = await selectTenants({ db }).where('tenant_id', '=', id).executeTakeFirstOrThrow()
      return { ...toTenant(row), created: provisioned.rows[0]!.created }
    })
  }

  /**
   * The tenant, or undefined when there is none of this id.
   *
   * SQL: `select ... from rowhouse.tenants where tenant_id = 'acme'`
   */
  async get(tenantId: string): Promise<Tenant | undefined> {
    return findTenant(this.#directory, parseTenantId(tenantId))
  }

  /**
   * Tenants by id, page by page: pass the id of the last one as `after` to get the next page.
   *
   * SQL: `select ... from rowhouse.tenants where tenant_id > 'acme' order by tenant_id limit 100`
   */
  async list(options: ListTenantsOptions = {}): Promise<Tenant[]> {
    const { status: wanted, tier: tierName, after, limit = 100 } = parseOptions(listOptions, options)
    if (after !== undefined) parseTenantId(after)
    return (await readTenants(this.#directory, { status: wanted, tier: tierName, after, limit })).tenants
  }

  /**
   * Every tenant by id, read page by page while the loop goes on.
   *
   * SQL: that of `list`, 500 tenants a page
   *
   * @example
   * ```ts
   * for await (const { id, tier } of rowhouse.tenants.all({ status: 'active' })) console.log(id, tier)
   * ```
   */
  async *all(filter: Pick<ListTenantsOptions, 'status' | 'tier'> = {}): AsyncGenerator<Tenant, void, undefined> {
    const { status: wanted, tier: tierName } = parseOptions(listOptions, filter)
    for (let after: string | undefined; ; ) {
      const page = await readTenants(this.#directory, { status: wanted, tier: tierName, after, limit: PAGE })
      yield* page.tenants
      if (page.next === undefined) return
      after = page.next
    }
  }

  /**
   * Suspends the tenant: each transaction that it begins from now on is refused with `TenantSuspendedError`. Its data
   * stays.
   *
   * SQL: `select rowhouse.suspend_tenant('acme', 'unpaid')`
   */
  async suspend(tenantId: string, options: { readonly reason?: string | undefined } = {}): Promise<void> {
    const { reason = null } = parseOptions(reasonOptions, options)
    await sql`select rowhouse.suspend_tenant(${parseTenantId(tenantId)}, ${reason})`.execute(this.#admin.db)
  }

  /**
   * Marks the tenant inactive: refused with `TenantInactiveError` until it is resumed. Its data stays.
   *
   * SQL: `select rowhouse.deactivate_tenant('acme', 'left')`
   */
  async deactivate(tenantId: string, options: { readonly reason?: string | undefined } = {}): Promise<void> {
    const { reason = null } = parseOptions(reasonOptions, options)
    await sql`select rowhouse.deactivate_tenant(${parseTenantId(tenantId)}, ${reason})`.execute(this.#admin.db)
  }

  /**
   * Lets a suspended or inactive tenant work again.
   *
   * SQL: `select rowhouse.resume_tenant('acme')`
   */
  async resume(tenantId: string): Promise<void> {
    await sql`select rowhouse.resume_tenant(${parseTenantId(tenantId)})`.execute(this.#admin.db)
  }

  /**
   * Puts the tenant into another tier.
   *
   * SQL: `select rowhouse.set_tenant_tier('acme', 'enterprise')`
   */
  async setTier(tenantId: string, tierName: string): Promise<void> {
    await sql`select rowhouse.set_tenant_tier(${parseTenantId(tenantId)}, ${parseOptions(tier, tierName)})`.execute(
      this.#admin.db,
    )
  }

  /**
   * Gives a tenant that has grown partitions of its own. Calling it again takes in tables that came later, and finishes
   * what was interrupted. Everybody goes on working: transactions of the tenant that may write wait when they begin,
   * while its rows are copied; others for the moment in which partitions are attached.
   *
   * SQL: `select rowhouse.prepare_promotion('acme')` until it returns null, `begin_relocation('acme')`, `await_entries()`,
   * `promote_tenant('acme')`
   *
   * Errors: `tenant_busy` (retryable) when transactions stand in the way: long ones, or one of the tenant that began
   * before. Nothing was moved then.
   *
   * @example
   * ```ts
   * await rowhouse.tenants.promote('acme', { onProgress: ({ step, table }) => logger.info({ step, table }, 'promoting') })
   * ```
   */
  async promote(tenantId: string, options: RelocationOptions = {}): Promise<MovedTenant> {
    return promoteTenant(this.#admin.db, parseTenantId(tenantId), options)
  }

  /**
   * Moves a promoted tenant back into the partitions that tenants share, in steps, each a transaction of its own. Others
   * wait for the moment in which its partitions are detached; transactions of the tenant, also those that only read, wait
   * when they begin until all its rows are back.
   *
   * A demotion that was cut off after that moment leaves the tenant closed (`TenantMovingError`, 503, status
   * `relocating`), with every row kept. Calling it again finishes it; erasing the tenant works too.
   *
   * SQL: `begin_relocation('acme')`, `await_entries()`, `begin_demotion('acme')`, `demote_next('acme')` until it returns
   * null
   *
   * Errors: `tenant_busy` (retryable) when transactions stand in the way: long ones of anybody that began before, or one
   * that uses its tables.
   *
   * @example
   * ```ts
   * await rowhouse.tenants.demote('acme', {
   *   onProgress: ({ step, table, rows }) => logger.info({ step, table, rows }, 'demoting'),
   * })
   * ```
   */
  async demote(tenantId: string, options: RelocationOptions = {}): Promise<MovedTenant> {
    return demoteTenant(this.#admin.db, parseTenantId(tenantId), options)
  }

  /**
   * Writes everything of the tenant to a stream, as it is at one moment: a gzipped tar of lines of JSON with a manifest
   * and digests, in constant memory. Reads the tables that erasure reads, and refuses where erasure would.
   *
   * SQL: `begin isolation level repeatable read read only; select rowhouse.begin_export('acme')`, `open_export` and
   * `fetch_export` for each table
   *
   * Errors: {@link TenantNotFoundError}, {@link TenantInactiveError}, `unregistered_table`, `tenant_moved`, and those of
   * the stream.
   *
   * @example
   * ```ts
   * import { createWriteStream } from 'node:fs'
   *
   * const { contentHash } = await rowhouse.tenants.export('acme', { to: createWriteStream('acme.tar.gz') })
   * logger.info({ contentHash }, 'exported')
   * ```
   */
  async export(tenantId: string, options: ExportOptions): Promise<ExportReceipt> {
    const id = parseTenantId(tenantId)
    const parsed = parseExportOptions(options)
    const { admin } = await this.#directory.locate(id)
    return exportTenant(admin, id, parsed)
  }

  /**
   * Makes what an archive holds a tenant of this database, all of it or nothing: one transaction, at whose end every row
   * is read back and compared with the digests. Creates the tenant; one that is there already must have no rows.
   *
   * Under another id, API keys, credentials and the audit trail are left out: they are of no use there. Under its own id
   * an archive is trusted: it brings API keys, tier and limits.
   *
   * SQL: `begin; select rowhouse.begin_import(...)`, `import_rows` for each part, `finish_import`; `commit`
   *
   * Errors: `invalid_archive` (cut off, changed, of a newer format), `import_refused` (the tenant has rows, a table or
   * column is missing, a key is taken), {@link TenantInactiveError} (the id was erased), `tenant_busy`.
   *
   * @example
   * ```ts
   * import { createReadStream } from 'node:fs'
   *
   * const { rows, contentHash } = await rowhouse.tenants.import(createReadStream('acme.tar.gz'), { as: 'acme-copy' })
   * logger.info({ rows, contentHash }, 'imported')
   * ```
   */
  async import(source: AsyncIterable<Uint8Array>, options: ImportOptions = {}): Promise<ImportReceipt> {
    return importTenant(this.#directory.get(HOME), source, parseImportOptions(source, options))
  }

  /**
   * SHA-256 of what the tenant owns, whatever its id and its database: equal for a tenant, its archive and what became of
   * the archive. API keys, credentials and the audit trail, which are bound to the id, are no part of it.
   *
   * SQL: `select rowhouse.tenant_digest('acme')`
   *
   * @example
   * ```ts
   * const unchanged = (await rowhouse.tenants.contentHash('acme')) === (await rowhouse.tenants.contentHash('acme-copy'))
   * ```
   */
  async contentHash(tenantId: string): Promise<string> {
    const id = parseTenantId(tenantId)
    const { admin } = await this.#directory.locate(id)
    const { rows } = await admin.transaction(
      (db) => sql<{ hash: string }>`select rowhouse.tenant_digest(${id}) ->> 'contentHash' as hash`.execute(db),
      { isolationLevel: 'repeatable read', accessMode: 'read only' },
    )
    return rows[0]!.hash
  }

  /**
   * Moves the tenant to another database of `createRowhouse`'s `placements`, or back `home`. It is closed while it is
   * copied and checked (`TenantMovingError`, 503); then the source says that it moved, the copy is opened, and the source
   * erased, with its receipt. At no time can two copies be written. When the copy fails, the tenant works where it was.
   * After a crash, call it again: it goes on where it was.
   *
   * SQL: `select rowhouse.begin_move('acme', 'eu')`, export and import, `switch_placement`, `open_moved`, `finish_move`
   *
   * Errors: {@link TenantNotFoundError}, {@link TenantMovingError} (somebody else moves it), `import_refused`,
   * `unregistered_table`, `tenant_busy` (its transactions, or the copy, took too long).
   *
   * @example
   * ```ts
   * const { pausedMs, erasure } = await rowhouse.tenants.move('acme', 'eu')
   * logger.info({ pausedMs, receipt: erasure.auditDigest }, 'moved')
   * ```
   */
  async move(tenantId: string, placement: string, options: MoveOptions = {}): Promise<MoveReceipt> {
    const id = parseTenantId(tenantId)
    return moveTenant(this.#directory, id, placement, parseOptions(moveOptions, options))
  }

  /**
   * Calls off a move that was interrupted before it switched: the tenant works where it was. False when there is none.
   *
   * SQL: `select rowhouse.cancel_move('acme')`, `select rowhouse.discard_import('acme')` where it was to go
   *
   * @example
   * ```ts
   * const cancelled = await rowhouse.tenants.cancelMove('acme')
   * ```
   */
  async cancelMove(tenantId: string): Promise<boolean> {
    return cancelMove(this.#directory, parseTenantId(tenantId))
  }

  /**
   * Erases everything of the tenant in every registered table, in one transaction, and returns the receipt. The id is
   * never used again. With `dryRun`, only counts, and lists what would be in the way.
   *
   * Unless something is in the way, closes the door first, in a transaction of its own: from then on the tenant is
   * refused, and few transactions have to be waited for. An erasure that was interrupted afterwards is resumed by calling
   * it again.
   *
   * `onProgress` is told of each table that is emptied, while it goes on; the rows are counted before. What it throws is
   * ignored.
   *
   * SQL: `select rowhouse.begin_erasure('acme')`, then `select rowhouse.erase_tenant('acme')`
   *
   * Errors: `unregistered_table` when a table that is not registered holds rows of the tenant; `residue_found` when
   * something kept rows alive; `tenant_busy` (retryable) when its transactions did not end within 60 seconds. Nothing
   * was erased then.
   */
  erase(tenantId: string, options: { readonly dryRun: true }): Promise<ErasurePreview>
  erase(tenantId: string, options?: EraseOptions): Promise<ErasureReceipt>
  async erase(
    tenantId: string,
    options: { readonly dryRun?: boolean } | EraseOptions = {},
  ): Promise<ErasurePreview | ErasureReceipt> {
    const id = parseTenantId(tenantId)
    const { dryRun = false, onProgress } = parseOptions(eraseOptions, options)
    if (dryRun) return this.#callEraseTenant<ErasurePreview>(this.#admin, id, true)
    await sql`select rowhouse.begin_erasure(${id})`.execute(this.#admin.db)
    const totalRows = onProgress && (await this.#callEraseTenant<ErasurePreview>(this.#admin, id, true)).rows
    for (let attempt = 1; ; attempt++) {
      const admin = totalRows === undefined ? this.#admin : this.#admin.reporting(rowsErased(totalRows, onProgress!))
      try {
        return await this.#callEraseTenant<ErasureReceipt>(admin, id, false)
      } catch (error) {
        // Transactions that began before the door closed end with the attempt that they were in the way of.
        if (!(error instanceof RowhouseError && error.code === 'tenant_busy') || attempt === ERASE_ATTEMPTS) throw error
      }
    }
  }

  /**
   * Checks the chain of receipts, oldest first; then the erased tenants that have no receipt. With `placements`, those of
   * each database, home first. Whoever may write receipts
   * and registry could make up a whole chain, so keep the digests of receipts elsewhere too.
   *
   * SQL: `select * from rowhouse.verify_erasures()`
   */
  async verifyErasures(): Promise<VerifiedErasure[]> {
    const { isDivided, all } = this.#directory
    const chains = all.map(async ([placement, { db }]) => {
      const { rows } = await sql<{ erasure_number: string | null; tenant_id: string; intact: boolean }>`
        select erasure_number, tenant_id, intact from rowhouse.verify_erasures()`.execute(db)
      return rows.map((row) => ({
        erasureNumber: row.erasure_number === null ? null : Number(row.erasure_number),
        tenantId: row.tenant_id,
        ...(isDivided ? { placement } : {}),
        intact: row.intact,
      }))
    })
    return (await Promise.all(chains)).flat()
  }

  async #callEraseTenant<Result>(admin: AdminExecutor, id: string, dryRun: boolean): Promise<Result> {
    const { rows } = await sql<{ result: Result }>`
      select rowhouse.erase_tenant(${id}, ${dryRun}) as result`.execute(admin.db)
    return rows[0]!.result
  }
}
