import type { Log } from 'kysely'
import { type AdminExecutor, createAdminExecutor } from '../context/admin-executor.ts'
import { ConnectionSource } from '../context/connection-source.ts'
import { onOwnConnection } from '../context/own-connection.ts'
import { HOME, type Placement, Placements } from '../context/placements.ts'
import { openPool, type RowhouseOptions } from '../context/rowhouse-options.ts'
import type { StartupCheck } from '../context/startup-check.ts'
import type { OwnerConnection } from '../protect/protect.ts'
import { AdminDirectory } from './admin-directory.ts'

export interface OpenPlacements {
  /** Undefined where there is but one database: then nothing asks where a tenant is. */
  readonly placements: Placements | undefined
  /** Operators at home, whose statements follow a tenant to where it is. */
  readonly admin: AdminExecutor
  readonly directory: AdminDirectory
  /** A connection of the login of operators to the database of this name. */
  ownerOf(name: string): OwnerConnection
  /** Ends the pools of the other databases. */
  close(): Promise<void>
}

/** Makes the pools of the other databases. Nothing connects before it is used. */
export function openPlacements(
  options: RowhouseOptions['placements'] = {},
  home: Placement & { readonly adminSource: ConnectionSource },
  log: Log,
  createStartupCheck: (source: ConnectionSource) => StartupCheck,
): OpenPlacements {
  const placements = new Map<string, Placement>([[HOME, home]])
  const adminSources = new Map<string, ConnectionSource>([[HOME, home.adminSource]])
  const opened: ConnectionSource[] = []
  const open = (connection: Parameters<typeof openPool>[0]) => {
    const source = new ConnectionSource({ ...openPool(connection, false), pipeline: false })
    opened.push(source)
    return source
  }
  for (const [name, { admin, ...connection }] of Object.entries(options)) {
    const source = open(connection)
    placements.set(name, { source, startupCheck: createStartupCheck(source) })
    adminSources.set(name, admin === undefined ? source : open(admin))
  }
  const admins = new Map<string, AdminExecutor>()
  for (const [name, source] of adminSources) admins.set(name, createAdminExecutor(source, log))
  // By itself: a statement at home goes on where the tenant is. The others are asked for what they hold.
  const follows = createAdminExecutor(home.adminSource, log, async (name) => adminSources.get(name))
  return {
    placements: placements.size === 1 ? undefined : new Placements(placements),
    admin: placements.size === 1 ? admins.get(HOME)! : follows,
    directory: new AdminDirectory(admins),
    ownerOf: (name) => (fn) => onOwnConnection(adminSources.get(name)!, fn),
    close: async () => {
      await Promise.all(opened.map((source) => source.close()))
    },
  }
}
