import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3'
import { LifeboatError } from '../domain/errors.ts'
import { mayNot, statusOf } from './s3-failures.ts'
import type { S3RequestOptions, S3Requests } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'

/** Below the prefix: all of its versions are ours, and empty. */
export const lockedProbe = '.lifeboat-lock-probe'

/** For so long a probe is locked, and serves the checks of that time. */
const lockedMs = 24 * 3600 * 1000

/** One whose lock ends before that may be deleted rightly. */
const marginMs = 10 * 60 * 1000

/** What became of a locked object that these keys tried to delete. */
export type LockTrial =
  /** They cannot, or `bypassed`: they can by saying that they may; or `deleted`: nothing holds them. */
  | { readonly outcome: 'held' | 'bypassed' | 'deleted' }
  /** There is no locked object to try it with. */
  | { readonly outcome: 'untried'; readonly why: string }

/**
 * Tries to delete a locked version of an empty object of our own, without and with a bypass of governance. The probe of the
 * last check is used again as long as it is locked. For a bucket with Object Lock.
 *
 * @throws what requests throw, but for refusals
 */
export async function tryLockedDeletion(
  { bucket, prefix }: S3Settings,
  requests: S3Requests,
  { mode, now, signal }: { mode: 'GOVERNANCE' | 'COMPLIANCE'; now: Date; signal: AbortSignal | undefined },
): Promise<LockTrial> {
  const target = { Bucket: bucket, Key: `${prefix}${lockedProbe}` }
  const options: S3RequestOptions = { doing: 'try to delete a locked object', signal, attempts: 3 }
  const head = async (): Promise<HeadObjectCommandOutput | null> => {
    try {
      return await requests.call(options, (client, stop) => client.headObject(target, { abortSignal: stop }))
    } catch (error) {
      if (statusOf(error) === 404) return null
      throw error
    }
  }
  const put = async (lock: object): Promise<string | null> => {
    const body = { Body: new Uint8Array(), ContentMD5: '1B2M2Y8AsgTpgAmY7PhCfg==' }
    const { VersionId: version } = await requests.call(options, (client, stop) =>
      client.putObject({ ...target, ...body, ...lock }, { abortSignal: stop }),
    )
    return version ?? null
  }
  /** True when it was refused. */
  const remove = async (version: string, bypass: boolean): Promise<boolean> => {
    try {
      await requests.call(options, (client, stop) =>
        client.deleteObject(
          { ...target, VersionId: version, ...(bypass ? { BypassGovernanceRetention: true } : {}) },
          { abortSignal: stop },
        ),
      )
      return false
    } catch (error) {
      if (mayNot(error)) return true
      throw error
    }
  }

  const former = await head()
  const isLocked = (found: HeadObjectCommandOutput | null) =>
    (found?.ObjectLockRetainUntilDate?.getTime() ?? 0) > now.getTime() + marginMs
  let version = isLocked(former) ? (former?.VersionId ?? null) : null
  if (version === null) {
    try {
      const until = new Date(now.getTime() + lockedMs)
      version = await put({ ObjectLockMode: mode, ObjectLockRetainUntilDate: until })
    } catch (error) {
      // Keys that may not lock may yet put what the bucket locks by itself.
      if (!mayNot(error)) throw error
      version = await put({})
      if (version !== null && !isLocked(await head())) {
        await remove(version, false)
        return { outcome: 'untried', why: 'these keys may not lock what they put (s3:PutObjectRetention)' }
      }
    }
  }
  if (version === null) throw new LifeboatError('storage-failed', 'the server gave a locked object no version')
  if (!(await remove(version, false))) return { outcome: 'deleted' }
  return { outcome: (await remove(version, true)) ? 'held' : 'bypassed' }
}
