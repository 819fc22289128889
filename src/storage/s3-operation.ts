import type { S3 } from '@aws-sdk/client-s3'

/** What a failed request was to do: the name of the SDK's command, and what it was given. */
interface FailedOperation {
  readonly command: string
  readonly input: object
  /** By how much our clock was behind the server's, milliseconds; negative: it was ahead. */
  readonly clockBehindMs: number
}

const operations = new WeakMap<object, FailedOperation>()

/** Has failures of a client remember what they were failures of. */
export function noteOperations(client: S3): void {
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        try {
          return await next(args)
        } catch (error) {
          if (error instanceof Error) {
            const clockBehindMs = client.config.systemClockOffset
            operations.set(error, { command: commandName ?? '', input: args.input, clockBehindMs })
          }
          throw error
        }
      },
    { step: 'initialize', name: 'lifeboatOperation' },
  )
}

/** By how much our clock was behind that of the server which failed a request, milliseconds; 0 where that is not known. */
export function clockBehindBy(error: unknown): number {
  return (error instanceof Error && operations.get(error)?.clockBehindMs) || 0
}

/** What each request needs to be allowed; https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html */
const rights: Readonly<Record<string, string>> = {
  ListObjectsV2Command: 's3:ListBucket on the bucket',
  ListMultipartUploadsCommand: 's3:ListBucketMultipartUploads on the bucket',
  HeadObjectCommand: 's3:GetObject',
  GetObjectCommand: 's3:GetObject',
  PutObjectCommand: 's3:PutObject',
  CreateMultipartUploadCommand: 's3:PutObject',
  UploadPartCommand: 's3:PutObject',
  CompleteMultipartUploadCommand: 's3:PutObject',
  ListPartsCommand: 's3:ListMultipartUploadParts',
  AbortMultipartUploadCommand: 's3:AbortMultipartUpload',
  DeleteObjectCommand: 's3:DeleteObject',
}

/** The rights that a refused request needed, e.g. `s3:PutObject and s3:PutObjectRetention`; null where that is not known. */
export function rightsFor(error: unknown): string | null {
  const operation = error instanceof Error ? operations.get(error) : undefined
  const right = rights[operation?.command ?? '']
  if (operation === undefined || right === undefined) return null
  const asked = operation.input
  const has = (name: string): boolean => name in asked && asked[name as keyof typeof asked] !== undefined
  const all = [
    right,
    ...(has('ObjectLockMode') ? ['s3:PutObjectRetention'] : []),
    ...(has('ObjectLockLegalHoldStatus') ? ['s3:PutObjectLegalHold'] : []),
    ...(has('Tagging') ? ['s3:PutObjectTagging'] : []),
    ...(asksForKms(asked) ? ['kms:GenerateDataKey and kms:Decrypt on the key'] : []),
  ]
  return all.join(', ')
}

function asksForKms(input: object): boolean {
  return 'ServerSideEncryption' in input && input.ServerSideEncryption === 'aws:kms'
}
