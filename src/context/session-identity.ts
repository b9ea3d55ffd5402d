import {
  type Identity,
  identityStatements,
  type PreludeStatement,
  type TransactionSettings,
  transactionPrelude,
} from './prelude.ts'
import type { NoticeListener } from './progress.ts'

/** What every transaction of a handle runs as. */
export interface SessionIdentity {
  /** The statements that open a transaction with these settings. */
  readonly prelude: (settings: TransactionSettings) => readonly PreludeStatement[]
  readonly role: string | undefined
  /** Undefined for operators. */
  readonly tenantId: string | undefined
  /** Told what the server says while statements run. */
  readonly onNotice: NoticeListener | undefined
  /** What holds for every transaction that does not say otherwise. */
  readonly settings: TransactionSettings
}

export function createSessionIdentity(
  identity: Identity,
  settings: TransactionSettings = {},
  onNotice?: NoticeListener,
): SessionIdentity {
  const make = (chosen: TransactionSettings) => transactionPrelude(identityStatements(identity), chosen)
  // One list for all transactions is written for the wire once. A proof carries the time at which it was made.
  const usual = identity.seal === undefined ? make(settings) : undefined
  return {
    prelude: (chosen) => (usual !== undefined && chosen === settings ? usual : make(chosen)),
    role: identity.role,
    tenantId: identity.tenantId,
    onNotice,
    settings,
  }
}
