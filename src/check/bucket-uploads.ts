import type { BucketConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Checksum, UploadTrials } from '../storage/storage.ts'
import { type Finding, ok, problem, warning } from './finding.ts'

const others: Readonly<Record<Checksum, Checksum>> = { sha256: 'md5', md5: 'sha256' }
const words: Readonly<Record<Checksum, string>> = { sha256: 'SHA-256', md5: 'MD5' }

/**
 * Tries what the server does with the checksums and locks that uploads carry.
 *
 * @throws LifeboatError what the bucket refuses
 */
export async function checkUploads(
  name: string,
  { objectLock }: Pick<BucketConfig, 'objectLock'>,
  trials: UploadTrials,
  prefix: string,
): Promise<readonly Finding[]> {
  const found = [await checkChecksum(name, trials, prefix)]
  const replaces = await checkConditions(name, trials, prefix)
  if (replaces !== null) found.push(replaces)
  if (objectLock === null) return found
  const lock = await trials.lock(`${prefix}/lock`)
  const kept = objectLock.legalHold ? 'a legal hold' : `the mode ${objectLock.mode}`
  if (lock !== null) return [...found, ok('repository', `${name}: objects are locked, by ${kept}`)]
  const what = `${name}: the server took a lock, and tells of none`
  const hint =
    'let the policy of these keys allow s3:GetObjectRetention and s3:GetObjectLegalHold; where it does, the server has no Object Lock: remove objectLock of the repository'
  return [...found, problem('repository', what, hint)]
}

/**
 * Null where an object that must not be replaced is not. Ceph 16 replaces it in a bucket that keeps versions: then it is looked at
 * before each such put, and the fence before anything is published, which leaves a moment in between.
 *
 * @throws LifeboatError what the bucket refuses
 */
export async function checkConditions(
  name: string,
  trials: Pick<UploadTrials, 'refusesExisting'>,
  prefix: string,
): Promise<Finding | null> {
  if (await trials.refusesExisting(`${prefix}/absent`)) return null
  const what = `${name}: in a bucket that keeps versions the server does not honour If-None-Match of PutObject`
  const hint =
    'let one Lifeboat alone write there: two that take over at one moment could both believe that it is theirs'
  return warning('repository', what, hint)
}

async function checkChecksum(name: string, trials: UploadTrials, prefix: string): Promise<Finding> {
  const { checksum } = trials
  const other = others[checksum]
  const isCompared = (one: Checksum) => trials.comparesChecksums(`${prefix}/checksum`, one)
  let refusal = ''
  try {
    if (await isCompared(checksum))
      return ok('repository', `${name}: the server compares the ${words[checksum]} of what it gets`)
  } catch (error) {
    // It may not know the header at all; what has nothing to do with that fails once more below.
    if (!(error instanceof LifeboatError && error.code === 'storage-failed')) throw error
    refusal = ` (${error.message})`
  }
  if (await isCompared(other)) {
    const what = `${name}: the server does not compare the ${words[checksum]} of what it gets${refusal}, but its ${words[other]}`
    return problem('repository', what, `set checksum: ${other} for this repository`)
  }
  const what = `${name}: the server takes bytes that come with the checksum of others${refusal}`
  const hint = 'what is damaged on its way is only found out by verifications: use https, and verify often'
  return warning('repository', what, hint)
}
