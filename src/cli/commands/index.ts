import type { Command } from '../command.ts'
import { demoCommand } from './demo.ts'
import { migrateCommand } from './migrate.ts'
import { protectCommand } from './protect.ts'
import {
  tenantDeactivateCommand,
  tenantResumeCommand,
  tenantSuspendCommand,
  tenantTierCommand,
} from './tenant/change.ts'
import { tenantCreateCommand } from './tenant/create.ts'
import { tenantEraseCommand } from './tenant/erase.ts'
import { tenantListCommand } from './tenant/list.ts'
import { tenantDemoteCommand, tenantPromoteCommand } from './tenant/move.ts'
import { tenantReceiptsCommand } from './tenant/receipts.ts'

/** Every command, in the order of the help text. `help` is built in. */
export const COMMANDS: readonly Command[] = [
  migrateCommand,
  protectCommand,
  tenantListCommand,
  tenantCreateCommand,
  tenantSuspendCommand,
  tenantDeactivateCommand,
  tenantResumeCommand,
  tenantTierCommand,
  tenantPromoteCommand,
  tenantDemoteCommand,
  tenantEraseCommand,
  tenantReceiptsCommand,
  demoCommand,
]
