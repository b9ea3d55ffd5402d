import { type FileDigest, FileDigester, invalidArchive, parseFileName } from './archive-format.ts'
import type { EntryCursor } from './import-tenant.ts'
import type { ImportOptions } from './portability-types.ts'

/** Hands the files of an archive on, one after another, and returns what was read. */
export async function readFiles(entries: EntryCursor, onFile: ImportOptions['onFile']): Promise<FileDigest[]> {
  const read: FileDigest[] = []
  while (entries.current?.name === `files/${read.length + 1}/name.json`) {
    const folder = `files/${read.length + 1}`
    const name = parseFileName(entries.current.data)
    await entries.next()
    const digest = new FileDigester()
    const parts = readParts(entries, folder, digest)
    // Without return, so that who stops reading early doesn't close it: the rest is checked all the same.
    const content = { [Symbol.asyncIterator]: () => ({ next: () => parts.next() }) }
    if (onFile !== undefined) await onFile({ name, content })
    for await (const _ of parts);
    if (entries.current?.name.startsWith(`${folder}/`)) throw invalidArchive('parts of a file are missing')
    read.push({ name, size: digest.size, digest: digest.toString() })
  }
  return read
}

async function* readParts(
  entries: EntryCursor,
  folder: string,
  digest: FileDigester,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let part = 1; entries.current?.name === `${folder}/${part}`; part++) {
    const { data } = entries.current
    digest.add(data)
    yield data
    await entries.next()
  }
}
