import { isIP } from 'node:net'
import type {
  GetBucketEncryptionCommandOutput,
  GetBucketLifecycleConfigurationCommandOutput,
  GetBucketPolicyCommandOutput,
  GetBucketPolicyStatusCommandOutput,
  GetObjectLockConfigurationCommandOutput,
  LifecycleRule as StoredRule,
  Transition,
} from '@aws-sdk/client-s3'
import type { BucketFacts, BucketLock, LifecycleRule, Told } from '../domain/posture.ts'
import { mayNot, nameOf, statusOf } from './s3-failures.ts'
import type { S3Requests } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'

/** Nobody waits for these. */
const modest = { attempts: 3, ms: 10_000 }

const daySeconds = 86_400

/** Where an object cannot be read without being brought back first. */
const frozenClasses = new Set(['GLACIER', 'DEEP_ARCHIVE'])

/** Groups of which everybody is a member, or everybody who has an account. */
const everybody = /\/groups\/global\/(?:AllUsers|AuthenticatedUsers)$/

type Input = { readonly Bucket: string }
type Client = Parameters<Parameters<S3Requests['call']>[1]>[0]

/**
 * Asks a bucket how it is set up, by seven or eight requests. What these keys may not read, or the server does not know, is
 * unknown; any other failure is thrown.
 */
export async function readBucketFacts(
  { bucket, endpoint }: S3Settings,
  requests: S3Requests,
  signal: AbortSignal | undefined,
): Promise<BucketFacts> {
  const doing = `look at the settings of the bucket ${bucket}`
  const input: Input = { Bucket: bucket }
  /** `absent`: what it means when there is no such setting, by the name of that answer. */
  async function ask<Output, T>(
    right: string,
    send: (client: Client, options: { abortSignal: AbortSignal }) => Promise<Output>,
    read: (output: Output) => T | undefined,
    absent?: { readonly name: string; readonly value: T },
  ): Promise<Told<T>> {
    try {
      const output = await requests.call({ doing, signal, ...modest }, (client, stop) =>
        send(client, { abortSignal: stop }),
      )
      const value = read(output)
      // A server that does not know the question may answer another one.
      return value === undefined ? { unknown: 'the server does not tell' } : { value }
    } catch (error) {
      if (absent !== undefined && nameOf(error) === absent.name) return { value: absent.value }
      if (mayNot(error)) return { unknown: `these keys may not read it (${right})` }
      if (isUnknownQuestion(error)) return { unknown: 'the server does not have it' }
      throw error
    }
  }
  /** Ceph 16 calls every policy that allows something public: one that can be read, and lets in nobody unnamed, is not. */
  async function isPolicyPublic(): Promise<Told<boolean>> {
    const absent = { name: 'NoSuchBucketPolicy', value: false } as const
    const status = await ask<GetBucketPolicyStatusCommandOutput, boolean>(
      's3:GetBucketPolicyStatus',
      (client, options) => client.getBucketPolicyStatus(input, options),
      ({ PolicyStatus: status }) => status?.IsPublic,
      absent,
    )
    if ('unknown' in status || !status.value) return status
    const isOpen = await ask<GetBucketPolicyCommandOutput, boolean>(
      's3:GetBucketPolicy',
      (client, options) => client.getBucketPolicy(input, options),
      ({ Policy: text }) => text === undefined || letsInAnybody(text),
      absent,
    )
    return 'unknown' in isOpen ? status : isOpen
  }
  const [versioning, lock, lifecycle, publicPolicy, publicAcl, publicBlock, encryption] = await Promise.all([
    ask(
      's3:GetBucketVersioning',
      (client, options) => client.getBucketVersioning(input, options),
      ({ Status: status }) => (status === 'Enabled' ? 'on' : status === 'Suspended' ? 'suspended' : 'off'),
    ),
    ask<GetObjectLockConfigurationCommandOutput, BucketLock | null>(
      's3:GetBucketObjectLockConfiguration',
      (client, options) => client.getObjectLockConfiguration(input, options),
      ({ ObjectLockConfiguration: lock }) => {
        if (lock?.ObjectLockEnabled !== 'Enabled') return undefined
        const { Mode: mode = null, Days: days = 0, Years: years = 0 } = lock.Rule?.DefaultRetention ?? {}
        return { mode, seconds: (days + years * 365) * daySeconds }
      },
      { name: 'ObjectLockConfigurationNotFoundError', value: null },
    ),
    ask<GetBucketLifecycleConfigurationCommandOutput, readonly LifecycleRule[]>(
      's3:GetLifecycleConfiguration',
      (client, options) => client.getBucketLifecycleConfiguration(input, options),
      ({ Rules: rules }) => rules?.filter(({ Status: status }) => status === 'Enabled').map(ruleOf),
      { name: 'NoSuchLifecycleConfiguration', value: [] },
    ),
    isPolicyPublic(),
    ask(
      's3:GetBucketAcl',
      (client, options) => client.getBucketAcl(input, options),
      ({ Grants: grants }) => grants?.some(({ Grantee: grantee }) => everybody.test(grantee?.URI ?? '')),
    ),
    ask(
      's3:GetBucketPublicAccessBlock',
      (client, options) => client.getPublicAccessBlock(input, options),
      ({ PublicAccessBlockConfiguration: block }) =>
        block &&
        [block.BlockPublicAcls, block.IgnorePublicAcls, block.BlockPublicPolicy, block.RestrictPublicBuckets].every(
          (one) => one === true,
        ),
      { name: 'NoSuchPublicAccessBlockConfiguration', value: false },
    ),
    ask<GetBucketEncryptionCommandOutput, string | null>(
      's3:GetEncryptionConfiguration',
      (client, options) => client.getBucketEncryption(input, options),
      ({ ServerSideEncryptionConfiguration: encryption }) =>
        encryption?.Rules?.[0]?.ApplyServerSideEncryptionByDefault?.SSEAlgorithm,
      { name: 'ServerSideEncryptionConfigurationNotFoundError', value: null },
    ),
  ])
  return {
    ...{ versioning, lock, lifecycle, publicPolicy, publicAcl, publicBlock, encryption },
    isPrivate: isPrivate(endpoint),
    clockBehindMs: await requests.clockBehindMs(),
  }
}

/** Whether a policy allows something to others than those that it names. */
function letsInAnybody(text: string): boolean {
  const { Statement: statements }: { Statement?: unknown } = JSON.parse(text) as object
  return [statements].flat().some((one: unknown) => {
    if (typeof one !== 'object' || one === null || !('Effect' in one) || one.Effect !== 'Allow') return false
    return !('Principal' in one) || JSON.stringify(one.Principal).includes('*')
  })
}

/** Servers have several ways to say that they do not know what they were asked. */
function isUnknownQuestion(error: unknown): boolean {
  const [name, status] = [nameOf(error), statusOf(error)]
  if (/^(?:NotImplemented|MethodNotAllowed|UnsupportedOperation|InvalidRequest|InvalidArgument)$/.test(name))
    return true
  return status === 405 || status === 501 || (status === 404 && name !== 'NoSuchBucket')
}

function ruleOf({
  ID: id = '',
  Prefix: old,
  Filter: filter,
  Expiration: expiration,
  Transitions: transitions = [],
  ...rest
}: StoredRule): LifecycleRule {
  const tags = filter?.And?.Tags ?? (filter?.Tag ? [filter.Tag] : [])
  const freezes = transitions.filter(({ StorageClass: name = '' }) => frozenClasses.has(name)).map(afterSeconds)
  return {
    id,
    prefix: filter?.And?.Prefix ?? filter?.Prefix ?? old ?? '',
    tags: Object.fromEntries(tags.map(({ Key: key = '', Value: value = '' }) => [key, value])),
    expiresAfterSeconds:
      expiration?.Days || expiration?.Date ? afterSeconds({ Days: expiration.Days, Date: expiration.Date }) : null,
    freezesAfterSeconds: freezes.length === 0 ? null : Math.min(...freezes),
    removesOldVersions: rest.NoncurrentVersionExpiration !== undefined,
    abortsUploads: rest.AbortIncompleteMultipartUpload !== undefined,
  }
}

/** A rule with a date does it to everything that is there on that day and after it. */
function afterSeconds({ Days: days = 0, Date: date }: Transition): number {
  return date === undefined ? days * daySeconds : 0
}

function isPrivate(endpoint: string | null): boolean {
  if (endpoint === null) return true
  const { protocol, hostname } = new URL(endpoint)
  if (protocol === 'https:') return true
  return hostname === 'localhost' || hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'))
}
