import { Readable } from 'node:stream'
import { type ReadableStream, WritableStream } from 'node:stream/web'
import { createGunzip, type Gunzip } from 'node:zlib'
import { createTarDecoder, type ParsedTarEntry } from 'modern-tar'
import { RowhouseError } from '../errors.ts'
import { invalidArchive } from './archive-format.ts'

export interface ArchiveEntry {
  readonly name: string
  readonly data: Uint8Array
}

/** Parts have 2 MB; one row may be longer. */
const MAX_ENTRY_BYTES = 512 * 1024 * 1024
/** Everything that an archive may hold. Nothing is ever written to a path of this name. */
const ENTRY_NAME =
  /^(manifest\.json|digests\.json|tables\/\d{1,9}\/\d{1,9}\.jsonl|files\/\d{1,9}\/(\d{1,9}|name\.json))$/

/** The entries of an archive in their order, each whole in memory, read only as fast as they are asked for. */
export async function* readArchive(source: AsyncIterable<Uint8Array>): AsyncGenerator<ArchiveEntry, void, undefined> {
  const gunzip = createGunzip()
  const input = Readable.from(source, { objectMode: false })
  input.on('error', (error) => gunzip.destroy(error))
  input.pipe(gunzip)
  const { readable, writable } = createTarDecoder({ strict: true })
  const unpacked = feed(gunzip, writable)
  unpacked.catch(() => {})
  try {
    for await (const entry of readable as unknown as ReadableStream<ParsedTarEntry>) {
      yield { name: checkedName(entry), data: await readBody(entry) }
    }
    await unpacked
  } catch (error) {
    if (error instanceof RowhouseError) throw error
    throw invalidArchive('it is cut off, damaged, or no gzipped tar', { cause: error })
  } finally {
    input.destroy()
    gunzip.destroy()
  }
}

async function feed(gunzip: Gunzip, writable: globalThis.WritableStream<Uint8Array>): Promise<void> {
  const writer = writable.getWriter()
  try {
    for await (const chunk of gunzip) await writer.write(chunk)
    await writer.close()
  } catch (error) {
    await writer.abort(error).catch(() => {})
    throw error
  }
}

function checkedName({ header }: ParsedTarEntry): string {
  if (header.type !== 'file' && header.type !== undefined)
    throw invalidArchive(`it holds something of type ${header.type}`)
  if (!ENTRY_NAME.test(header.name)) throw invalidArchive('it holds something under a name that archives do not have')
  if (header.size > MAX_ENTRY_BYTES) throw invalidArchive('it holds a part of more than 512 MB')
  return header.name
}

async function readBody({ header, body }: ParsedTarEntry): Promise<Uint8Array> {
  const data = Buffer.alloc(header.size)
  let length = 0
  await body.pipeTo(
    new WritableStream<Uint8Array>({
      write(chunk) {
        data.set(chunk, length)
        length += chunk.length
      },
    }) as unknown as globalThis.WritableStream<Uint8Array>,
  )
  if (length !== header.size) throw invalidArchive('it is cut off')
  return data
}
