import type * as z from 'zod'
import { createRowhouseError } from '../errors.ts'
import { mergeSettings } from './merge-settings.ts'

/** Any part of a value: objects by their fields, everything else as a whole. */
export type DeepPartial<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [Key in keyof T]?: DeepPartial<T[Key]> | undefined }
    : T

/** A part of the settings to change; `null` gives a setting its default back. */
export type SettingsChange<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [Key in keyof T]?: SettingsChange<T[Key]> | null | undefined }
    : T

/** What the settings of a tenant look like, and what they are where a tenant has none of its own. */
export interface SettingsDefinition<T extends object = Record<string, unknown>> {
  /** Checks and completes what the database keeps of a tenant in this tier. Throws `invalid_settings`. */
  complete(stored: Readonly<Record<string, unknown>>, tier: string): T
}

export interface DefineSettingsOptions<Input> {
  /** Defaults by tier, over those of the schema. `*`: of every tier that is not named. */
  readonly tiers?: Readonly<Record<string, DeepPartial<Input>>> | undefined
}

/**
 * Describes the settings of your tenants by a schema of zod. A tenant's value comes before the default of its tier,
 * and that one before the default in the schema.
 *
 * @example
 * ```ts
 * import { defineSettings } from 'rowhouse'
 * import * as z from 'zod'
 *
 * export const appSettings = defineSettings(
 *   z.object({
 *     models: z.array(z.string()).default(['small-1']),
 *     promptPrefix: z.string().max(2000).default(''),
 *     retentionDays: z.number().int().positive().default(30),
 *     features: z.object({ search: z.boolean().default(true), agents: z.boolean().default(false) }).prefault({}),
 *   }),
 *   { tiers: { enterprise: { retentionDays: 365, features: { agents: true } } } },
 * )
 * ```
 */
export function defineSettings<Schema extends z.ZodType<object>>(
  schema: Schema,
  { tiers = {} }: DefineSettingsOptions<z.input<Schema>> = {},
): SettingsDefinition<z.output<Schema>> {
  const complete = (stored: Readonly<Record<string, unknown>>, tier: string) => {
    const defaults = (Object.hasOwn(tiers, tier) ? tiers[tier] : tiers['*']) ?? {}
    const { success, data, error } = schema.safeParse(mergeSettings(defaults as Record<string, unknown>, stored))
    if (success) return data
    const [issue] = error.issues
    throw createRowhouseError(
      'invalid_settings',
      `The setting ${issue!.path.join('.') || 'as a whole'}: ${issue!.message}.`,
    )
  }
  // A default that the schema refuses is a mistake of the program, so it shows when the program starts.
  for (const tier of Object.keys(tiers)) complete({}, tier)
  return { complete }
}
