import { randomBytes } from 'node:crypto'

/** Values that columns of rowhouse's own tables take and that nobody could guess from their types and checks. */
const OWN_VALUES: Readonly<Record<string, () => Readonly<Record<string, unknown>>>> = {
  'rowhouse.api_keys': () => ({ key_id: hex(8), secret_digest: `\\x${hex(32)}`, environment: 'live' }),
  'rowhouse.credential_keys': () => ({
    key_version: randomBytes(4).readUInt32BE() + 1,
    wrapped_key: `\\x${hex(40)}`,
  }),
  'rowhouse.credentials': () => ({ name: `name-${hex(8)}`, sealed: `\\x${hex(40)}` }),
  'rowhouse.messages': () => ({ role: 'user', content: JSON.stringify([{ type: 'text', text: hex(8) }]) }),
  'rowhouse.audit_entries': () => ({ action: `action.${hex(4)}` }),
}

/** Values for a row of one of rowhouse's own tables; none for tables of the application. */
export function ownTableValues(table: string): Readonly<Record<string, unknown>> {
  return OWN_VALUES[table]?.() ?? {}
}

function hex(bytes: number): string {
  return randomBytes(bytes).toString('hex')
}
