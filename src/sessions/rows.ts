import { assertOwnRow } from '../context/own-row.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import type { Metadata } from '../documents/document-types.ts'
import type { ContentPart, Message, MessageRole } from './message-types.ts'
import type { Session } from './session-types.ts'

type Timestamp = Date | string

/** A row of rowhouse.sessions. */
export interface SessionRow {
  readonly tenant_id: string
  readonly session_id: string
  readonly external_id: string | null
  readonly user_id: string | null
  readonly agent_id: string | null
  readonly metadata: Metadata
  readonly providers: readonly string[] | null
  readonly message_count: string
  readonly token_count: string
  readonly forked_from: string | null
  readonly expires_at: Timestamp | null
  readonly created_at: Timestamp
  readonly updated_at: Timestamp
}

export function toSession(executor: TenantExecutor, row: SessionRow): Session {
  assertOwnRow(executor, row, 'rowhouse.sessions')
  return {
    tenantId: row.tenant_id,
    id: row.session_id,
    externalId: row.external_id,
    userId: row.user_id,
    agentId: row.agent_id,
    metadata: row.metadata,
    providers: row.providers,
    messageCount: Number(row.message_count),
    tokenCount: Number(row.token_count),
    forkedFrom: row.forked_from,
    expiresAt: row.expires_at === null ? null : new Date(row.expires_at),
    createdAt: new Date(row.created_at),
    updatedAt: new Date(row.updated_at),
  }
}

/** A row of rowhouse.messages. */
export interface MessageRow {
  readonly tenant_id: string
  readonly session_id: string
  readonly message_id: string
  readonly role: MessageRole
  readonly content: readonly ContentPart[]
  readonly token_count: number
  readonly metadata: Metadata
  readonly created_at: Timestamp
}

export function toMessage(executor: TenantExecutor, row: MessageRow): Message {
  assertOwnRow(executor, row, 'rowhouse.messages')
  return {
    tenantId: row.tenant_id,
    sessionId: row.session_id,
    id: row.message_id,
    role: row.role,
    content: row.content,
    tokenCount: row.token_count,
    metadata: row.metadata,
    createdAt: new Date(row.created_at),
  }
}
