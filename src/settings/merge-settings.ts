type Values = Readonly<Record<string, unknown>>

/** `base` with the fields of `change`: objects field by field, everything else as a whole, `null` removes a field. */
export function mergeSettings(base: Values, change: Values): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(change)) {
    if (value === undefined) continue
    if (value === null) delete merged[key]
    else {
      const before = Object.hasOwn(merged, key) ? merged[key] : undefined
      // Also where there was nothing: a null further down removes nothing then, and is no value either.
      const next = isObject(value) ? mergeSettings(isObject(before) ? before : {}, value) : value
      // Not by assignment: a field that is called __proto__ is a field.
      Object.defineProperty(merged, key, { value: next, writable: true, enumerable: true, configurable: true })
    }
  }
  return merged
}

/** Whether a value has fields: not an array, and nothing that is a value as a whole, such as a date. */
export function isObject(value: unknown): value is Values {
  return Object.prototype.toString.call(value) === '[object Object]'
}
