import { randomBytes } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import type { RepositoryConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Storage } from '../storage/storage.ts'
import { checkUploads } from './bucket-uploads.ts'
import { type Finding, ok, problem } from './finding.ts'

/** Large enough for the storage class of backups. */
const probeBytes = 256 * 1024

/**
 * Tries in a bucket what a repository needs: objects are put as those of backups are, are not replaced where they must not be,
 * show in a listing at once, come back as they were, and can be removed.
 *
 * @throws LifeboatError what the bucket refuses
 */
export async function checkBucket(
  { name, url, bucket }: RepositoryConfig,
  storage: Storage,
): Promise<readonly Finding[]> {
  const prefix = checkPrefix()
  const key = `${prefix}/backups/probe/artifact`
  const wal = `${prefix}/wal/1/00000001/00000000/000000010000000000000001-000000000000.zst`
  const body = randomBytes(probeBytes)
  let isSound = false
  try {
    await storage.put(key, body, { ifAbsent: true })
    const again = await storage.put(key, randomBytes(10), { ifAbsent: true }).then(
      () => null,
      (error: unknown) => error,
    )
    if (again === null) {
      const hint = 'two Lifeboats could believe that it is theirs: use a server that honours If-None-Match of PutObject'
      return [problem('repository', `${name}: the server replaces an object that it was asked not to`, hint)]
    }
    if (!(again instanceof LifeboatError && again.code === 'object-exists')) throw again
    const read = await buffer((await storage.get(key)).body)
    const part = await buffer((await storage.get(key, { start: 1000, end: 1999 })).body)
    if (!(read.equals(body) && part.equals(body.subarray(1000, 2000)))) {
      const what = `${name}: what was read is not what was written`
      return [problem('repository', what, 'do not trust this server, or a proxy on the way to it, with backups')]
    }
    if (!(await isListed(storage, prefix, key))) {
      const hint = 'backups would seem to be missing: use a server whose listings are consistent'
      return [problem('repository', `${name}: what was written does not show in a listing`, hint)]
    }
    if (bucket !== null && bucket.walStorageClass !== null) {
      await storage.put(wal, body)
      await storage.remove(wal)
    }
    isSound = true
  } finally {
    await storage.remove(key).catch((error: unknown) => {
      if (isSound) throw error // else what went wrong first is what matters
    })
  }
  const works = ok('repository', `${name}: ${url} can be written, listed, read and removed from`)
  const { trials } = storage
  return bucket === null || trials === undefined
    ? [works]
    : [works, ...(await checkUploads(name, bucket, trials, prefix))]
}

/** Below it nobody else puts anything. */
export function checkPrefix(): string {
  return `.lifeboat-check-${randomBytes(6).toString('hex')}`
}

async function isListed(storage: Storage, prefix: string, key: string): Promise<boolean> {
  for await (const item of storage.list(`${prefix}/`)) if ('key' in item && item.key === key) return true
  return false
}
