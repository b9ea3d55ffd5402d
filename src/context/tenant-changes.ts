import { createRowhouseError } from '../errors.ts'
import { announcementOf, type Notifications } from './notifications.ts'

/** Told when the status of a tenant changed: suspended, resumed, erased. */
export interface TenantChangeListener {
  /** Some tenant changed; `concerns(id)` tells whether it was this one. */
  changed(change: TenantChange): void
  /** Changes may have been missed since, and will be until `listening`. */
  lost?(): void
  /** From now on changes are heard. */
  listening?(): void
}

export interface TenantChange {
  concerns(tenantId: string): boolean
}

/** Starts to tell the listener of changes of tenants; returns what stops it. */
export function watchTenantChanges(notifications: Notifications, listener: TenantChangeListener): () => void {
  if (typeof listener?.changed !== 'function') {
    throw createRowhouseError(
      'invalid_argument',
      'A listener to changes of tenants is an object with a function changed.',
    )
  }
  return notifications.subscribe('rowhouse_tenants', {
    notified: (payload) => listener.changed({ concerns: (tenantId) => announcementOf(tenantId) === payload }),
    lost: () => listener.lost?.(),
    listening: () => listener.listening?.(),
  })
}
