/** Runs one PGlite with pgvector behind a socket, until the process that forked this one is done, or dead. */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import type { PgliteOptions, PgliteReady } from './pglite.ts'
import { serve, serverOptions } from './server-process.ts'

const { template } = serverOptions<PgliteOptions>()

let postgres: PGlite | undefined
let sockets: PGLiteSocketServer | undefined

await serve({
  async start(): Promise<PgliteReady> {
    postgres = await PGlite.create({
      extensions: { vector },
      ...(template === undefined ? {} : { loadDataDir: new Blob([await readFile(template)]) }),
    })
    sockets = new PGLiteSocketServer({ db: postgres, host: '127.0.0.1', port: 0, maxConnections: 100 })
    await sockets.start()
    const port = Number(sockets.getServerConn().split(':').at(-1))
    return { port }
  },

  async stop() {
    // Everything is in memory.
  },

  async answer(question, file) {
    switch (question) {
      case 'connections':
        return sockets?.getStats().activeConnections
      case 'dump': {
        if (postgres === undefined || file === undefined) throw new Error('nothing to dump')
        const data = await postgres.dumpDataDir('none')
        // Others look for the file: it appears complete or not at all.
        await writeFile(`${file}.part`, Buffer.from(await data.arrayBuffer()))
        await rename(`${file}.part`, file)
        return file
      }
      default:
        throw new Error(`unknown question ${question}`)
    }
  },
})
