/** A value in metadata, as JSON has them. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** What one value has to be; all of them must hold. */
export interface FilterOperators {
  /** Equal, as JSON: `1` is `1.0`, and `'1'` is not. */
  readonly $eq?: JsonValue
  /** Anything else, also missing. */
  readonly $ne?: JsonValue
  /** Equal to one of them, of up to 1000. */
  readonly $in?: readonly JsonValue[]
  /** None of them, also missing. */
  readonly $nin?: readonly JsonValue[]
  /** Greater: a number than a number, a string than a string (by code points, which suits ISO 8601 dates). */
  readonly $gt?: number | string
  readonly $gte?: number | string
  readonly $lt?: number | string
  readonly $lte?: number | string
  /** Whether there is a value; `null` in JSON is one. */
  readonly $exists?: boolean
  /** Whatever these operators do not match. */
  readonly $not?: FilterOperators
}

/**
 * Which documents are meant. All entries must hold.
 *
 * A key of the metadata with a plain value: the metadata contain it, as of Postgres' `@>`; so `{ tags: ['new'] }` means
 * an array that has this element, and `{ author: { name: 'Ann' } }` an object that has this entry. A key with
 * {@link FilterOperators} compares its value, deeper ones by nesting: `{ author: { born: { $lt: 1900 } } }`.
 *
 * A filter is true or false, never unknown: what is missing or of another type than the operand matches no `$eq`, `$in`
 * or range, and does match `$ne`, `$nin` and `$not`.
 *
 * @example
 * ```ts
 * import type { Filter } from 'rowhouse'
 *
 * const filter: Filter = {
 *   lang: { $in: ['de', 'fr'] },
 *   published: { $gte: '2026-01-01' },
 *   $source: 'handbook.pdf',
 *   $or: [{ draft: false }, { draft: { $exists: false } }],
 * }
 * ```
 */
export interface Filter {
  readonly $and?: readonly Filter[]
  readonly $or?: readonly Filter[]
  readonly $not?: Filter
  /** The id of the document. */
  readonly $id?: string | FilterOperators
  /** The id of the parent that it is a part of. */
  readonly $parentId?: string | FilterOperators
  readonly $source?: string | FilterOperators
  readonly $title?: string | FilterOperators
  readonly [key: string]: unknown
}
