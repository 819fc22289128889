import { createReadStream } from 'node:fs'
import process from 'node:process'
import { pipeline } from 'node:stream/promises'
import type { Digest } from '../../src/domain/backup.ts'
import { DigestStream } from '../../src/storage/digest.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { saveBody } from '../../src/storage/save.ts'
import { s3Settings } from '../support/s3.ts'

/**
 * One transfer as a backup or a restore makes it, the SHA-256 of every byte included: `put` or `get`, endpoint, bucket, key, file, part size, parallel.
 * Prints what was hashed, and the seconds that it took once the program had been loaded.
 */
const [what, endpoint = '', bucket = '', key = '', file = '', partBytes, parallel] = process.argv.slice(2)
const settings = { ...s3Settings(endpoint, bucket), partBytes: Number(partBytes), parallel: Number(parallel) }
const storage = new S3Storage({ settings })
// A sidecar has been running for long.
await storage.exists()
let hashed: Digest
const started = performance.now()
if (what === 'put') {
  const digest = new DigestStream()
  const source = createReadStream(file, { highWaterMark: 64 * 1024 })
  await Promise.all([pipeline(source, digest), storage.put(key, digest)])
  hashed = digest.digest()
} else {
  const { body } = await storage.get(key)
  hashed = await saveBody(body, file)
}
console.log(JSON.stringify({ ...hashed, seconds: (performance.now() - started) / 1000 }))
