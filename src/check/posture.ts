import { postureNeedsOf } from '../config/posture.ts'
import type { RepositoryConfig, ValidatedConfig } from '../config/validated.ts'
import { type BucketFacts, judgePosture, type PostureFinding, postureChecks } from '../domain/posture.ts'
import type { LockTrial } from '../storage/s3-locked.ts'
import { type Finding, looked, ok, unknown, warning } from './finding.ts'

/** What can be asked of a bucket besides its objects. */
export interface PosedBucket {
  facts(options: { readonly signal: AbortSignal }): Promise<BucketFacts>
  tryLockedDeletion(mode: 'GOVERNANCE' | 'COMPLIANCE', options: { readonly signal: AbortSignal }): Promise<LockTrial>
}

/** How the buckets are set up, and whether these keys can delete what is locked in them. */
export async function checkPosture(
  config: Pick<ValidatedConfig, 'cluster' | 'repositories'>,
  bucketOf: (repository: string) => PosedBucket | null,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const found: Finding[] = []
  for (const repository of config.repositories) {
    const { name } = repository
    const [bucket, needs] = [bucketOf(name), postureNeedsOf(config.cluster, repository)]
    if (bucket === null || needs === null) continue
    const look = async () => {
      const facts = await bucket.facts({ signal })
      return [...tell(name, judgePosture(facts, needs)), ...(await tryLock(repository, facts, bucket, signal))]
    }
    const findings = await looked('repository', look, name)
    found.push(...findings)
  }
  return found
}

function tell(name: string, findings: readonly PostureFinding[]): Finding[] {
  const good = findings.filter(({ state }) => state === 'good').map(({ check }) => postureChecks[check])
  const reasons = Map.groupBy(
    findings.filter((one) => one.state === 'unknown'),
    ({ why }) => why,
  )
  return [
    ...(good.length === 0 ? [] : [ok('repository', `${name}: ${good.join(', ')}`)]),
    ...findings.flatMap((one) =>
      one.state === 'weak' ? [warning('repository', `${name}: ${one.what}`, one.hint)] : [],
    ),
    ...[...reasons].map(([why, of]) =>
      unknown(
        'repository',
        `${name}: nobody can tell whether ${of.map(({ check }) => postureChecks[check]).join(', ')}: ${why}`,
      ),
    ),
  ]
}

const modes = { governance: 'GOVERNANCE', compliance: 'COMPLIANCE' } as const

async function tryLock(
  { name, bucket: configured }: RepositoryConfig,
  { lock }: BucketFacts,
  bucket: PosedBucket,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  if ('unknown' in lock || lock.value === null) return []
  const own = configured?.objectLock?.mode
  const mode = own === undefined ? (lock.value.mode ?? 'GOVERNANCE') : modes[own]
  const trial = await bucket.tryLockedDeletion(mode, { signal })
  switch (trial.outcome) {
    case 'held':
      return [ok('repository', `${name}: these keys cannot delete a locked object`)]
    case 'untried':
      return [
        unknown('repository', `${name}: nobody can tell whether these keys can delete a locked object: ${trial.why}`),
      ]
    case 'bypassed': {
      const hint = 'take s3:BypassGovernanceRetention from them (docs/s3-policies.md), or lock in mode COMPLIANCE'
      return [warning('repository', `${name}: these keys can delete a locked object by bypassing governance`, hint)]
    }
    case 'deleted': {
      const hint = 'the server does not keep its locks: do not count on them'
      return [warning('repository', `${name}: these keys can delete a locked object`, hint)]
    }
  }
}
