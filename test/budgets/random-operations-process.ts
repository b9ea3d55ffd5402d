// Works until it is killed: node random-operations-process.ts <url> <name> <seed>
import { newLedger, work } from './random-operations.ts'

const [url, name, seed] = process.argv.slice(2) as [string, string, string]
const ledger = newLedger()
const connections = [0, 1].map((number) =>
  work({
    url,
    name: `${name}-${number}`,
    seed: Number(seed) + number,
    ledger,
    until: () => false,
    onError: (error) => process.send?.({ error: `${(error as { code?: string }).code}: ${error.message}` }),
  }),
)
setInterval(() => process.send?.({ operations: ledger.operations }), 50)
await Promise.all(connections)
