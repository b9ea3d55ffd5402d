import type { Command } from '../command.ts'
import { demoCommand } from './demo.ts'
import { migrateCommand } from './migrate.ts'

/** Every command, in the order of the help text. `help` is built in. */
export const COMMANDS: readonly Command[] = [migrateCommand, demoCommand]
