import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import type { Test } from 'tap'
import { runProgram } from '../../src/postgres/programs.ts'
import type { S3Settings } from '../../src/storage/s3-settings.ts'
import { cephPrograms, whyNoCephFile } from './cache.ts'
import { freePort } from './postgres.ts'
import { scratchDirectory } from './scratch.ts'

export const testKeys = { accessKeyId: 'TESTKEY', secretAccessKey: 'TESTSECRET' }

/** A running S3 server that lives as long as its test. */
export interface S3Server {
  readonly endpoint: string
  readonly port: number
  readonly client: S3Client
  /** Makes a bucket of a new name, and gives the settings for it. */
  bucket(changes?: Partial<S3Settings>, more?: { readonly withLock?: boolean }): Promise<S3Settings>
  /** Makes a user, who may do nothing, and gives the keys: the name is that of `arn:aws:iam:::user/<name>`. */
  user(name: string): Promise<typeof testKeys>
}

/** What `skip` of a test is: why there can be no S3 server on this machine. False where there can. */
export async function cannotHaveS3(): Promise<string | false> {
  if (cephPrograms.every((name) => existsSync(join('/usr/bin', name)))) return false
  return readFile(whyNoCephFile(), 'utf8').catch(() => false)
}

/** Starts Ceph's gateway. Takes about 12 seconds: once for a test file. */
export async function startS3(t: Test): Promise<S3Server> {
  const directory = await scratchDirectory(t)
  const script = join(import.meta.dirname, 'ceph.sh')
  let place = ''
  const start = async (attempt: number): Promise<number> => {
    const here = join(directory, String(attempt))
    const stop = () => runProgram({ program: 'bash', args: [script, here, 'stop'] })
    const [port, monitorPort] = [await freePort(), await freePort()]
    t.teardown(stop)
    try {
      await runProgram({ program: 'bash', args: [script, here, String(port), String(monitorPort)] })
      place = here
      return port
    } catch (error) {
      // Somebody else may have taken a port meanwhile.
      if (attempt === 3) throw error
      await stop()
      return start(attempt + 1)
    }
  }
  const port = await start(1)
  const endpoint = `http://127.0.0.1:${port}`
  while (!(await fetch(endpoint).catch(() => null))?.ok) await delay(50)
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: testKeys })
  t.teardown(() => client.destroy())
  let buckets = 0
  return {
    endpoint,
    port,
    client,
    user: async (name) => {
      const keys = { accessKeyId: `KEY-${name}`, secretAccessKey: `SECRET-${name}` }
      const of = [`--uid=${name}`, `--display-name=${name}`, `--access-key=${keys.accessKeyId}`]
      const args = ['-c', join(place, 'ceph.conf'), 'user', 'create', ...of, `--secret-key=${keys.secretAccessKey}`]
      await runProgram({ program: 'radosgw-admin', args })
      return keys
    },
    bucket: async (changes = {}, { withLock = false } = {}) => {
      buckets += 1
      const bucket = `lifeboat-${buckets}`
      await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: withLock }))
      return { ...s3Settings(endpoint, bucket), ...changes }
    },
  }
}

export function s3Settings(endpoint: string, bucket: string): S3Settings {
  return {
    ...{ bucket, prefix: '', region: 'us-east-1', endpoint, pathStyle: true, keys: async () => testKeys },
    ...{ storageClass: () => null, serverSideEncryption: null, kmsKeyId: null },
    ...{ checksum: 'md5' as const, tags: {}, objectLock: null },
    ...{ partBytes: 5 * 1024 * 1024, parallel: 4, env: {} },
  }
}
