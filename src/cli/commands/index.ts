import type { Command } from '../command.ts'
import { auditDenialsCommand } from './audit/denials.ts'
import { auditExportCommand } from './audit/export.ts'
import { auditPurgeCommand } from './audit/purge.ts'
import { auditSealCommand } from './audit/seal.ts'
import { auditVerifyCommand } from './audit/verify.ts'
import { demoCommand } from './demo.ts'
import { doctorCommand } from './doctor.ts'
import { keyIssueCommand, keyRotateCommand } from './key/issue.ts'
import { keyListCommand, keyRevokeCommand } from './key/list.ts'
import { migrateCommand } from './migrate.ts'
import { protectCommand } from './protect.ts'
import { proveCommand } from './prove.ts'
import { sweepCommand } from './sweep.ts'
import { tenantCertifyCommand } from './tenant/certify.ts'
import {
  tenantDeactivateCommand,
  tenantResumeCommand,
  tenantSuspendCommand,
  tenantTierCommand,
} from './tenant/change.ts'
import { tenantCreateCommand } from './tenant/create.ts'
import { tenantEraseCommand } from './tenant/erase.ts'
import { tenantExportCommand } from './tenant/export.ts'
import { tenantImportCommand } from './tenant/import.ts'
import { tenantListCommand } from './tenant/list.ts'
import { tenantCancelMoveCommand, tenantMoveCommand } from './tenant/move.ts'
import { tenantDemoteCommand, tenantPromoteCommand } from './tenant/promote.ts'
import { tenantReceiptsCommand } from './tenant/receipts.ts'
import { tenantVerifyErasureCommand } from './tenant/verify-erasure.ts'
import { usageCommand } from './usage.ts'

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
  tenantExportCommand,
  tenantImportCommand,
  tenantMoveCommand,
  tenantCancelMoveCommand,
  tenantEraseCommand,
  tenantReceiptsCommand,
  tenantCertifyCommand,
  tenantVerifyErasureCommand,
  keyListCommand,
  keyIssueCommand,
  keyRotateCommand,
  keyRevokeCommand,
  auditSealCommand,
  auditVerifyCommand,
  auditExportCommand,
  auditDenialsCommand,
  auditPurgeCommand,
  doctorCommand,
  proveCommand,
  usageCommand,
  sweepCommand,
  demoCommand,
]
