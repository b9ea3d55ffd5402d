import { type Kysely, sql } from 'kysely'
import * as z from 'zod'
import { parseOptions } from '../context/context-options.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableJson } from '../documents/parse-text.ts'
import { createRowhouseError } from '../errors.ts'
import type { SettingsChange, SettingsDefinition } from './define-settings.ts'
import { isObject, mergeSettings } from './merge-settings.ts'

/** The settings of a tenant, and the version to name when changing them. */
export interface LoadedSettings<T> {
  /** With all defaults. */
  readonly values: T
  /** What the tenant has of its own. */
  readonly stored: Readonly<Record<string, unknown>>
  readonly version: number
  readonly tier: string
}

export interface ChangeSettingsOptions {
  /**
   * Only if the settings are still in this version; otherwise `settings_conflict`. Default: apply the change to what
   * they are, whoever changes them at the same time.
   */
  readonly version?: number | undefined
}

const changeOptions = z.strictObject({ version: z.int().min(0).optional() })

const AS_STORED: SettingsDefinition = { complete: (stored) => stored as Record<string, unknown> }

/** Configuration of one tenant: what differs from the defaults, versioned and audited. */
export class Settings<T extends object = Record<string, unknown>> {
  readonly #executor: TenantExecutor
  readonly #definition: SettingsDefinition<T>

  /** @internal */
  constructor(executor: TenantExecutor, definition?: SettingsDefinition<T>) {
    this.#executor = executor
    this.#definition = definition ?? (AS_STORED as SettingsDefinition<T>)
  }

  /**
   * The same settings, checked and typed by a definition.
   *
   * @example
   * ```ts
   * const { retentionDays } = await acme.settings.as(appSettings).get()
   * ```
   */
  as<Defined extends object>(definition: SettingsDefinition<Defined>): Settings<Defined> {
    return new Settings(this.#executor, definition)
  }

  /**
   * The settings, with the defaults of the tenant's tier where it has none of its own.
   *
   * SQL: `select settings, settings_version, tier from rowhouse.tenants where tenant_id = 'acme'`
   *
   * Errors: `invalid_settings` when what is stored doesn't fit the definition (any more).
   */
  async get(): Promise<T> {
    return (await this.load()).values
  }

  /** The settings with their version, for a form that is shown and sent back later. */
  async load(): Promise<LoadedSettings<T>> {
    const { db, tenantId } = this.#executor
    const { rows } = await sql<SettingsRow>`
      select settings, settings_version, tier from rowhouse.tenants where tenant_id = ${tenantId}`.execute(db)
    const { settings: stored, settings_version: version, tier } = rows[0]!
    return { values: this.#definition.complete(stored, tier), stored, version: Number(version), tier }
  }

  /**
   * Changes some settings: objects field by field, everything else as a whole; `null` gives a setting its default back.
   * The result is checked before it is stored; what was stored before need not fit the definition any more. The change is
   * in the audit trail, with what was before.
   *
   * SQL: `select * from rowhouse.lock_settings()`, `select rowhouse.change_settings('{"retentionDays": 90}', 3)`
   *
   * Errors: `invalid_settings`, `settings_conflict` (409) where a version is named, `invalid_argument`.
   *
   * @example
   * ```ts
   * const settings = acme.settings.as(appSettings)
   * const { version } = await settings.load()
   * await settings.change({ retentionDays: 90, features: { agents: null } }, { version })
   * ```
   */
  async change(change: SettingsChange<T>, options: ChangeSettingsOptions = {}): Promise<LoadedSettings<T>> {
    const { version: expected } = parseOptions(changeOptions, options)
    if (!isObject(change)) throw createRowhouseError('invalid_settings', 'The change of settings is not an object.')
    // Inside of a transaction in a savepoint, so that a conflict leaves it as it was.
    return this.#executor.transaction(async (db) => {
      const { rows } = await sql<SettingsRow>`
        select settings, settings_version, tier from rowhouse.lock_settings()`.execute(db)
      const { settings, settings_version: version, tier } = rows[0]!
      if (expected !== undefined && expected !== Number(version)) throw conflict(expected)
      return this.#store(db, mergeSettings(settings, change), version, tier)
    })
  }

  async #store(
    db: Kysely<any>,
    settings: Record<string, unknown>,
    version: string,
    tier: string,
  ): Promise<LoadedSettings<T>> {
    const text = parse(storableJson(262_144), settings, 'invalid_settings', 'The settings')
    // What is checked is what will be read.
    const stored = JSON.parse(text)
    const values = this.#definition.complete(stored, tier)
    const { rows } = await sql<{ version: string }>`
      select rowhouse.change_settings(${text}::jsonb, ${version}) as version`.execute(db)
    return { values, stored, version: Number(rows[0]!.version), tier }
  }
}

interface SettingsRow {
  readonly settings: Record<string, unknown>
  readonly settings_version: string
  readonly tier: string
}

function conflict(version: number): Error {
  return createRowhouseError('settings_conflict', `the settings are not in version ${version} any more`)
}
