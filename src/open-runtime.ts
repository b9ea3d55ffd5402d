import { type Kysely, Log } from 'kysely'
import { appendLateAudit } from './audit/audit.ts'
import { AuditBuffer, type AuditBufferOptions } from './audit/audit-buffer.ts'
import { type AdminExecutor, createRoleExecutor } from './context/admin-executor.ts'
import { BackgroundWork } from './context/background-work.ts'
import { ConnectionSource } from './context/connection-source.ts'
import { ContextRuntime } from './context/context-runtime.ts'
import { runWithoutAmbientTenant } from './context/current-tenant.ts'
import { HOME } from './context/placements.ts'
import { openPool, parseRowhouseOptions, type RowhouseOptions } from './context/rowhouse-options.ts'
import { Seal } from './context/seal.ts'
import { StartupCheck } from './context/startup-check.ts'
import { DataKeys } from './credentials/data-keys.ts'
import type { AdminDirectory } from './placements/admin-directory.ts'
import { openPlacements } from './placements/open-placements.ts'
import type { OwnerConnection } from './protect/protect.ts'
import { ChannelHub } from './realtime/channel-hub.ts'

/** The role of tenants' transactions unless the options say otherwise. */
const APP_ROLE = 'rowhouse_app'

/** What the parts of a rowhouse share, and its end. */
export interface OpenRuntime {
  readonly runtime: ContextRuntime
  readonly auditBuffer: AuditBuffer
  readonly admin: AdminExecutor
  /** As the application, in no tenant. */
  readonly outside: AdminExecutor
  readonly directory: AdminDirectory
  readonly owner: OwnerConnection
  readonly ownerOf: (placement: string) => OwnerConnection
  /** What the end waits for. */
  readonly background: BackgroundWork
  readonly close: () => Promise<void>
}

/** Puts together what `createRowhouse` was given options for. Nothing connects before it is used. */
export function openRuntime(options: RowhouseOptions): OpenRuntime {
  const {
    pipeline = false,
    role = APP_ROLE,
    seal: sealKey,
    plugins = [],
    predicate = true,
    admin,
  } = parseRowhouseOptions(options)
  const log = new Log(options.log ?? [])
  const source = new ConnectionSource({ ...openPool(options, pipeline), pipeline })
  const adminSource =
    admin === undefined ? source : new ConnectionSource({ ...openPool(admin, false), pipeline: false })
  const tenantRole = role ?? undefined
  const seal = sealKey === undefined ? undefined : new Seal(sealKey)
  const checks = { hasSeal: seal !== undefined, allowsPrivilegedLogin: options.allowPrivilegedLogin }
  const startupCheck = new StartupCheck(source, tenantRole, checks)
  const placed = openPlacements(options.placements, { source, adminSource, startupCheck }, log, (placement) => {
    return new StartupCheck(placement, tenantRole, checks)
  })
  const runtime = new ContextRuntime({
    source,
    role: tenantRole,
    seal,
    startupCheck,
    plugins,
    log,
    predicate,
    settings: options.settings,
    dataKeys: new DataKeys(options.credentials?.keys, options.credentials?.cacheMs),
    countTokens: options.countTokens,
    placements: placed.placements,
  })
  const auditBuffer = openAuditBuffer(runtime, options.auditBuffer)
  runtime.auditBuffer = auditBuffer
  const channelHub = new ChannelHub({
    notifications: runtime.notifications,
    database: (tenantId) => openDetached(runtime, tenantId),
    pollMs: options.channels?.pollMs ?? 30_000,
  })
  runtime.channelHub = channelHub
  const background = new BackgroundWork()
  return {
    runtime,
    auditBuffer,
    admin: placed.admin,
    directory: placed.directory,
    outside: createRoleExecutor(source, log, tenantRole),
    owner: placed.ownerOf(HOME),
    ownerOf: placed.ownerOf,
    background,
    close: async () => {
      try {
        await background.settled()
        await Promise.all([channelHub.close(), auditBuffer.close()])
      } finally {
        await Promise.all([runtime.notifications.close(), source.close(), adminSource.close(), placed.close()])
      }
    },
  }
}

/** A database of the tenant for what is no part of the transaction around it. */
export function openDetached(runtime: ContextRuntime, tenantId: string): Kysely<any> {
  return runtime.createKysely(tenantId, {}).withoutPlugins()
}

/** Entries are written outside of the callback that appended them, which may be over or another tenant's by then. */
function openAuditBuffer(runtime: ContextRuntime, options: AuditBufferOptions = {}): AuditBuffer {
  return new AuditBuffer(
    (tenantId, entries) =>
      runWithoutAmbientTenant(() =>
        appendLateAudit(runtime.createSettlingKysely(tenantId, {}).withoutPlugins(), entries),
      ),
    options,
  )
}
