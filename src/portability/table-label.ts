/** Name of a table for people and receipts. */
export function tableLabel({ schema, name }: { readonly schema: string; readonly name: string }): string {
  return `${schema}.${name}`
}
