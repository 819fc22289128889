import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The policies of docs/policies. */
export const policies = ['writer', 'writer-without-expiry', 'restorer', 'observer'] as const

export type PolicyName = (typeof policies)[number]

export interface Statement {
  readonly Sid: string
  readonly Effect: 'Allow' | 'Deny'
  readonly Action: readonly string[]
  readonly Resource: string | readonly string[]
}

/** What Ceph 16 does not know, and refuses whole policies for. */
const unknownToCeph = new Set(['s3:GetEncryptionConfiguration', 's3:GetObjectAttributes'])

/** The statements of a policy of docs/policies, as they are there but for the bucket and the prefix. */
export async function statementsOf(
  name: PolicyName,
  { bucket, prefix }: { readonly bucket: string; readonly prefix: string },
): Promise<readonly Statement[]> {
  const text = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'policies', `${name}.json`), 'utf8')
  const filled = text.replaceAll('BUCKET', bucket).replaceAll('PREFIX', prefix)
  return (JSON.parse(filled) as { readonly Statement: readonly Statement[] }).Statement
}

/** A policy of a bucket of Ceph's that gives each user (by its name) what a policy of docs/policies says. */
export async function bucketPolicy(place: {
  readonly bucket: string
  readonly prefix: string
  readonly users: Readonly<Record<string, PolicyName>>
}): Promise<string> {
  const statements: object[] = []
  for (const [user, name] of Object.entries(place.users)) {
    for (const one of await statementsOf(name, place)) {
      const Action = one.Action.filter((action) => !unknownToCeph.has(action))
      statements.push({ ...one, Sid: user + one.Sid, Action, Principal: { AWS: [`arn:aws:iam:::user/${user}`] } })
    }
  }
  return JSON.stringify({ Version: '2012-10-17', Statement: statements })
}
