import type { MoveReceipt, MoveStep } from '../../../placements/move-types.ts'
import { type Command, EXIT_FAILURE, EXIT_OK } from '../../command.ts'
import { numberOption } from '../../option-values.ts'
import { formatDuration, type Output } from '../../output.ts'
import { PLACEMENTS_OPTION, readPlacements } from '../../placements.ts'
import { createProgressBar } from '../../progress-bar.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

const STEPS: Record<MoveStep, string> = {
  close: 'Closing the tenant.',
  copy: 'Copying its rows.',
  switch: 'Switching.',
  open: 'Opening it where it is now.',
  erase: 'Erasing what is left behind.',
}

export const tenantMoveCommand: Command = {
  name: 'tenant move',
  summary: 'Move a tenant to another database',
  description:
    'Closes the tenant, copies it, checks the copy, opens it there, and erases the source with a receipt. Callers are told to\n' +
    'come again while it is closed. After a crash, run it again: it goes on where it was. home is the database of\n' +
    '--database-url.',
  positionals: ['<tenant>', '<placement>'],
  options: {
    ...TENANT_OPTIONS,
    placements: PLACEMENTS_OPTION,
    'max-pause': { type: 'string', value: 'SECONDS', description: 'Give up when the copy takes longer (default: 600)' },
  },
  examples: [
    'rowhouse tenant move acme eu --placements "eu=postgres://owner@eu.example.com/app"',
    'rowhouse tenant move acme home',
  ],
  async run(context) {
    const { options, output, positionals } = context
    const [tenantId = '', placement = ''] = positionals
    const bar = createProgressBar(process.stderr, context)
    const maxPause = numberOption(options, 'max-pause')
    try {
      const receipt = await withRowhouse(
        context,
        ({ tenants }) =>
          tenants.move(tenantId, placement, {
            ...(maxPause === undefined ? {} : { maxPauseMs: Math.ceil(maxPause * 1000) }),
            onStep: (step) => {
              bar.end()
              if (options.json !== true) output.note(STEPS[step])
            },
            onProgress: (progress) => bar.update(progress),
          }),
        { placements: readPlacements(context) },
      )
      if (options.json === true) output.line(JSON.stringify(receipt, null, 2))
      else printReceipt(receipt, output)
      return EXIT_OK
    } finally {
      bar.end()
    }
  },
}

function printReceipt({ tenantId, from, to, contentHash, pausedMs, erasure }: MoveReceipt, output: Output): void {
  output.line(`Tenant ${tenantId} moved from ${from} to ${to}; it was closed for ${formatDuration(pausedMs)}.`)
  output.line(`${erasure.rows} rows were erased at ${from}: receipt ${erasure.erasureNumber} of ${erasure.erasedAt}.`)
  output.line(`Content hash ${contentHash}`)
}

export const tenantCancelMoveCommand: Command = {
  name: 'tenant cancel-move',
  summary: 'Call off a move that was interrupted',
  description: 'Lets the tenant work where it was, and removes what was copied. Only before the move switched.',
  positionals: ['<tenant>'],
  options: { ...TENANT_OPTIONS, placements: PLACEMENTS_OPTION },
  examples: ['rowhouse tenant cancel-move acme'],
  async run(context) {
    const { options, output, positionals } = context
    const tenantId = positionals[0]!
    const cancelled = await withRowhouse(context, ({ tenants }) => tenants.cancelMove(tenantId), {
      placements: readPlacements(context),
    })
    if (options.json === true) output.line(JSON.stringify({ tenantId, cancelled }))
    else output.line(cancelled ? `The move of ${tenantId} was called off.` : `Tenant ${tenantId} is not being moved.`)
    return cancelled ? EXIT_OK : EXIT_FAILURE
  },
}
