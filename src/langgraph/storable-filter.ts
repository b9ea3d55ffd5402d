/** The properties that the database can filter by: strings that it can store, finite numbers, booleans, null. */
export function storableFilter(properties: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(properties).filter(([key, value]) => isStorable(key) && (value === null || isPrimitive(value))),
  )
}

function isPrimitive(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value)
  return typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))
}

function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}
