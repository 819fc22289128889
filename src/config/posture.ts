import type { PostureNeeds } from '../domain/posture.ts'
import type { BucketConfig, RepositoryConfig } from './validated.ts'

const daySeconds = 86_400

/** What a repository needs of its bucket; null for a directory. */
export function postureNeedsOf(
  cluster: string,
  { bucket, retention, walKeepForSeconds }: RepositoryConfig,
): PostureNeeds | null {
  if (bucket === null) return null
  const { keepForSeconds, daily, weekly, monthly, yearly } = retention
  const days = Math.max(daily, weekly * 7, monthly * 31, yearly * 366)
  return {
    ...{ prefix: bucket.prefix, cluster, keepForSeconds, walSeconds: walKeepForSeconds },
    longestSeconds: keepForSeconds === null ? null : Math.max(keepForSeconds, days * daySeconds),
    ...{ tags: bucket.tags, ownLockSeconds: lockSeconds(bucket), encrypts: bucket.serverSideEncryption !== null },
  }
}

function lockSeconds({ objectLock }: BucketConfig): number | null {
  return objectLock?.legalHold ? Number.POSITIVE_INFINITY : (objectLock?.forSeconds ?? null)
}
